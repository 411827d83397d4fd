"""How SGLang divides a device.

SGLang takes ``mem_fraction_static`` for weights and cache and leaves the rest to activations and
graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.commons.units import GIB, MIB
from budsim.engine_ops.memory_rule import MemoryRule, ShareOf, VersionedRules

_GPU: Final = MemoryRule(
    share_of=ShareOf.STATIC,
    context_bytes=0.5 * GIB,
    group_bytes=1.0 * GIB,
    logit_bytes=8.0,
    graph_bytes=0.41 * MIB,
    window_share=0.8,
    state_blocks=3.0,
    state_pool=0.9,
    state_bytes=4.0,
    # Scales in fp32 (4 bytes) beside those the kernels take (1), and what else is widened at load:
    # the attention outputs of DeepSeek V4 become bf16.
    mxfp4_scale_bytes=5.2,
    source="SGLang 0.5.23 mem_cache/kv_cache_configurator.py (free after loading less (1 - "
    "mem_fraction_static) x free before), arg_groups/fields/schedule.py (swa_full_tokens_ratio "
    "0.8, mamba_full_memory_ratio 0.9), 3 states per running request, kept in fp32; context as "
    "torch sees it before loading on H100 (llm-d-incubation/llm-d-planner pull 205) and with NCCL "
    "(ai-dynamo/aisimulate pull 263); scales of MXFP4 experts in fp32 beside those the kernels "
    "take (layers/quantization/fp8.py), fitted on one log: DeepSeek-V4-Pro on 8 H200, 125.65 GiB a "
    "GPU (SemiAnalysisAI/InferenceX issue 2128)",
)

GPU_RULES: Final[VersionedRules] = (((0, 0), _GPU),)

CPU_RULE: Final = replace(_GPU, context_bytes=0.0, group_bytes=0.0, graph_bytes=0.0)

# By the name of the build, newest version first.
MEMORY_RULES: Final[Mapping[str, VersionedRules]] = {"sglang": GPU_RULES}
