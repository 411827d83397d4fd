"""Formats: which weights and caches are served where, and what the engines refuse."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ServingEngine
from budsim.engine_ops.shared.formats import plain_precision, why_not_stored
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import LLAMA, device, replica

ENGINES = pytest.mark.parametrize("engine", serving_engines.values(), ids=serving_engines.keys())
REFUSED = (
    "google/gemma-2-9b-it",
    "google/gemma-3-4b-it",
    "google/gemma-3-1b-it",
    "zai-org/GLM-4-32B-0414",
)


@ENGINES
@pytest.mark.parametrize("model", REFUSED)
def test_families_that_overflow_float16_are_served_wider(engine: ServingEngine, model: str) -> None:
    """On a T4, which has no bf16, they get fp32 for weights and cache; on an L4 they get bf16."""
    architecture = resolve_model(model)
    for name, wide in (("T4", Precision.FP32), ("L4", Precision.BF16)):
        assert engine.precisions(architecture, device(name), may_quantize=True)[0] is wide
        assert engine.kv_precisions(architecture, device(name))[0] is wide
    assert Precision.FP16 not in engine.precisions(architecture, device("T4"), may_quantize=True)
    launch = engine.launch(
        architecture,
        replica("T4", weight_precision=Precision.FP32, kv_precision=Precision.FP32),
    )
    assert launch.args["dtype"] == "float32"
    with pytest.raises(InvalidInput, match="float16"):
        engine.launch(architecture, replica("T4", weight_precision=Precision.FP16))


def test_their_quantized_checkpoints_need_bfloat16() -> None:
    """Four-bit weights are multiplied in 16 bit: a T4 has none that Gemma 3 may use."""
    gemma = resolve_model("RedHatAI/gemma-3-27b-it-quantized.w4a16")
    assert "float16" in str(why_not_stored("vllm", gemma, device("T4")))
    assert why_not_stored("vllm", gemma, device("L4")) is None


def test_other_families_keep_float16_on_turing() -> None:
    """Llama on a T4 is served in fp16."""
    assert plain_precision("vllm", LLAMA, device("T4"), Precision.BF16) is Precision.FP16


@pytest.mark.parametrize(
    ("name", "wide"),
    [
        ("EPYC 7713", Precision.FP32),
        ("Xeon Platinum 8480+", Precision.BF16),
        ("EPYC 9654", Precision.BF16),
        ("Graviton4", Precision.BF16),
    ],
)
def test_processors_with_avx2_alone_never_get_bf16(name: str, wide: Precision) -> None:
    """A core of Zen 3 multiplies bf16 seven times slower than fp32."""
    vllm = serving_engines["vllm"]
    assert vllm.precisions(LLAMA, device(name), may_quantize=False) == (wide,)
    assert vllm.kv_precisions(LLAMA, device(name)) == (wide,)


def test_ampere_keeps_its_cache_in_fp8_under_vllm() -> None:
    """An A40 stores fp8 and multiplies in 16 bit; a T4 has no kernel for it."""
    vllm = serving_engines["vllm"]
    assert Precision.FP8 in vllm.kv_precisions(LLAMA, device("A40"))
    assert Precision.FP8 in vllm.kv_precisions(LLAMA, device("A100-SXM-80GB"))
    assert Precision.FP8 not in vllm.kv_precisions(LLAMA, device("T4"))


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        ("openai/gpt-oss-20b", Precision.MXFP4),
        ("Qwen/Qwen3-14B-FP8", Precision.FP8),
        ("ibm-granite/granite-4.0-h-tiny", Precision.BF16),
    ],
)
def test_what_vllm_serves_on_xeon_with_amx(model: str, precision: Precision) -> None:
    """The list for Xeon 5 and 6 has gpt-oss and FP8 checkpoints.

    Granite 4's Mamba layers have kernels there.
    """
    vllm, architecture = serving_engines["vllm"], resolve_model(model)
    assert vllm.why_not(architecture, device("Xeon 6972P")) is None
    found = vllm.precisions(architecture, device("Xeon 6972P"), may_quantize=False)
    assert found == (precision,)


def test_fp8_and_mxfp4_need_amx() -> None:
    """EPYC 9654 has AVX-512 and no AMX tiles."""
    vllm = serving_engines["vllm"]
    for model in ("openai/gpt-oss-20b", "Qwen/Qwen3-14B-FP8"):
        assert "no kernel" in str(vllm.why_not(resolve_model(model), device("EPYC 9654")))


@pytest.mark.parametrize(
    ("engine", "model", "read", "unread"),
    [
        ("sglang", "TheBloke/Llama-2-7b-Chat-GPTQ", "H100-SXM", "MI300X"),
        ("sglang", "nvidia/Llama-3.1-8B-Instruct-FP8", "H100-SXM", "MI300X"),
        ("sglang", "Qwen/Qwen3-1.7B-FP8", "MI300X", None),
        ("sglang", "meta-llama/Llama-3.1-405B-Instruct-FP8", None, "H100-SXM"),
        ("vllm", "meta-llama/Llama-3.1-405B-Instruct-FP8", "MI300X", "Xeon Platinum 8592+"),
        ("vllm", "TheBloke/Llama-2-7b-Chat-GPTQ", "MI300X", None),
    ],
)
def test_checkpoints_of_a_method_the_engine_refuses_have_no_format(
    engine: str, model: str, read: str | None, unread: str | None
) -> None:
    """SGLang 0.5.23 knows no fbgemm, and on AMD neither GPTQ nor ModelOpt; vLLM's CPUs no fbgemm.

    The server stops with "Unknown quantization method" or "currently not supported".
    """
    architecture = resolve_model(model)
    assert architecture.quantization
    server = serving_engines[engine]
    if read:
        assert server.precisions(architecture, device(read), may_quantize=True)
        assert why_not_stored(engine, architecture, device(read)) is None
    if unread:
        assert not server.precisions(architecture, device(unread), may_quantize=True)
        reason = why_not_stored(engine, architecture, device(unread))
        assert reason
        assert f"reads no checkpoints of {architecture.quantization.method}" in reason
