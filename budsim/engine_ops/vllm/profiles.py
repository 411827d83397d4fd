"""What the performance model needs to know of vLLM: on each kind of hardware, and in its past.

Host times were fitted to measured TPOT of these versions, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from budsim.commons.units import GIB, MICRO
from budsim.engine_ops.engine_profile import (
    MXFP4_AS_FP8,
    USUAL_STEPS,
    Batching,
    DefaultLimits,
    EngineProfile,
    FirstToken,
    HostTierRule,
    PrefixSharing,
    StoreKind,
    StoreRule,
)
from budsim.engine_ops.vllm.memory import CPU_RULE, GAUDI_RULE, GPU_RULES
from budsim.hardware_ops.device import DeviceKind

_ESTIMATED: Final = "step overhead: our estimate of host time per step, regressors correct it"
_FITTED: Final = "host time: fitted to measured TPOT"

_LIMITS: Final = (
    DefaultLimits(
        since=(0, 28),
        from_bytes=160.0 * GIB,
        max_num_batched_tokens=16384,
        max_num_seqs=1024,
    ),
    DefaultLimits(below_bytes=70.0 * GIB, max_num_batched_tokens=2048, max_num_seqs=256),
    # vLLM looks for "a100" in the device's name: an A800 of 80 GB has the large limits.
    DefaultLimits(name_part="A100", max_num_batched_tokens=2048, max_num_seqs=256),
)

_BASE: Final = EngineProfile(
    name="vllm",
    batching=Batching.MIXED,
    max_num_batched_tokens=8192,
    max_num_seqs=1024,
    memory_fraction=0.92,
    memory=GPU_RULES[0][1],
    step_overhead_s=600 * MICRO,
    sequence_overhead_s=18 * MICRO,
    guess_step_s=1200 * MICRO,
    block_tokens=16,
    prefix_sharing=PrefixSharing.AS_SCHEDULED,
    limits=_LIMITS,
    source="vLLM 0.32.0 serve parser (gpu_memory_utilization 0.92) and "
    "EngineArgs.get_batch_defaults: API server on GPUs of 70 GiB and more but A100: 8192 tokens, "
    "1024 sequences; others 2048 and 256; from 160 GiB on 16384 and 1024 since 0.28 (read in the "
    "wheels of 0.21 to 0.32); host time of guesses: SpecDecode-Bench/simulator@2fdccbd, "
    f"Llama-3.1-8B on H100, 1.2 ms a step; {_FITTED}; prefixes: KVCacheManager.allocate_slots "
    "caches the blocks it schedules (v1/core/kv_cache_manager.py)",
)

# Copies by DMA: about 50 GB/s in one direction on an H100, whose link has 63.
HOST_TIER: Final = HostTierRule(
    reached=0.79,
    overlaps=False,
    exceeds_device=False,
    source="vLLM blog, 2026-01-08, Inside vLLM's New Offloading Connector (figures 3 and 4)",
)

# Clients of both stores are published for CUDA alone (wheels of mooncake-transfer-engine, lmcache).
STORES: Final = (
    StoreRule(
        kind=StoreKind.MOONCAKE,
        hardware=frozenset({DeviceKind.CUDA}),
        reached=0.7,
        through_host=False,
        source="vLLM docs, MooncakeStoreConnector usage guide: reads into the GPU by RDMA; share: "
        "Mooncake's README states 87 GB/s of 4 x 200 Gbit/s (0.87) and 190 of 8 x 400 (0.48); "
        "chosen between both by us",
    ),
    StoreRule(
        kind=StoreKind.LMCACHE,
        hardware=frozenset({DeviceKind.CUDA}),
        reached=0.83,
        through_host=False,
        source="vLLM examples, disaggregated/lmcache (LMCacheConnectorV1); share: Valkey blog, "
        "2026-09-03: 9.4 GB/s at the peak of 3 servers with 30 Gbit/s each",
    ),
    StoreRule(
        kind=StoreKind.FILE,
        hardware=frozenset({DeviceKind.CUDA, DeviceKind.ROCM}),
        reached=1.0,
        through_host=True,
        makes_room=False,
        source="vLLM 0.32 v1/kv_offload/tiering (spec.py: secondary tiers pass through the CPU's; "
        "fs/manager.py); share: what the file system delivers is stated",
    ),
)

GPU: Final = replace(
    _BASE,
    host_tier=HOST_TIER,
    stores=STORES,
    first_token=FirstToken(request_s=0.003, steps=USUAL_STEPS, prompt_launch_s=0.00027),
    multiplied_in=MXFP4_AS_FP8,
)

# Seconds to parse a chat template: 6 to 8 for 1,000 requests with that of a Llama model (pull
# request 20065). Those of Qwen3, GLM and DeepSeek-R1 are as long; GPUStack's runs waited 5 to 12.
TEMPLATE_S: Final = 0.008

_SYNCHRONOUS: Final = replace(
    GPU,
    name="vllm(synchronous)",
    sequence_overhead_s=36 * MICRO,
    source="vLLM before 0.14, which schedules a step only after the last one's results, without "
    "--async-scheduling: by GPUStack's pairs of runs with and without that flag, 4.4 and 5.1 ms a "
    f"step of 256 sequences on A100, 6 ms of 450 on H100; {GPU.source}",
)

_READS_TEMPLATES: Final = replace(
    _SYNCHRONOUS,
    name="vllm(chat templates)",
    first_token=FirstToken(
        request_s=0.003 + TEMPLATE_S,
        burst_s=TEMPLATE_S,
        steps=USUAL_STEPS,
        prompt_launch_s=0.00027,
    ),
    source="vLLM 0.11.0 parses a model's chat template anew for every request "
    "(resolve_chat_template_kwargs of its entrypoints/chat_utils.py), and all of a burst before "
    f"the first is tokenized; {_SYNCHRONOUS.source}",
)

CPU: Final = replace(
    _BASE,
    limits=(),
    name="vllm-cpu",
    max_num_batched_tokens=2048,
    max_num_seqs=128,
    memory=CPU_RULE,
    cache_is_stated=True,
    step_overhead_s=1000 * MICRO,
    sequence_overhead_s=0.0,
    block_tokens=128,
    source="vLLM 0.32.0 on CPU: EngineArgs.get_batch_defaults 2048 tokens and 128 sequences times "
    f"world size, block size 128 (run by us); {_ESTIMATED}",
)

GAUDI: Final = replace(
    GPU,
    host_tier=None,
    stores=(),
    limits=(),
    max_num_seqs=256,
    memory_fraction=0.9,
    memory=GAUDI_RULE,
    step_overhead_s=2000 * MICRO,
    block_tokens=128,
    source="vLLM Gaudi plugin documentation: block size 128, HPU graphs from the memory vLLM "
    f"leaves (VLLM_GRAPH_RESERVED_MEM 0.1); {_ESTIMATED}",
)

_2024: Final = replace(
    _BASE,
    name="vllm(2024)",
    step_overhead_s=2400 * MICRO,
    sequence_overhead_s=70 * MICRO,
    source="vLLM before its V1 engine: its scheduler and sampler kept the GPU waiting; "
    f"{_FITTED}; {GPU.source}",
)

_2023: Final = replace(
    _BASE,
    name="vllm(2023)",
    step_overhead_s=17000 * MICRO,
    sequence_overhead_s=270 * MICRO,
    source=f"vLLM before CUDA graphs: the host launched every kernel; {_FITTED}; {GPU.source}",
)

# By the names measurements spell, the usual one first.
PROFILES: Final = (
    GPU,
    CPU,
    _SYNCHRONOUS,
    _READS_TEMPLATES,
    replace(
        GAUDI,
        name="vllm-fork",
        first_token=None,
        multiplied_in=(),
        source=f"Gaudi fork of vLLM; {GAUDI.source}",
    ),
    _2024,
    _2023,
    replace(
        _2024,
        name="vllm(rocm 2024)",
        source=f"vLLM on ROCm without kernels of its own there; {_2024.source}",
    ),
    replace(_BASE, name="llm-d(vllm)", source=f"llm-d routes to vLLM; {GPU.source}"),
    replace(_BASE, name="llmboost(vllm)", source=f"MangoBoost LLMBoost runs vLLM; {GPU.source}"),
)

PROFILES_BY_KIND: Final[Mapping[DeviceKind, EngineProfile]] = MappingProxyType(
    {DeviceKind.CPU: CPU, DeviceKind.HPU: GAUDI}
)
