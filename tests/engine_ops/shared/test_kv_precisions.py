"""KV cache formats: what the engines pick by themselves, and how others are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import LLAMA, device, replica

VLLM, SGLANG = serving_engines["vllm"], serving_engines["sglang"]
BF16, FP8 = Precision.BF16, Precision.FP8


def with_scales(method: str) -> Architecture:
    """Return Llama-3.1-8B in FP8 by a method, with scales for an FP8 cache."""
    fp8 = resolve_model("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic")
    assert fp8.quantization is not None
    return replace(fp8, quantization=replace(fp8.quantization, method=method, kv_cache=FP8))


def test_auto_is_fp8_where_the_checkpoint_has_its_scales() -> None:
    """VLLM follows compressed-tensors and ModelOpt, SGLang ModelOpt; a T4 has no such cache."""
    modelopt, compressed = with_scales("modelopt"), with_scales("compressed_tensors")
    on = device("H100-SXM")
    assert VLLM.kv_precisions(modelopt, on) == VLLM.kv_precisions(compressed, on) == (FP8, BF16)
    assert SGLANG.kv_precisions(modelopt, on) == (FP8, BF16)
    assert SGLANG.kv_precisions(compressed, on) == (BF16, FP8)
    assert FP8 not in VLLM.kv_precisions(replace(LLAMA), device("T4"))


def test_the_cache_is_named_only_where_it_is_not_what_auto_gives() -> None:
    """FP8 needs no word where auto gives it; 16 bit does then."""
    modelopt = with_scales("modelopt")
    asked = {
        wanted: VLLM.launch(
            modelopt, replica("H100-SXM", weight_precision=FP8, kv_precision=wanted)
        ).args["kv-cache-dtype"]
        for wanted in (FP8, BF16)
    }
    assert asked == {FP8: "auto", BF16: "bfloat16"}
    assert VLLM.launch(LLAMA, replica("H100-SXM")).args["kv-cache-dtype"] == "auto"
    assert VLLM.launch(LLAMA, replica("H100-SXM", kv_precision=FP8)).args["kv-cache-dtype"] == "fp8"


@pytest.mark.parametrize(
    ("engine", "model", "name", "first"),
    [
        ("sglang", "deepseek-ai/DeepSeek-V3.2", "B200-SXM", FP8),
        ("sglang", "deepseek-ai/DeepSeek-V3.2", "H200", BF16),
        ("vllm", "deepseek-ai/DeepSeek-V3.2", "B200-SXM", BF16),
        ("vllm", "zai-org/GLM-5", "B200-SXM", FP8),
        ("vllm", "zai-org/GLM-5", "H200", BF16),
        ("sglang", "deepseek-ai/DeepSeek-V4-Flash", "H200", FP8),
        ("vllm", "deepseek-ai/DeepSeek-V4-Flash", "H200", FP8),
    ],
)
def test_sparse_families_have_a_cache_of_the_engines_choice(
    engine: str, model: str, name: str, first: Precision
) -> None:
    """SGLang picks FP8 for sparse attention on Blackwell, vLLM for GLM-5; V4 always has it."""
    found = serving_engines[engine].kv_precisions(resolve_model(model), device(name))
    assert found[0] is first


def test_v4_has_no_other_cache_in_vllm() -> None:
    """Its layout is FP8: asking for 16 bit is refused before vLLM does."""
    flash = resolve_model("deepseek-ai/DeepSeek-V4-Flash")
    assert VLLM.kv_precisions(flash, device("H200")) == (FP8,)
    weights = VLLM.precisions(flash, device("H200"), may_quantize=False)[0]
    with pytest.raises(InvalidInput, match="fp8 only"):
        VLLM.launch(flash, replica("H200", tp=4, weight_precision=weights, kv_precision=BF16))
