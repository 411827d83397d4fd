"""AMD's ATOM."""

from __future__ import annotations

from typing import Final

from budsim.commons.units import MICRO
from budsim.engine_ops.engine_profile import Batching, EngineProfile
from budsim.engine_ops.vllm.memory import GPU_RULES

PROFILES: Final = (
    EngineProfile(
        name="atom",
        batching=Batching.PREFILL_FIRST,
        max_num_batched_tokens=16384,
        max_num_seqs=512,
        memory_fraction=0.9,
        memory=GPU_RULES[0][1],
        step_overhead_s=600 * MICRO,
        block_tokens=16,
        source="ROCm ATOM configuration and scheduling guides: prefill-first scheduler, 16384 "
        "tokens, 512 sequences, utilization 0.9, block 16; memory as vLLM; step overhead: our "
        "estimate of host time per step, regressors correct it",
    ),
)
