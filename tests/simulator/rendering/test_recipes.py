"""A plan as LLM Compressor's recipe."""

import json

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.simulator.rendering import render
from tests.simulator.rendering.reading import commands_of, flags_of
from tests.simulator.situations import make_cluster, make_question


def test_a_quantized_plan_comes_with_its_recipe_and_keeps_its_name(document):
    """The recipe makes the checkpoint the command loads; callers still ask for the original."""
    question = make_question(
        make_cluster((("H100-SXM", 1),)),
        analytic_only=True,
        may_quantize=True,
        weight_precision=Precision.INT4,
        engines=frozenset({"vllm"}),
    )
    text = json.dumps(document(question))
    recipe = yaml.safe_load(render(text, "recipe"))
    assert recipe["quant_stage"]["quant_modifiers"]["GPTQModifier"]["scheme"] == "W4A16"
    words = commands_of(render(text, "command"))[0]
    assert "meta-llama/Llama-3.1-8B-Instruct-W4A16" in words
    assert flags_of(words)["served-model-name"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert (
        yaml.safe_load(render(text, "litellm"))["model_list"][0]["model_name"]
        == "meta-llama/Llama-3.1-8B-Instruct"
    )


def test_an_unquantized_plan_has_no_recipe(answered):
    """Asking for one is answered, not an empty file."""
    with pytest.raises(InvalidInput, match="no recipe"):
        render(json.dumps(answered), "recipe")
