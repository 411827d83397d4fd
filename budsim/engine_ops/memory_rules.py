"""How each engine divides a device between weights, activations, graphs and the KV cache, by version, with where it was read.

vLLM profiles one step of ``max_num_batched_tokens`` tokens and one sampling of ``max_num_seqs`` rows of logits, takes the larger
peak, and gives the cache what ``gpu_memory_utilization`` of the device leaves. SGLang takes ``mem_fraction_static`` for weights
and cache and leaves the rest to activations and graphs. TensorRT-LLM and Gaudi's plugin take a share of what is free once the
weights are loaded and a step has run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from budsim.commons.errors import NotFound
from budsim.commons.units import GIB, MIB


class ShareOf(StrEnum):
    """What an engine's memory fraction is a share of."""

    DEVICE = "device"
    STATIC = "static"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRule:
    """What one rank of an engine needs beside weights and cache, and how the cache is pooled.

    Attributes
    ----------
    share_of : ShareOf
        The whole device (weights, activations, reserve, cache), weights and cache alone, or what weights and activations leave.
    context_bytes, group_bytes : float
        Memory outside the allocator of a rank by itself, and what a tensor-parallel group adds to it.
    logit_bytes : float
        Bytes alive per logit at the peak of sampling; rows are ``max_num_seqs``, columns the vocabulary.
    hidden_copies : float
        16-bit values alive per token and hidden dimension at the peak of a step, beside the widest layer.
    graph_bytes : float
        CUDA graphs that come out of the fraction, per layer and captured batch size; 0 where they are not counted.
    graph_share : float
        Share of the cache's memory given to graphs instead (Gaudi).
    grouped : bool
        Whether layers of different attention share one pool in groups of equal size, the last one of each padded.
    window_share : float
        Least share of a sequence's tokens that layers with a window hold, where they have a pool of their own.
    state_blocks : float
        Recurrent states kept per running sequence.
    state_pool : float
        Memory for recurrent states in shares of that for keys and values, where it is set aside at start; 0 where it is not.
    state_bytes : float
        Least bytes of one value of recurrent state.
    source : str
        Where this was read, with the version.
    """

    share_of: ShareOf
    context_bytes: float
    source: str
    group_bytes: float = 0.0
    logit_bytes: float = 2.0
    hidden_copies: float = 2.0
    graph_bytes: float = 0.0
    graph_share: float = 0.0
    grouped: bool = False
    window_share: float = 0.0
    state_blocks: float = 1.0
    state_pool: float = 0.0
    state_bytes: float = 2.0


_SWEEP: Final = (
    "llm-d-incubation/llm-d-planner pull 205, accuracy/results/v0.19.0/results_raw.csv (65 start-ups on H100, and Qwen3-14B by "
    "version): peaks are logits x 3.7 x 4 bytes from 0.17 on, x 9.6 x 4 before; 0.25 GiB outside torch alone, 2.1 with TP"
)

_VLLM_SORTED: Final = MemoryRule(
    share_of=ShareOf.DEVICE,
    context_bytes=0.13 * GIB,
    group_bytes=0.42 * GIB,
    logit_bytes=38.3,
    hidden_copies=4.2,
    grouped=True,
    state_blocks=2.0,
    source=f"vLLM 0.8 to 0.16, sampling sorts the vocabulary in torch; {_SWEEP}, and its docs/empirical-vllm-memory-results.md",
)

_VLLM_FUSED: Final = replace(
    _VLLM_SORTED,
    context_bytes=0.25 * GIB,
    group_bytes=1.85 * GIB,
    logit_bytes=14.9,
    source=f"vLLM 0.17 to 0.20, sampling by fused kernels; {_SWEEP}",
)

_VLLM: Final = replace(
    _VLLM_FUSED,
    logit_bytes=4.0,
    hidden_copies=2.0,
    graph_bytes=0.41 * MIB,
    source="vLLM 0.32.0 v1/worker/gpu_worker.py (graphs come out of the fraction since 0.21) and worker/gpu/model_runner.py (the "
    "default runner samples its profile without top-k or top-p: logits as computed, and gathered); 90 kB per token of Qwen3-8B, "
    f"vllm-project/vllm pull 48322; graphs: mean of the sweep's estimates over layers and 51 sizes; {_SWEEP}",
)

_SGLANG: Final = replace(
    _VLLM,
    share_of=ShareOf.STATIC,
    context_bytes=0.5 * GIB,
    group_bytes=1.0 * GIB,
    logit_bytes=8.0,
    grouped=False,
    window_share=0.8,
    state_blocks=3.0,
    state_pool=0.9,
    state_bytes=4.0,
    source="SGLang 0.5.23 mem_cache/kv_cache_configurator.py (free after loading less (1 - mem_fraction_static) x free before), "
    "arg_groups/fields/schedule.py (swa_full_tokens_ratio 0.8, mamba_full_memory_ratio 0.9), 3 states per running request, kept "
    "in fp32; context as torch sees it before loading on H100 (sweep) and with NCCL (ai-dynamo/aisimulate pull 263)",
)

_TRTLLM: Final = replace(
    _VLLM,
    share_of=ShareOf.FREE,
    context_bytes=1.0 * GIB,
    group_bytes=1.0 * GIB,
    graph_bytes=0.0,
    grouped=False,
    state_blocks=1.0,
    source="TensorRT-LLM KvCacheConfig: free_gpu_memory_fraction of what is free after loading and a profiling step; context: "
    "our estimate",
)

_GAUDI: Final = MemoryRule(
    share_of=ShareOf.FREE,
    context_bytes=0.0,
    group_bytes=1.0 * GIB,
    graph_share=0.1,
    source="vLLM Gaudi plugin, docs/configuration: gpu_memory_utilization of what weights and a profiled step leave, of that "
    "VLLM_GRAPH_RESERVED_MEM 0.1 for HPU graphs; communication buffers: our estimate",
)

_HOST: Final = MemoryRule(
    share_of=ShareOf.DEVICE,
    context_bytes=1.0 * GIB,
    grouped=True,
    state_blocks=2.0,
    source="vLLM 0.32.0 v1/worker/cpu_worker.py: the share of the NUMA node less what the process holds, or "
    "VLLM_CPU_KVCACHE_SPACE; 1 GiB of process: our estimate",
)

_WHOLE: Final = MemoryRule(
    share_of=ShareOf.DEVICE,
    context_bytes=1.0 * GIB,
    source="cache allocated as it grows; context: our estimate",
)

_RULES: Final = {
    "vllm": (((0, 21), _VLLM), ((0, 17), _VLLM_FUSED), ((0, 8), _VLLM_SORTED)),
    "vllm-gaudi": (((0, 0), _GAUDI),),
    "vllm-cpu": (((0, 0), _HOST),),
    "sglang": (((0, 0), _SGLANG),),
    "trtllm": (((0, 0), _TRTLLM),),
    "whole": (((0, 0), _WHOLE),),
}


def memory_rule(engine: str, version: str = "9999") -> MemoryRule:
    """Return how ``engine`` of ``version`` (``0.19.0``; the newest by default) divides a device.

    Raises
    ------
    NotFound
        When the engine is not known, or the version is older than what was read.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2])
    for since, rule in _RULES.get(engine, ()):
        if numbers >= since:
            return rule
    raise NotFound(
        "engine",
        f"{engine} {version}",
        f"memory rules of {', '.join(sorted(_RULES))}, vllm from 0.8",
    )
