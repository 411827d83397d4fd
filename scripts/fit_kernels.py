"""Prints kernel constants as NVIDIA's published kernel timings have them, by device and engine.

They are in `budsim.performance.physics.kernel_constants`.

The timings are the parquet tables in PyPI's `aiconfigurator-core` (Apache-2.0); nothing else in the
package is read. In an environment with pandas, pyarrow, PyYAML and scipy: ``pip download --no-deps
aiconfigurator-core``, then ``python scripts/fit_kernels.py aiconfigurator_core-*.whl``.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import yaml
from scipy.optimize import least_squares

TABLES = {
    "gemm": "gemm_perf",
    "moe": "moe_perf",
    "context_attention": "context_attention_perf",
    "generation_attention": "generation_attention_perf",
    "all_reduce": "custom_allreduce_perf",
}
BYTES = {
    "bfloat16": 2,
    "fp8": 1,
    "fp8_block": 1,
    "nvfp4": 0.5625,
    "w4a16_mxfp4": 0.53,
    "w4a8_mxfp4_mxfp8": 0.53,
    "int4_wo": 0.53,
}
PEAK = {"fp8": "fp8", "fp8_block": "fp8", "w4a8_mxfp4_mxfp8": "fp8", "nvfp4": "fp4"}
Model = Callable[[np.ndarray], np.ndarray]


def main(wheel: str) -> None:
    """Fit every table in the wheel and print a line for each."""
    with zipfile.ZipFile(wheel) as archive:
        for device, engine, operation, table in tables(archive):
            data_sheet = yaml.safe_load(archive.read(f"aiconfigurator_core/systems/{device}.yaml"))
            for name, names, start, model, seconds in problems(operation, table, data_sheet):
                fitted, error = fit(model, seconds, start)
                values = "  ".join(f"{n} {v:.3g}" for n, v in zip(names, fitted, strict=True))
                print(
                    f"{device:20} {engine:8} {operation:20} {name:18} {len(seconds):6} rows, "
                    f"median error {error:4.0%}: {values}"
                )


def tables(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Yield device, engine, operation and timings of the newest version of each kernel table."""
    pattern = re.compile(
        r"aiconfigurator_core/systems/data/([^/]+)/[^/]+/(vllm|sglang|trtllm)"
        r"/([^/]+)/([^/]+)\.parquet"
    )
    newest: dict[tuple[str, str, str], tuple[list[int], str]] = {}
    operations = {file: operation for operation, file in TABLES.items()}
    for path in archive.namelist():
        match = pattern.fullmatch(path)
        if match and match[4] in operations:
            version = [int(part) for part in re.findall(r"\d+", match[3])]
            key = (match[1], match[2], operations[match[4]])
            newest[key] = max(newest.get(key, ([], "")), (version, path))
    for (device, engine, operation), (_, path) in sorted(newest.items()):
        table = pd.read_parquet(io.BytesIO(archive.read(path)))
        yield device, engine, operation, table[table.latency > 0]


def problems(
    operation: str, table: pd.DataFrame, sheet: dict
) -> Iterator[tuple[str, tuple[str, ...], list[float], Model, np.ndarray]]:
    """Yield name, parameters, start, model and measured seconds of each format in a table."""
    if operation == "all_reduce":
        yield from all_reduces(table, sheet["node"])
        return
    column = {"gemm": "gemm_dtype", "moe": "moe_dtype"}.get(operation, "kv_cache_dtype")
    if "window_size" in table:
        table = table[table.window_size == 0]
    if operation == "moe":
        table = table[
            (table.distribution == "power_law_1.01") & (table.moe_tp_size * table.moe_ep_size <= 8)
        ]
    for name, rows in table.groupby(column):
        peak = sheet["gpu"].get(
            f"{PEAK.get(name, 'bfloat16')}_tc_flops"
            if column != "kv_cache_dtype"
            else "bfloat16_tc_flops"
        )
        if name in BYTES and peak and len(rows) > 100:
            yield (
                str(name),
                *{"gemm": gemm, "moe": moe}.get(operation, attention)(
                    rows, BYTES[name], peak, sheet["gpu"]["mem_bw"]
                ),
            )


def gemm(rows: pd.DataFrame, width: float, peak: float, bandwidth: float) -> tuple:
    """Return a product: p-norm of arithmetic and traffic, and a launch."""
    m, n, k = (rows[c].to_numpy(float) for c in "mnk")
    compute, traffic = 2 * m * n * k / peak, (n * k * width + 2 * m * (n + k)) / bandwidth
    names = ("gemm", "bandwidth", "gemm_latency_s", "blend")

    def model(p: np.ndarray) -> np.ndarray:
        return ((compute / p[0]) ** p[3] + (traffic / p[1]) ** p[3]) ** (1 / p[3]) + p[2]

    return names, [0.7, 0.8, 5e-6, 2.0], model, rows.latency.to_numpy() * 1e-3


def moe(rows: pd.DataFrame, width: float, peak: float, bandwidth: float) -> tuple:
    """Return a layer's experts.

    Those touched are read, routed tokens are moved and multiplied, and launches take their time.
    """
    columns = "num_tokens hidden_size inter_size topk num_experts moe_tp_size moe_ep_size".split()
    tokens, hidden, inner, chosen, experts, tp, ep = (rows[c].to_numpy(float) for c in columns)
    routed, inner = tokens * chosen / ep, inner / tp
    touched = experts * (1 - (1 - chosen / experts) ** tokens) / ep
    compute, traffic = (
        routed * 6 * hidden * inner / peak,
        touched * 3 * hidden * inner * width / bandwidth,
    )
    names = ("expert_gemm", "expert_bandwidth", "moe_latency_s", "expert_traffic")

    def model(p: np.ndarray) -> np.ndarray:
        return np.hypot(compute / p[0], traffic / p[1]) + routed * hidden * p[3] / bandwidth + p[2]

    return names, [0.3, 0.8, 3e-5, 8.0], model, rows.latency.to_numpy() * 1e-3


def attention(rows: pd.DataFrame, width: float, peak: float, bandwidth: float) -> tuple:
    """Return attention of whole prompts, or of one token over a cache of ``step``.

    Prompts take as long as if they looked back at ``prefill_half_context`` tokens more.
    """
    batch, heads, size = (rows[c].to_numpy(float) for c in ("batch_size", "num_heads", "head_dim"))
    shared = rows.num_key_value_heads.to_numpy(float)
    length, step = rows.isl.to_numpy(float), rows.step.to_numpy(float)
    prompts = length.max() > 1
    one = 4 * batch * heads * size * length / peak
    seen = length / 2 if prompts else step + 1
    cached = 2 * batch * size * shared * (step + 1) * width
    seconds = rows.latency.to_numpy() * 1e-3
    if prompts:
        names = ("prefill_attention", "latency_s", "prefill_half_context")
        return names, [0.4, 1e-5, 200.0], lambda p: one * (seen + p[2]) / p[0] + p[1], seconds
    names = ("decode_attention", "cache_bandwidth", "latency_s")

    def model(p: np.ndarray) -> np.ndarray:
        return np.hypot(one * seen / p[0], cached / bandwidth / p[1]) + p[2]

    return names, [0.4, 0.7, 1e-5], model, seconds


def all_reduces(table: pd.DataFrame, node: dict) -> Iterator[tuple]:
    """Yield rings: a latency, and twice the message less a rank's own share over the link."""
    for name, rows in table.groupby("kernel_source"):
        ranks, message = rows.num_gpus.to_numpy(float), rows.message_size.to_numpy(float) * 2
        ring = 2 * (ranks - 1) / ranks * message / node["intra_node_bw"]

        def model(p: np.ndarray, ring: np.ndarray = ring) -> np.ndarray:
            return p[0] + ring / p[1]

        yield (
            str(name)[:18],
            ("reduce_latency_s", "link"),
            [5e-6, 0.6],
            model,
            rows.latency.to_numpy() * 1e-3,
        )


def fit(model: Model, seconds: np.ndarray, start: list[float]) -> tuple[np.ndarray, float]:
    """Return the parameters nearest to the timings in the log, and the median error they leave."""
    found = least_squares(
        lambda p: np.log(model(np.exp(p)) / seconds), np.log(start), loss="soft_l1", f_scale=0.1
    )
    return np.exp(found.x), float(np.median(np.abs(np.log(model(np.exp(found.x)) / seconds))))


if __name__ == "__main__":
    main(sys.argv[1])
