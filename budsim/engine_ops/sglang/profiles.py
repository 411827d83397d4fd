"""What the performance model needs to know of SGLang, on each kind of hardware.

Host times were fitted to measured TPOT, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from budsim.commons.units import MICRO
from budsim.engine_ops.engine_profile import (
    MXFP4_AS_FP8,
    OVERLAPPED_STEPS,
    Batching,
    EngineProfile,
    FirstToken,
    HostTierRule,
    PrefixSharing,
    StoreKind,
    StoreRule,
)
from budsim.engine_ops.sglang.defaults import LIMITS, MAX_RUNNING_REQUESTS
from budsim.engine_ops.sglang.memory import CPU_RULE, GPU_RULES
from budsim.hardware_ops.device import DeviceKind

_BASE: Final = EngineProfile(
    name="sglang",
    batching=Batching.PREFILL_FIRST,
    max_num_batched_tokens=8192,
    max_num_seqs=MAX_RUNNING_REQUESTS,
    limits=LIMITS,
    memory_fraction=0.88,
    memory=GPU_RULES[0][1],
    step_overhead_s=500 * MICRO,
    sequence_overhead_s=12.5 * MICRO,
    guess_step_s=1000 * MICRO,
    guess_sequence_s=50 * MICRO,
    block_tokens=1,
    prefix_sharing=PrefixSharing.AFTER_STEP,
    source="SGLang 0.5.23 wheel: arg_groups/memory_hook.py (defaults by memory, see defaults.py), "
    "enable_mixed_chunk off, page_size 1, running requests at least 2048; mem_fraction_static "
    "0.83-0.9 on devices of 80 GiB and more; host time: fitted to measured TPOT; of guesses: to 30 "
    "pairs of InferenceX runs with and without MTP; prefixes: Scheduler.stash_chunked_request puts "
    "what a step computed into the radix tree before the next (managers/scheduler.py)",
)

# Its kernels copy as fast as DMA does with large blocks (about 50 of an H100's 63 GB/s).
HOST_TIER: Final = HostTierRule(
    reached=0.79,
    overlaps=True,
    exceeds_device=True,
    source="SGLang docs, HiCache design: loads of layer N+1 while layer N is computed; the host "
    "pool is larger than the device's (mem_cache/memory_pool_host.py)",
)

# Its host memory takes what it reads of a store, and prompts wait for that.
STORES: Final = (
    StoreRule(
        kind=StoreKind.MOONCAKE,
        hardware=frozenset({DeviceKind.CUDA}),
        reached=0.7,
        through_host=True,
        source="SGLang docs, HiCache design and best practices (mooncake as L3); share as vLLM's: "
        "between the 0.87 and 0.48 of Mooncake's README",
    ),
    StoreRule(
        kind=StoreKind.FILE,
        hardware=frozenset({DeviceKind.CUDA, DeviceKind.ROCM}),
        reached=1.0,
        through_host=True,
        source="SGLang 0.5.23 mem_cache/hicache_storage.py (HiCacheFile); share: what the file "
        "system delivers is stated",
    ),
)

GPU: Final = replace(
    _BASE,
    host_tier=HOST_TIER,
    stores=STORES,
    first_token=FirstToken(request_s=0.002, steps=OVERLAPPED_STEPS, prompt_launch_s=0.0005),
    multiplied_in=MXFP4_AS_FP8,
)

CPU: Final = replace(
    GPU,
    host_tier=None,
    stores=(),
    max_num_seqs=256,
    limits=(),
    memory_fraction=0.8,
    step_overhead_s=1000 * MICRO,
    memory=CPU_RULE,
)

_WRITES_AWQ_OUT: Final = replace(
    GPU,
    name="sglang(awq written out)",
    writes_weights_out=True,
    source="SGLang with --quantization awq, which keeps it from Marlin (awq.py of 0.5.14: 'so "
    "forcing awq'): AWQLinearMethod.apply calls awq_dequantize before every matmul "
    "(layers/quantization/awq.py of the wheels 0.4.5 to 0.4.10); "
    f"{GPU.source}",
)

# By the names measurements spell, the usual one first.
PROFILES: Final = (
    GPU,
    _WRITES_AWQ_OUT,
    replace(_BASE, name="dynamo-sglang", source=f"NVIDIA Dynamo over SGLang workers; {GPU.source}"),
    replace(
        _BASE,
        name="mori-sglang",
        source=f"SGLang on MI300-class with MORI transport; {GPU.source}",
    ),
)

PROFILES_BY_KIND: Final[Mapping[DeviceKind, EngineProfile]] = MappingProxyType(
    {DeviceKind.CPU: CPU}
)
