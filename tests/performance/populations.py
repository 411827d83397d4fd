"""Small populations of candidates for tests.

One row per keyword combination, everything else ordinary.
"""

from __future__ import annotations

import numpy as np

from budsim.commons.precision import Precision
from budsim.engine_ops.profiles import profiles
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import Device
from budsim.model_ops.registry import resolve_model
from budsim.performance.candidates import Candidates

LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
TREES = 60
"""Of a regressor trained on it."""
TRUE_FACTOR = 1.5
"""The invented machine room is slower than physics by this factor: what training has to find out.
"""
MODELS = (
    LLAMA_70B,
    "meta-llama/Llama-3.1-8B-Instruct",
    "deepseek-ai/DeepSeek-R1",
    "openai/gpt-oss-120b",
    "Qwen/Qwen3-235B-A22B",
)
DEVICES = ("H100-SXM", "H200-SXM", "B200-SXM", "MI300X", "Gaudi3", "L40S")


def population(
    *,
    model: str = LLAMA_70B,
    device: str | Device = "H100-SXM",
    engine: str = "vllm",
    precision: Precision = Precision.BF16,
    kv_precision: Precision = Precision.BF16,
    **columns: object,
) -> Candidates:
    """Return candidates of one model on one device.

    Each keyword is a number or a list of as many numbers as there are rows.
    """
    rows = max((len(values) for values in columns.values() if isinstance(values, list)), default=1)
    chosen = devices()[device] if isinstance(device, str) else device

    def whole(name: str, default: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.broadcast_to(np.asarray(columns.get(name, default), dtype=np.int64), rows).copy()

    def real(name: str, default: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.broadcast_to(
            np.asarray(columns.get(name, default), dtype=np.float64), rows
        ).copy()

    def flag(name: str, default: bool) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.broadcast_to(np.asarray(columns.get(name, default), dtype=bool), rows).copy()

    zeros = np.zeros(rows, dtype=np.int64)
    return Candidates(
        architectures=(resolve_model(model),),
        devices=(chosen,),
        engines=(profiles()[engine],),
        precisions=(precision, kv_precision),
        architecture=zeros,
        device=zeros,
        engine=zeros,
        weight_precision=zeros,
        kv_precision=zeros + 1,
        tp=whole("tp", 8),
        pp=whole("pp", 1),
        ep=whole("ep", 1),
        dp=whole("dp", 1),
        input_tokens=real("input_tokens", 1024),
        output_tokens=real("output_tokens", 256),
        concurrency=real("concurrency", 16),
        prefix_hit_share=real("prefix_hit_share", 0.0),
        token_budget=real("token_budget", 8192),
        max_num_seqs=real("max_num_seqs", 256),
        memory_fraction=real("memory_fraction", 0.9),
        chunked_prefill=flag("chunked_prefill", True),
        cores=real("cores", 0.0),
        compute_share=real("compute_share", 1.0),
        memory_free_bytes=real("memory_free_bytes", chosen.memory_bytes),
        admission_steps=real("admission_steps", 0.0),
        stack_year=real("stack_year", np.nan),
        engine_year=real("engine_year", np.nan),
        cold_start=np.zeros(rows, dtype=bool),
        static_batch=flag("static_batch", False),
        speculative=flag("speculative", False),
        eager=flag("eager", False) if "eager" in columns else None,
    )
