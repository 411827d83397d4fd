"""Results of llama.cpp's ``llama-bench`` and ``llama-batched-bench`` as rows.

Read in llama.cpp ``tools/llama-bench/llama-bench.cpp`` (``-o json``, ``jsonl`` or ``md``) and
``tools/batched-bench/batched-bench.cpp`` (``--output-format jsonl`` or ``md``). llama-bench times a
lone prompt (``pp512``: its time is the TTFT) and a lone generation (``tg128``: one token's time is
the TPOT), after ``n_depth`` tokens in the cache. The batched one starts a whole batch at once:
``t_pp`` (s) is the prompt time of all, ``t_tg`` their decode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.result_fields import Record, Row, number, positive

# GGUF formats as ``model_type`` ends with, and our names of them.
FORMATS = {
    "Q8_0": "q8_0",
    "Q4_K - Medium": "q4_k_m",
    "Q4_K_M": "q4_k_m",
    "F16": "fp16",
    "BF16": "bf16",
    "all F32": "fp32",
}

# Columns of the batched benchmark's table, in its order.
BATCHED = ("pp", "tg", "pl", "n_kv", "t_pp", "speed_pp", "t_tg", "speed_tg", "t", "speed")
_BATCHED_TITLE = "| PP | TG | B | N_KV | T_PP s |"
_SINGLE_TITLE = re.compile(r"^\| *model .*\| *test *\| *t/s *\|")
_TEST = re.compile(r"^(?:pp(?P<pp>\d+))?\+?(?:tg(?P<tg>\d+))?(?: *@ *d(?P<depth>\d+))?$")


def is_single(record: Record) -> bool:
    """Return whether a JSON object is a test of llama-bench."""
    return "avg_ts" in record and "n_gen" in record


def is_batched(record: Record) -> bool:
    """Return whether a JSON object is a batch of llama-batched-bench."""
    return "t_tg" in record and "pl" in record


def single_row(record: Record) -> Row:
    """Return the row of one test of llama-bench.

    Raises
    ------
    InvalidInput
        When the test both read a prompt and generated, or a number is missing.
    """
    prompt, generated = number(record, "n_prompt") or 0.0, number(record, "n_gen") or 0.0
    if bool(prompt) == bool(generated):
        raise InvalidInput(
            "test", "reads a prompt and generates at once", "separate tests (-p and -n, not -pg)"
        )
    depth, speed = number(record, "n_depth") or 0.0, positive(record, "avg_ts")
    row = _named(record, "llama-bench") | {"concurrency": 1, "mode": "serving"}
    if prompt:
        return row | {
            "input_tokens": prompt + depth,
            "output_tokens": 1,
            "prefix_hit_share": depth / (prompt + depth) if depth else None,
            "ttft_ms_mean": prompt / speed * 1e3,
        }
    return row | {
        "input_tokens": max(depth, 1.0),
        "output_tokens": generated,
        "tpot_ms_mean": 1e3 / speed,
    }


def batched_row(record: Record) -> Row:
    """Return the row of one batch of llama-batched-bench.

    Raises
    ------
    InvalidInput
        When all sequences shared one prompt, or a number is missing.
    """
    if record.get("is_pp_shared") in (True, 1):
        raise InvalidInput("is_pp_shared", "all sequences share one prompt", "a run without -pps")
    batch, output = positive(record, "pl"), positive(record, "tg")
    return _named(record, "llama-batched-bench") | {
        "concurrency": batch,
        "mode": "static_batch",
        "input_tokens": positive(record, "pp"),
        "output_tokens": output,
        "ttft_ms_mean": positive(record, "t_pp") * 1e3,
        "tpot_ms_mean": positive(record, "t_tg") / output * 1e3,
        "e2e_latency_ms": positive(record, "t") * 1e3,
        "output_tokens_per_s_total": batch * output / positive(record, "t"),
    }


def tables_in(text: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of Markdown tables of either program in the form of its JSON."""
    titles: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            titles = []
        elif found := _titles(line):
            titles = found
        elif titles and not set(line) <= set("|-: "):
            values = dict(zip(titles, _cells(line), strict=False))
            yield values if titles == list(BATCHED) else _single_of_table(values)


def _titles(line: str) -> list[str]:
    """Return the titles that a line of a table holds; none where it is no line of titles."""
    if re.sub(r" +", " ", line).startswith(_BATCHED_TITLE):
        return list(BATCHED)
    return _cells(line) if _SINGLE_TITLE.match(line) else []


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _single_of_table(cells: Mapping[str, str]) -> dict[str, Any]:
    found = _TEST.match(cells.get("test", ""))
    if not found:
        raise InvalidInput("test", f"{cells.get('test')!r} is no test", "such as pp512 or tg128")
    return {
        "model_type": cells.get("model"),
        "n_threads": cells.get("threads"),
        "backends": cells.get("backend"),
        "n_prompt": found["pp"] or 0,
        "n_gen": found["tg"] or 0,
        "n_depth": found["depth"] or 0,
        "avg_ts": cells["t/s"].split("±")[0].strip(),
    }


def _named(record: Record, program: str) -> Row:
    """Return what the program says of model, device and build."""
    stated = str(record.get("model_type") or "")
    formats = (ours for name, ours in FORMATS.items() if stated.endswith(name))
    devices = [name.strip() for name in _device(record).split(",") if name.strip()]
    threads = record.get("n_threads")
    notes = [f"imported from {program}", *([stated] if stated else [])]
    if threads and "CPU" in str(record.get("backends")):
        notes.append(f"threads per process={threads}")
    return {
        "source": program,
        "engine": "llama.cpp",
        "engine_version": _build(record),
        "device_name": devices[0] if devices else None,
        "n_devices": max(len(devices), 1),
        "tp": 1,
        "pp": max(len(devices), 1),
        "precision": next(formats, None),
        "date": str(record.get("test_time") or "")[:10] or None,
        "notes": "; ".join(notes),
    }


def _device(record: Record) -> str:
    """Return the processors that computed: the GPUs, unless no layer was on one."""
    no_layers = str(record.get("n_gpu_layers")) == "0"
    gpus = "" if no_layers else str(record.get("gpu_info") or "")
    return gpus or str(record.get("cpu_info") or "").replace(",", " ")


def _build(record: Record) -> str | None:
    commit, build = record.get("build_commit"), record.get("build_number")
    return f"{commit}_b{build}" if commit and build else None
