"""A config.json is read exactly, or refused with the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budsim.commons.errors import BudsimError, InvalidInput, UnsupportedModel
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.families.model_types import READERS
from budsim.model_ops.matrices import MatrixRole
from tests.model_ops.configs import llama


def test_unknown_type_with_only_llama_fields_is_read_as_one() -> None:
    """A new name for a Llama is a Llama."""
    known = architecture_from_config("known", llama())
    unknown = architecture_from_config("unknown", llama(model_type="brandnew"))
    assert unknown.parameters == known.parameters


@pytest.mark.parametrize(
    "strange", [{"num_local_experts": 8}, {"kv_lora_rank": 16}, {"ssm_state_size": 4}]
)
def test_unknown_type_with_strange_fields_is_refused(strange: dict[str, object]) -> None:
    """A field that may change the shape of a model nobody knows is named."""
    with pytest.raises(UnsupportedModel, match=next(iter(strange))):
        architecture_from_config("unknown", llama(model_type="brandnew", **strange))


NUMBERS = [
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
]


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize(
    "value", [0, -1, "many", 1.5, True, 10**15, float("nan"), float("inf"), [4], {}, ...]
)
def test_bad_numbers_are_named(field: str, value: object) -> None:
    """Zero, negative, text, fractional, absurd and missing values are refused by field name."""
    with pytest.raises(InvalidInput) as error:
        architecture_from_config("bad", llama(**{field: value}))
    assert error.value.field in {field, "num_key_value_heads"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_attention_heads": 6, "num_key_value_heads": 2}, "num_attention_heads"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"architectures": "LlamaForCausalLM"}, "architectures"),
        ({"torch_dtype": "float7"}, "torch_dtype"),
        ({"model_type": ...}, "model_type"),
        ({"model_type": 7}, "model_type"),
        ({"quantization_config": "fp8"}, "quantization_config"),
        ({"quantization_config": {"quant_method": "magic"}}, "quantization_config.quant_method"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "quantization_config.bits"),
        (
            {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 5},
            "num_experts_per_tok",
        ),
        (
            {"model_type": "mistral3", "text_config": {"model_type": "mistral", "hidden_size": -1}},
            "text_config.hidden_size",
        ),
        (
            {"model_type": "gpt_oss", "layer_types": ["full_attention"], "sliding_window": 8},
            "layer_types",
        ),
    ],
)
def test_contradictions_are_named(changes: dict[str, object], field: str) -> None:
    """Values that cannot be together are refused by the field that would have to change."""
    moe = (
        {"num_local_experts": 4, "num_experts_per_tok": 2}
        if changes.get("model_type") == "gpt_oss"
        else {}
    )
    with pytest.raises(InvalidInput) as error:
        architecture_from_config("bad", llama(**moe, **changes))
    assert error.value.field == field


@pytest.mark.parametrize("config", [[], "llama", None, 3])
def test_anything_but_an_object_is_refused(config: Any) -> None:
    """A config.json holds an object."""
    with pytest.raises(InvalidInput, match="config"):
        architecture_from_config("bad", config)


# What a slip of the pen, another family's habit or malice may leave in a field.
JUNK: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3,
    64,
    2**31,
    10**12,
    0.5,
    float("nan"),
    "",
    "8",
    "MM-*E",
    [],
    [1],
    [0, 1],
    {},
]
JUNK += [
    ["a", "b"],
    ["full_attention", "sliding_attention"],
    {"a": 1},
    {"quant_method": "fp8", "ignore": 3},
    [{"attention": {}}] * 2,
]
FIELDS = [
    *llama(),
    "quantization_config",
    "text_config",
    "vision_config",
    "moe_layer_freq",
    "layer_types",
    "sliding_window",
]
FIELDS += [
    "compress_ratios",
    "hybrid_layer_pattern",
    "kda_layers",
    "layers_block_type",
    "linear_attn_config",
    "o_lora_rank",
    "q_lora_rank",
    "qk_rope_head_dim",
    "rope_parameters",
    "sparse_attention_config",
    "moe_topk",
    "attn_layer_period",
    "hybrid_override_pattern",
    "block_configs",
    "num_local_experts",
    "num_experts_per_tok",
    "attn_config",
    "d_model",
    "head_dim",
]


@given(
    st.sampled_from(sorted(READERS)),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(JUNK)),
)
def test_no_config_ends_in_a_traceback(model_type: str, changes: dict[str, object]) -> None:
    """Whatever stands in a config.json, the answer is a shape or an error that names a field."""
    try:
        architecture = architecture_from_config("any", {**llama(model_type=model_type), **changes})
    except BudsimError:
        return
    assert architecture.parameters > 0


@pytest.mark.parametrize(
    "family", ["LlamaModel", "LlamaForSequenceClassification", "Qwen2ForRewardModel"]
)
def test_headless_models_are_pooling_models(family: str) -> None:
    """A checkpoint without a language head returns vectors or scores and stores no head."""
    headless = architecture_from_config("vectors", llama(architectures=[family]))
    assert (headless.is_embedding, headless.is_bidirectional) == (True, False)
    assert all(matrix.role is not MatrixRole.HEAD for _, matrix in headless.weights)


@pytest.mark.parametrize(("declared", "both"), [(True, True), (False, False), ("vision", False)])
def test_decoders_that_look_both_ways_say_so(declared: object, both: bool) -> None:
    """EmbeddingGemma attends both ways throughout, Gemma 4 within pictures only."""
    architecture = architecture_from_config("gemma", llama(use_bidirectional_attention=declared))
    assert architecture.is_bidirectional is both


@pytest.mark.parametrize("family", ["LlamaForCausalLM", "GPT2LMHeadModel", "ChatGLMModel"])
def test_models_that_write_are_no_pooling_models(family: str) -> None:
    """Language heads are kept, also ChatGLM's, whose class is named like a body."""
    assert not architecture_from_config("text", llama(architectures=[family])).is_embedding


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model_type": "deepseek_v4"}, "compress_ratios"),
        ({"model_type": "deepseek_v4", "compress_ratios": [4]}, "compress_ratios"),
        ({"model_type": "kimi_linear"}, "linear_attn_config.kda_layers"),
        ({"model_type": "jamba"}, "mamba_expand"),
    ],
)
def test_shapes_that_cannot_be_told_are_refused(changes: dict[str, object], field: str) -> None:
    """What a newer family leaves out, or what it shares between layers, is named."""
    with pytest.raises(BudsimError, match=field):
        architecture_from_config("untold", llama(**changes))
