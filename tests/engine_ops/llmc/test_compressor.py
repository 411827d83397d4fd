"""LLMC: schemes by hardware, the size of a job, and recipes LLM Compressor reads."""

from __future__ import annotations

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops.llmc import Llmc, recipe_yaml, served_name
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import LLAMA, device

LLMC = Llmc()


def modifiers(recipe: str) -> dict[str, dict[str, object]]:
    """Return a recipe's modifiers in order."""
    read: dict[str, dict[str, object]] = yaml.safe_load(recipe)["quant_stage"]["quant_modifiers"]
    return read


def test_a_quantizer_follows_what_only_rescales() -> None:
    """AWQ takes no scheme, SmoothQuant neither: the modifier behind them does."""
    awq, smooth = (
        modifiers(recipe_yaml("W4A16", "AWQ")),
        modifiers(recipe_yaml("W8A8", "SMOOTHQUANT")),
    )
    assert list(awq) == ["AWQModifier", "QuantizationModifier"]
    assert "scheme" not in awq["AWQModifier"]
    assert awq["QuantizationModifier"]["scheme"] == "W4A16"
    assert list(smooth) == ["SmoothQuantModifier", "GPTQModifier"]


def test_head_and_routers_stay_in_16_bit() -> None:
    """As the memory model assumes."""
    ignored = modifiers(recipe_yaml("FP8_DYNAMIC", "RTN"))["QuantizationModifier"]["ignore"]
    assert {"lm_head", "re:.*mlp[.]gate$"} <= set(ignored)  # type: ignore[arg-type]


def test_an_fp8_cache_is_calibrated_on_demand() -> None:
    """KV8 adds a scheme for the cache."""
    assert "kv_cache_scheme" not in modifiers(recipe_yaml("W4A16", "GPTQ"))["GPTQModifier"]
    scheme = modifiers(recipe_yaml("W4A16", "GPTQ", kv8=True))["GPTQModifier"]["kv_cache_scheme"]
    assert scheme == {
        "num_bits": 8,
        "type": "float",
        "strategy": "tensor",
        "dynamic": False,
        "symmetric": True,
    }


def test_schemes_follow_the_hardware() -> None:
    """FP8 needs Ada or later, NVFP4 needs Blackwell; 4-bit integers run everywhere.

    INT8 needs tensor cores that have it.
    """
    hopper, ampere, blackwell = (
        LLMC.schemes(device(name)) for name in ("H100-SXM", "A100-80GB", "B200-SXM")
    )
    assert "FP8_DYNAMIC" in hopper
    assert "FP8_DYNAMIC" not in ampere
    assert "NVFP4" in blackwell
    assert "NVFP4" not in hopper
    assert "W8A8" in ampere
    assert "W8A8" not in blackwell
    assert all("W4A16" in schemes for schemes in (hopper, ampere, blackwell))
    assert "weight-only" in str(LLMC.why_not(LLAMA, device("H100-SXM"), "nvfp4"))


def test_a_job_holds_the_weights_on_the_host_and_a_layer_on_the_device() -> None:
    """8.03 billion parameters are 16.1 GB in 16 bit, and one of 32 layers is 0.44 GB.

    GPTQ needs twice the layer on the device.
    """
    rtn = LLMC.job(LLAMA, "FP8_DYNAMIC", device=device("H100-SXM"))
    gptq = LLMC.job(LLAMA, "W4A16", device=device("H100-SXM"))
    assert rtn.host_bytes == pytest.approx(16.06e9, rel=0.01)
    assert gptq.device_bytes - rtn.device_bytes == pytest.approx(0.436e9, rel=0.02)
    assert (rtn.precision, gptq.precision) == (Precision.FP8, Precision.INT4)
    assert gptq.hours > rtn.hours > 0
    assert gptq.cost_usd == pytest.approx(gptq.hours * device("H100-SXM").price_usd_per_h)


def test_larger_models_take_longer() -> None:
    """Seventy billion parameters take longer than eight."""
    large = resolve_model("meta-llama/Llama-3.1-70B-Instruct")
    jobs = [LLMC.job(model, "W4A16", device=device("H100-SXM")) for model in (LLAMA, large)]
    assert jobs[0].hours < jobs[1].hours


@pytest.mark.parametrize(
    ("scheme", "method", "field"),
    [("W3A3", None, "quantization_type"), ("FP8_DYNAMIC", "AWQ", "quantization_method")],
)
def test_unknown_schemes_and_methods_are_refused(
    scheme: str, method: str | None, field: str
) -> None:
    """The caller's own field is named."""
    with pytest.raises(InvalidInput) as refused:
        LLMC.job(LLAMA, scheme, method=method, device=device("H100-SXM"))
    assert refused.value.field == field


def test_a_quantized_checkpoint_is_not_quantized_again() -> None:
    """gpt-oss comes as MXFP4."""
    oss = resolve_model("openai/gpt-oss-20b")
    assert "already" in str(LLMC.why_not(oss, device("H100-SXM"), "W4A16"))
    with pytest.raises(InvalidInput, match="already quantized"):
        LLMC.job(oss, "W4A16", device=device("H100-SXM"))
    assert served_name(oss, Precision.MXFP4) == "openai/gpt-oss-20b"
