"""vLLM: the command it is started with on each kind of hardware, and what it refuses."""

from __future__ import annotations

import json

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops.vllm import Vllm
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import EMBEDDING, GIB, LLAMA, MIXTURE, device, replica

VLLM = Vllm()


def test_a_cuda_replica_is_started_by_vllm_serve() -> None:
    """The command names the model, then every argument as vLLM spells it."""
    launch = VLLM.launch(
        LLAMA, replica("H100-SXM", tp=2, context_tokens=4096, memory_fraction=0.92, max_num_seqs=64)
    )
    assert " ".join(launch.command) == (
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2 "
        "--max-model-len 4096 --max-num-seqs 64 --max-num-batched-tokens 8192 "
        "--gpu-memory-utilization 0.92 --dtype bfloat16 --kv-cache-dtype auto "
        "--enable-chunked-prefill --enable-prefix-caching"
    )
    assert launch.image == "vllm/vllm-openai:v0.32.0"


def test_experts_and_attention_ranks_stay_inside_the_replicas_devices() -> None:
    """Eight devices with four attention ranks run dp 4 times tp 2, with experts over all eight."""
    args = VLLM.launch(MIXTURE, replica("H100-SXM", tp=8, dp=4, ep=8)).args
    assert args["data-parallel-size"] == 4
    assert args["tensor-parallel-size"] == 2
    assert args["enable-expert-parallel"] is True


def test_vllm_spreads_experts_over_all_ranks_or_none() -> None:
    """Expert parallelism over half the ranks does not exist in vLLM."""
    with pytest.raises(InvalidInput, match="ep"):
        VLLM.launch(MIXTURE, replica("H100-SXM", tp=8, ep=4))


@pytest.mark.parametrize(("dp", "ep", "starts"), [(4, 8, False), (8, 8, True), (4, 1, True)])
def test_adapters_allow_no_attention_ranks_of_several_devices_beside_spread_experts(
    dp: int, ep: int, starts: bool
) -> None:
    """The class for experts with adapters asserts it (``FusedMoEWithLoRA._ep_check``)."""
    config = replica("H100-SXM", tp=8, dp=dp, ep=ep, max_loras=1)
    if starts:
        assert VLLM.launch(MIXTURE, config).args["max-loras"] == 1
        return
    with pytest.raises(InvalidInput, match="dp: 4 attention ranks of several devices"):
        VLLM.launch(MIXTURE, config)


def test_a_cpu_replica_gets_its_cache_and_cores_by_environment() -> None:
    """40.9 GiB are written as 40, and two ranks as 28 cores of each of two sockets.

    There is no memory fraction, and a block holds 128 tokens.
    """
    config = replica("Xeon Platinum 8480+", tp=2, cores=28, kv_space_bytes=40.9 * GIB)
    launch = VLLM.launch(LLAMA, config)
    assert launch.envs == {
        "VLLM_CPU_KVCACHE_SPACE": "40",
        "VLLM_CPU_OMP_THREADS_BIND": "0-27|56-83",
    }
    assert "gpu-memory-utilization" not in launch.args
    assert launch.args["block-size"] == 128


def test_a_cpu_replica_without_room_for_a_cache_is_refused() -> None:
    """VLLM would choose a size of its own; we ask for one."""
    with pytest.raises(InvalidInput, match="kv_space_bytes"):
        VLLM.launch(LLAMA, replica("Xeon Platinum 8480+", kv_space_bytes=0.0))


def test_cpu_and_gaudi_offer_no_fp8_cache() -> None:
    """CPUs lack kernels for fp8 caches, Gaudi lacks calibrated scales: both refuse them."""
    assert VLLM.kv_precisions(LLAMA, device("Xeon Platinum 8480+")) == (Precision.BF16,)
    assert VLLM.kv_precisions(LLAMA, device("Gaudi3")) == (Precision.BF16,)
    with pytest.raises(InvalidInput, match="kv_precision"):
        VLLM.launch(LLAMA, replica("Gaudi3", kv_precision=Precision.FP8))


def test_gaudi_buckets_by_environment() -> None:
    """The plugin's bucketing strategy is set, in blocks of 128 tokens."""
    launch = VLLM.launch(LLAMA, replica("Gaudi3"))
    assert launch.envs["VLLM_BUCKETING_STRATEGY"] == "exp"
    assert launch.args["block-size"] == 128


def test_an_embedding_model_runs_in_the_pooling_runner() -> None:
    """Prompts are taken whole, so the token budget holds the longest one.

    Neither chunking nor prefix caching is asked for.
    """
    args = VLLM.launch(
        EMBEDDING, replica("H100-SXM", context_tokens=512, max_num_batched_tokens=256)
    ).args
    assert args["runner"] == "pooling"
    assert args["max-num-batched-tokens"] == 512
    assert "enable-chunked-prefill" not in args


def test_a_reranker_published_as_a_text_model_is_made_a_classifier() -> None:
    """Qwen3-Reranker's score is yes against no; its sibling that embeds is served as it is."""
    reranker, sibling = (
        resolve_model(f"Qwen/Qwen3-{kind}-0.6B") for kind in ("Reranker", "Embedding")
    )
    overrides = VLLM.launch(reranker, replica("L40S")).args["hf-overrides"]
    assert json.loads(str(overrides))["classifier_from_token"] == ["no", "yes"]
    assert "hf-overrides" not in VLLM.launch(sibling, replica("L40S")).args


def test_turing_is_served_in_fp16() -> None:
    """The T4 has no bf16 units."""
    config = replica("T4", weight_precision=Precision.FP16, kv_precision=Precision.FP16)
    assert VLLM.precisions(LLAMA, device("T4"), may_quantize=False) == (Precision.FP16,)
    assert VLLM.launch(LLAMA, config).args["dtype"] == "float16"
    with pytest.raises(InvalidInput, match="weight_precision"):
        VLLM.launch(LLAMA, replica("T4"))


@pytest.mark.parametrize(
    ("name", "precision", "says"),
    [
        ("H100-SXM", Precision.NVFP4, "weight-only"),
        ("A100-80GB", Precision.FP8, "weight-only"),
        ("T4", Precision.NVFP4, "no nvfp4 kernel"),
        ("B200-SXM", Precision.INT8, "no int8 kernel"),
        ("Xeon Platinum 8480+", Precision.FP8, "weight-only"),
        ("EPYC 7713", Precision.INT8, "no int8 kernel"),
    ],
)
def test_formats_that_do_not_pay_are_refused_by_name(
    name: str, precision: Precision, says: str
) -> None:
    """Weight-only formats and missing kernels are told apart."""
    assert says in str(VLLM.why_not_precision(device(name), precision))
    assert precision not in VLLM.precisions(LLAMA, device(name), may_quantize=True)


def test_a_quantized_checkpoint_keeps_its_format() -> None:
    """gpt-oss is MXFP4 on disk: Hopper serves it so; a device without a kernel for it does not."""
    oss = resolve_model("openai/gpt-oss-120b")
    assert VLLM.precisions(oss, device("H100-SXM"), may_quantize=True) == (Precision.MXFP4,)
    assert "mxfp4" in str(VLLM.why_not(oss, device("T4")))
    with pytest.raises(InvalidInput, match="weight_precision"):
        VLLM.launch(oss, replica("H100-SXM"))


def test_a_quantized_variant_is_loaded_under_its_own_name() -> None:
    """What LLMC writes is a compressed-tensors checkpoint beside the original."""
    launch = VLLM.launch(LLAMA, replica("H100-SXM", weight_precision=Precision.INT4))
    assert launch.command[2] == "meta-llama/Llama-3.1-8B-Instruct-W4A16"
    assert launch.args["quantization"] == "compressed-tensors"


def test_first_generation_gaudi_and_volta_are_too_old() -> None:
    """Both have memory and speed enough, and no vLLM 0.32 build."""
    assert "Gaudi1" in str(VLLM.why_not(LLAMA, device("Gaudi1")))
    assert "sm70" in str(VLLM.why_not(LLAMA, device("V100-32GB")))


def test_tensor_parallel_sizes_divide_heads_and_key_value_heads() -> None:
    """32 heads and 8 key-value heads split into 1, 2, 4 or 8 ways.

    Repeating key-value heads allows 16 and 32 ways.
    """
    assert VLLM.tp_sizes(LLAMA, 40) == (1, 2, 4, 8, 16, 32)
    assert VLLM.tp_sizes(LLAMA, 7) == (1, 2, 4)


def test_pipelines_only_where_the_family_has_them() -> None:
    """Llama pipelines over any number of stages, BERT over none."""
    assert VLLM.pp_sizes(LLAMA, 3) == (1, 2, 3)
    assert VLLM.pp_sizes(EMBEDDING, 3) == (1,)


def test_metadata_follows_the_model_not_only_its_family() -> None:
    """DeepSeek R1 and Kimi K2 share a class and not their parsers; Llama 2 calls no tools."""
    r1, kimi = (
        VLLM.metadata(resolve_model(m))
        for m in ("deepseek-ai/DeepSeek-R1", "moonshotai/Kimi-K2-Instruct")
    )
    assert (r1.tool_calling_parser_type, r1.reasoning_parser_type) == ("deepseek_v3", "deepseek_r1")
    assert kimi.tool_calling_parser_type == "kimi_k2"
    assert VLLM.metadata(LLAMA).tool_calling_parser_type == "llama3_json"
    assert VLLM.metadata(LLAMA).chat_template == "examples/tool_chat_template_llama3.1_json.jinja"
    assert VLLM.metadata(resolve_model("meta-llama/Llama-2-7b-hf")).tool_calling_parser_type is None


@pytest.mark.parametrize(
    ("model", "tool", "reasoning"),
    [
        ("deepseek-ai/DeepSeek-V4-Flash", "deepseek_v4", "deepseek_v4"),
        ("google/gemma-4-31B-it", "gemma4", "gemma4"),
        ("MiniMaxAI/MiniMax-M3", "minimax_m3", "minimax_m3"),
        ("mistralai/Ministral-3-8B-Instruct-2512", "mistral", None),
        ("mistralai/Ministral-3-8B-Reasoning-2512", "mistral", "mistral"),
        ("moonshotai/Kimi-K3", "kimi_k3", "kimi_k3"),
        ("stepfun-ai/Step-3.7-Flash", "step3p5", "step3p5"),
        ("tencent/Hunyuan-A13B-Instruct", "hunyuan_a13b", "hunyuan_a13b"),
        ("XiaomiMiMo/MiMo-V2-Flash", "qwen3_xml", "qwen3"),
    ],
)
def test_this_years_models_have_the_parsers_of_their_recipes(
    model: str, tool: str, reasoning: str | None
) -> None:
    """VLLM's recipes start them with these."""
    metadata = VLLM.metadata(resolve_model(model))
    assert (metadata.tool_calling_parser_type, metadata.reasoning_parser_type) == (tool, reasoning)
    assert VLLM.why_not(resolve_model(model), device("B200-SXM")) is None


def test_profiles_differ_where_the_defaults_do() -> None:
    """On CPU vLLM steps over 2,048 tokens in blocks of 128."""
    assert VLLM.profile(DeviceKind.CPU).max_num_batched_tokens == 2048
    assert VLLM.profile(DeviceKind.CPU).block_tokens == 128
    assert VLLM.profile(DeviceKind.CUDA).memory_fraction == 0.92
