"""llama.cpp's server, on GPUs and on processors."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budsim.commons.units import MICRO
from budsim.engine_ops.engine_profile import AttendedTokens, Batching, EngineProfile
from budsim.engine_ops.memory_rule import CACHE_GROWS
from budsim.hardware_ops.device import DeviceKind

GPU: Final = EngineProfile(
    name="llama.cpp",
    batching=Batching.MIXED,
    max_num_batched_tokens=2048,
    max_num_seqs=256,
    memory_fraction=1.0,
    memory=CACHE_GROWS,
    step_overhead_s=200 * MICRO,
    block_tokens=1,
    source="llama.cpp common/common.h: n_batch 2048, n_ubatch 512; server slots decode and "
    "prefill in one batch; 256 = LLAMA_MAX_SEQ; step overhead: our estimate of host time per "
    "step, regressors correct it",
)

CPU: Final = replace(
    GPU,
    name="llama.cpp-cpu",
    max_num_batched_tokens=512,
    attended=AttendedTokens.STEP,
    source="steps are of n_ubatch tokens; without flash attention masked positions are multiplied "
    f"too; {GPU.source}",
)

PROFILES: Final = (
    GPU,
    CPU,
    replace(
        CPU,
        name="llama.cpp-cpu(one cache)",
        attended=AttendedTokens.CACHE,
        source=f"before pull request 14363 (July 2025) all sequences share one cache; {CPU.source}",
    ),
)

PROFILES_BY_KIND: Final = {("llama.cpp", DeviceKind.CPU): CPU}
