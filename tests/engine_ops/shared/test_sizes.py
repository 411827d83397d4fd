"""Sizes: groups of values that share a scale are never cut by tensor parallelism."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ServingEngine
from budsim.engine_ops.shared.sizes import tp_sizes, why_not_tp
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import replica

ENGINES = pytest.mark.parametrize("engine", serving_engines.values(), ids=serving_engines.keys())


@ENGINES
@pytest.mark.parametrize(
    "model",
    ["RedHatAI/Qwen2.5-VL-72B-Instruct-quantized.w4a16", "Qwen/Qwen2.5-72B-Instruct-AWQ"],
)
def test_groups_of_128_are_not_cut(engine: ServingEngine, model: str) -> None:
    """A width of 29568 is 231 groups of 128: two ranks would cut the middle one."""
    architecture = resolve_model(model)
    assert why_not_tp(architecture, 1) is None
    assert "groups of 128" in str(why_not_tp(architecture, 2))
    assert engine.tp_sizes(architecture, 8) == (1,)
    with pytest.raises(InvalidInput, match="29568 through groups of 128"):
        engine.launch(architecture, replica("H100-SXM", tp=2, weight_precision=Precision.INT4))


@ENGINES
def test_what_llmc_makes_has_groups_too(engine: ServingEngine) -> None:
    """Qwen2.5-72B splits in eight as published, and not at all once its weights are W4A16."""
    architecture = resolve_model("Qwen/Qwen2.5-72B-Instruct")
    assert 8 in engine.tp_sizes(architecture, 8)
    assert engine.why_not_split(architecture, Precision.BF16, 8) is None
    assert engine.why_not_split(architecture, Precision.FP8, 8) is None
    assert "groups of 128" in str(engine.why_not_split(architecture, Precision.INT4, 2))
    with pytest.raises(InvalidInput, match="groups of 128"):
        engine.launch(architecture, replica("H100-SXM", tp=2, weight_precision=Precision.INT4))


def test_experts_of_gptq_may_be_cut_and_those_of_compressed_tensors_not() -> None:
    """768 wide experts in four are 192 each; vLLM's moe_wna16 takes that for GPTQ and AWQ only."""
    gptq = resolve_model("Qwen/Qwen3-30B-A3B-GPTQ-Int4")
    made = resolve_model("RedHatAI/Qwen3-30B-A3B-quantized.w4a16")
    assert 4 in tp_sizes(gptq, 8)
    assert 4 not in tp_sizes(made, 8)
    assert 4 in tp_sizes(made, 8, spreads_experts=True), "whole experts are not cut"
