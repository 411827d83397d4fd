"""TensorRT-LLM by its LLM API, and NVIDIA Dynamo over it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budsim.commons.units import GIB, MICRO
from budsim.engine_ops.engine_profile import (
    MXFP4_AS_FP8,
    OVERLAPPED_STEPS,
    Batching,
    EngineProfile,
    FirstToken,
)
from budsim.engine_ops.memory_rule import MemoryRule, ShareOf, VersionedRules

_FITTED: Final = "host time: fitted to measured TPOT"

MEMORY_RULES: Final[VersionedRules] = (
    (
        (0, 0),
        MemoryRule(
            share_of=ShareOf.FREE,
            context_bytes=1.0 * GIB,
            group_bytes=1.0 * GIB,
            logit_bytes=4.0,
            state_blocks=1.0,
            source="TensorRT-LLM KvCacheConfig: free_gpu_memory_fraction of what is free after "
            "loading and a profiling step; context: our estimate",
        ),
    ),
)

_BASE: Final = EngineProfile(
    name="trtllm",
    batching=Batching.MIXED,
    max_num_batched_tokens=8192,
    max_num_seqs=2048,
    memory_fraction=0.9,
    memory=MEMORY_RULES[0][1],
    step_overhead_s=320 * MICRO,
    sequence_overhead_s=6 * MICRO,
    block_tokens=32,
    source="TensorRT-LLM 1.0 LLM API: max_num_tokens 8192, max_batch_size 2048, "
    "free_gpu_memory_fraction 0.9 of what weights leave, tokens_per_block 32, in-flight batching; "
    f"{_FITTED}",
)

GPU: Final = replace(
    _BASE,
    first_token=FirstToken(
        # By three tables of two parties: none errs more than with 1 ms, bursts of a thousand by 37
        # instead of 56 % in TTFT.
        request_s=0.005,
        steps=OVERLAPPED_STEPS,
        prompt_launch_s=0.0004,
        # It fuses what lies between the products. 1.0 by serving rows of two parties: with the 1.3
        # of vLLM and SGLang, TTFT of dense models was 31 to 49 % too long.
        prompt_factor=1.0,
    ),
    multiplied_in=MXFP4_AS_FP8,
)

PROFILES: Final = (
    GPU,
    replace(
        _BASE,
        name="trtllm(2024)",
        step_overhead_s=1400 * MICRO,
        sequence_overhead_s=27 * MICRO,
        source=f"TensorRT-LLM before 1.0; {_FITTED}; {GPU.source}",
    ),
    replace(
        GPU,
        name="trtllm(deepgemm)",
        source=f"TensorRT-LLM before 1.2 with DeepGEMM's experts; {GPU.source}",
    ),
    replace(
        _BASE,
        name="dynamo-trtllm",
        source=f"NVIDIA Dynamo over TensorRT-LLM workers; {GPU.source}",
    ),
)
