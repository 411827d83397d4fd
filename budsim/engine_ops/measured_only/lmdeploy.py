"""LMDeploy with its TurboMind engine."""

from __future__ import annotations

from typing import Final

from budsim.commons.units import MICRO
from budsim.engine_ops.engine_profile import Batching, EngineProfile
from budsim.engine_ops.measured_only.tensorrt_llm import MEMORY_RULES

PROFILES: Final = (
    EngineProfile(
        name="lmdeploy",
        batching=Batching.MIXED,
        max_num_batched_tokens=8192,
        max_num_seqs=128,
        memory_fraction=0.8,
        memory=MEMORY_RULES[0][1],
        step_overhead_s=500 * MICRO,
        block_tokens=64,
        source="LMDeploy TurbomindEngineConfig: max_prefill_token_num 8192, max_batch_size 128, "
        "cache_max_entry_count 0.8 of what weights leave, cache_block_seq_len 64; memory as "
        "TensorRT-LLM; step overhead: our estimate of host time per step, regressors correct it",
    ),
)
