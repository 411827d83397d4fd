"""Text Generation Inference, IBM's fork of it (TGIS) and the one for Gaudi."""

from __future__ import annotations

from typing import Final

from budsim.commons.units import MICRO
from budsim.engine_ops.engine_profile import (
    USUAL_STEPS,
    Batching,
    EngineProfile,
    FirstToken,
)
from budsim.engine_ops.measured_only.static_batches import WITH_GRAPHS
from budsim.engine_ops.memory_rule import CACHE_GROWS

_ESTIMATED: Final = "step overhead: our estimate of host time per step, regressors correct it"

PROFILES: Final = (
    EngineProfile(
        name="tgi",
        batching=Batching.PREFILL_FIRST,
        max_num_batched_tokens=4096,
        max_num_seqs=128,
        memory_fraction=0.9,
        memory=CACHE_GROWS,
        step_overhead_s=2000 * MICRO,
        block_tokens=1,
        source="Text Generation Inference: a new batch's prefill pauses decoding; "
        "launcher defaults max-batch-prefill-tokens 4096 and max-concurrent-requests 128; "
        f"{_ESTIMATED}",
    ),
    EngineProfile(
        name="tgis",
        batching=Batching.PREFILL_FIRST,
        max_num_batched_tokens=8192,
        max_num_seqs=256,
        memory_fraction=0.9,
        memory=CACHE_GROWS,
        step_overhead_s=1000 * MICRO,
        sequence_overhead_s=1000 * MICRO,
        block_tokens=1,
        captures_graphs=False,
        max_waiting_tokens=24.0,
        first_token=FirstToken(request_s=0.02, steps=USUAL_STEPS, prompt_launch_s=0.0004),
        source="IBM fork of Text Generation Inference, 2023: a new batch's prefill pauses "
        "decoding, when enough requests wait (router/src/batcher.rs, max_waiting_tokens 24), and "
        "the host launches every kernel (0.4 ms a layer) and chooses the token of each sequence "
        "(1 ms), fitted on LLM Pilot, the only party that measured it; bounds are estimates for "
        "the LLM Pilot runs, which record none; "
        f"{_ESTIMATED}",
    ),
    EngineProfile(
        name="tgi-gaudi",
        batching=Batching.PREFILL_FIRST,
        max_num_batched_tokens=8192,
        max_num_seqs=256,
        memory_fraction=0.9,
        memory=WITH_GRAPHS,
        step_overhead_s=2000 * MICRO,
        block_tokens=1,
        source="Text Generation Inference for Gaudi: prefill pauses decoding; bounds are "
        f"estimates; {_ESTIMATED}",
    ),
)
