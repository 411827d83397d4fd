"""DeepSpeed-MII."""

from __future__ import annotations

from typing import Final

from budsim.commons.units import MICRO
from budsim.engine_ops.engine_profile import Batching, EngineProfile
from budsim.engine_ops.memory_rule import CACHE_GROWS

PROFILES: Final = (
    EngineProfile(
        name="deepspeed-mii",
        batching=Batching.MIXED,
        max_num_batched_tokens=768,
        max_num_seqs=512,
        memory_fraction=0.9,
        memory=CACHE_GROWS,
        step_overhead_s=6200 * MICRO,
        sequence_overhead_s=125 * MICRO,
        block_tokens=128,
        source="DeepSpeed inference v2 DSStateManagerConfig: max_ragged_batch_size 768, "
        "max_ragged_sequence_count 512; Dynamic SplitFuse; block 128; host time: fitted to "
        "measured TPOT",
    ),
)
