"""How vLLM divides a device, by version and kind of hardware.

vLLM profiles one step of ``max_num_batched_tokens`` tokens and one sampling of ``max_num_seqs``
rows of logits, takes the larger peak, and gives the cache what ``gpu_memory_utilization`` of the
device leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.commons.units import GIB, MIB
from budsim.engine_ops.memory_rule import MemoryRule, ShareOf, VersionedRules

_SWEEP: Final = (
    "llm-d-incubation/llm-d-planner pull 205, accuracy/results/v0.19.0/results_raw.csv (65 "
    "start-ups on H100, and Qwen3-14B by version): peaks are logits x 3.7 x 4 bytes from 0.17 on, "
    "x 9.6 x 4 before; 0.25 GiB outside torch alone, 2.1 with TP"
)

_SINCE_0_8: Final = MemoryRule(
    share_of=ShareOf.DEVICE,
    context_bytes=0.13 * GIB,
    group_bytes=0.42 * GIB,
    logit_bytes=38.3,
    hidden_copies=4.2,
    grouped=True,
    state_blocks=2.0,
    source="vLLM 0.8 to 0.16, sampling sorts the vocabulary in torch; "
    f"{_SWEEP}, and its docs/empirical-vllm-memory-results.md",
)

_SINCE_0_17: Final = replace(
    _SINCE_0_8,
    context_bytes=0.25 * GIB,
    group_bytes=1.85 * GIB,
    logit_bytes=14.9,
    source=f"vLLM 0.17 to 0.20, sampling by fused kernels; {_SWEEP}",
)

_SINCE_0_21: Final = replace(
    _SINCE_0_17,
    in_flight_steps=1,
    logit_bytes=4.0,
    hidden_copies=2.0,
    graph_bytes=0.41 * MIB,
    source="vLLM 0.32.0 v1/worker/gpu_worker.py (graphs come out of the fraction since 0.21) and "
    "worker/gpu/model_runner.py (the default runner samples its profile without top-k or top-p: "
    "logits as computed, and gathered); 90 kB per token of Qwen3-8B, vllm-project/vllm pull "
    "48322; graphs: mean of the sweep's estimates over layers and 51 sizes; "
    f"{_SWEEP}",
)

_SINCE_0_26: Final = replace(
    _SINCE_0_21,
    in_flight_steps=2,
    source="vLLM 0.26.0 to 0.32.0 v1/kv_cache_interface.py and VllmConfig.max_in_flight_tokens: "
    "asynchronous scheduling keeps two steps under way (with a pipeline one more than stages); "
    f"else as from 0.21 on: {_SINCE_0_21.source}",
)

GPU_RULES: Final[VersionedRules] = (
    ((0, 26), _SINCE_0_26),
    ((0, 21), _SINCE_0_21),
    ((0, 17), _SINCE_0_17),
    ((0, 8), _SINCE_0_8),
)

GAUDI_RULE: Final = MemoryRule(
    share_of=ShareOf.FREE,
    context_bytes=0.0,
    group_bytes=1.0 * GIB,
    graph_share=0.1,
    source="vLLM Gaudi plugin, docs/configuration: gpu_memory_utilization of what weights and a "
    "profiled step leave, of that VLLM_GRAPH_RESERVED_MEM 0.1 for HPU graphs; communication "
    "buffers: our estimate",
)

CPU_RULE: Final = MemoryRule(
    share_of=ShareOf.DEVICE,
    context_bytes=1.0 * GIB,
    grouped=True,
    state_blocks=2.0,
    source="vLLM 0.32.0 v1/worker/cpu_worker.py: the share of the NUMA node less what the process "
    "holds, or VLLM_CPU_KVCACHE_SPACE; 1 GiB of process: our estimate",
)

# By the name of the build, newest version first.
MEMORY_RULES: Final[Mapping[str, VersionedRules]] = {
    "vllm": GPU_RULES,
    "vllm-gaudi": (((0, 0), GAUDI_RULE),),
    "vllm-cpu": (((0, 0), CPU_RULE),),
}
