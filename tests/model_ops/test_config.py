"""A config.json is read exactly, or refused with the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budsim.commons.errors import BudsimError, InvalidInput, UnsupportedModel
from budsim.commons.precision import Precision
from budsim.model_ops.architecture import AttentionKind, MatrixRole
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.families.table import FAMILIES


def llama(**changes: object) -> dict[str, Any]:
    """Return a small Llama: 2 layers of width 64, 4 heads of 16, 2 KV heads, width 128, 100 tokens."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 100,
        "max_position_embeddings": 2048,
    }
    return {key: value for key, value in {**config, **changes}.items() if value is not ...}


# Attention 64x64 + 2x(64x32) + 64x64, feed-forward 3x(64x128), two norms of 64.
LAYER = 4096 + 4096 + 4096 + 24576 + 128


def test_small_llama_is_counted_by_hand() -> None:
    """Two layers, two tables of 100 x 64 and a final norm."""
    architecture = architecture_from_config("small", llama())
    assert architecture.parameters == 2 * LAYER + 2 * 6400 + 64
    assert architecture.family == "LlamaForCausalLM"
    assert architecture.native_precision is Precision.BF16


def test_tied_embeddings_are_stored_once() -> None:
    """A tied model has one table fewer."""
    untied = architecture_from_config("untied", llama())
    tied = architecture_from_config("tied", llama(tie_word_embeddings=True))
    assert untied.parameters - tied.parameters == 6400


def test_biases_are_counted() -> None:
    """Biases of the four projections: 64 + 32 + 32 + 64 in each layer."""
    plain = architecture_from_config("plain", llama())
    biased = architecture_from_config("biased", llama(attention_bias=True))
    assert biased.parameters - plain.parameters == 2 * (64 + 32 + 32 + 64)


def test_leading_dense_layers_and_shared_experts() -> None:
    """One dense layer, then experts: 4 routed and 1 shared of width 32, a router of 4 x 64 with its 4 biases."""
    mla = {
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
    }
    moe = {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    }
    config = llama(
        model_type="deepseek_v3", first_k_dense_replace=1, moe_layer_freq=1, **mla, **moe
    )
    architecture = architecture_from_config("small", config)
    attention = 64 * 24 + 64 * 4 * 24 + 16 * 4 * 32 + 64 * 64 + 16
    dense, experts = 3 * 64 * 128, 5 * 3 * 64 * 32 + 4 * 64 + 4
    assert architecture.parameters == 2 * (attention + 128) + dense + experts + 2 * 6400 + 64
    assert architecture.parameters - architecture.active_parameters == 2 * 3 * 64 * 32


def test_unread_wrappers_pass_their_text_model_on() -> None:
    """A multimodal wrapper's text model is read from text_config, the vision tower from vision_config."""
    text = llama(model_type="mistral")
    vision = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16, "patch_size": 2}
    config = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "text_config": text,
    }
    plain = architecture_from_config("text", text)
    whole = architecture_from_config("whole", {**config, "vision_config": vision})
    block, stem, projector = 4 * 64 + 3 * 128 + 16, 96 + 8, 8 + 256 + 512 + 4096
    assert whole.parameters - plain.parameters == block + stem + projector
    assert whole.family == "Mistral3ForConditionalGeneration"


def test_unknown_vision_tower_is_refused() -> None:
    """A tower of unknown size is not guessed."""
    config = {"model_type": "mystery_vl", "text_config": llama(), "vision_config": {"depth": 3}}
    with pytest.raises(UnsupportedModel, match="vision_config"):
        architecture_from_config("mystery", config)


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
    """Zero, negative, text, fractions, absurd and missing values are refused by the field's name."""
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
    st.sampled_from(sorted(FAMILIES)),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(JUNK)),
)
def test_no_config_ends_in_a_traceback(model_type: str, changes: dict[str, object]) -> None:
    """Whatever stands in a config.json, the answer is a shape or an error that names a field."""
    try:
        architecture = architecture_from_config("any", {**llama(model_type=model_type), **changes})
    except BudsimError:
        return
    assert architecture.parameters > 0


def test_window_of_the_whole_context_is_none() -> None:
    """A window as long as the context limits nothing."""
    architecture = architecture_from_config(
        "wide", llama(model_type="mistral", sliding_window=2048)
    )
    assert architecture.layers[0].attention.kind is AttentionKind.FULL


@pytest.mark.parametrize(
    "family", ["LlamaModel", "LlamaForSequenceClassification", "Qwen2ForRewardModel"]
)
def test_headless_models_are_pooling_models(family: str) -> None:
    """A checkpoint without a language head turns texts into vectors or scores and stores no head."""
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


def test_layers_without_attention_join_the_one_before() -> None:
    """A searched model whose second layer has no attention weighs what its parts weigh."""
    blocks = [
        {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 3.0}},
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 6.0}},
    ]
    architecture = architecture_from_config(
        "searched", llama(model_type="nemotron-nas", block_configs=blocks)
    )
    attention, feed_forward = (
        3 * 4096,
        3 * 64 * (256 + 256),
    )  # 2/3 x 3 x 64 = 128 and 256, both rounded up to 256
    assert architecture.layer_count == 1
    assert architecture.parameters == attention + feed_forward + 3 * 64 + 64 + 2 * 6400


def test_blocks_listed_by_name_are_the_letters_of_a_pattern() -> None:
    """Nemotron 3 Ultra lists its blocks where Nano spells them: the same layers, and their number follows."""
    nemotron = {
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "ssm_state_size": 8,
        "conv_kernel": 4,
    }
    spelt = llama(
        model_type="nemotron_h", hybrid_override_pattern="M-*-", num_hidden_layers=4, **nemotron
    )
    listed = llama(
        model_type="nemotron_h",
        layers_block_type=["mamba", "mlp", "attention", "mlp"],
        num_hidden_layers=...,
        **nemotron,
    )
    assert (
        architecture_from_config("spelt", spelt).layers
        == architecture_from_config("spelt", listed).layers
    )
    with pytest.raises(UnsupportedModel, match="layers_block_type: unknown block 'conv'"):
        architecture_from_config("odd", {**listed, "layers_block_type": ["mamba", "conv"]})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model_type": "gemma4_text", "num_kv_shared_layers": 1}, "num_kv_shared_layers"),
        (
            {"model_type": "gemma4_text", "hidden_size_per_layer_input": 16},
            "hidden_size_per_layer_input",
        ),
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


def test_windowed_layers_may_have_other_heads() -> None:
    """MiMo V2: layer 1 sees everything with 2 KV heads of 16, layer 2 a window with 4 of 8, and has a sink for each head."""
    changed = {
        "hybrid_layer_pattern": [0, 1],
        "sliding_window": 128,
        "swa_num_key_value_heads": 4,
        "swa_head_dim": 8,
    }
    config = llama(
        model_type="mimo_v2_flash",
        moe_layer_freq=[0, 0],
        num_experts=4,
        **changed,
        add_swa_attention_sink_bias=True,
    )
    whole, windowed = (
        group.attention for group in architecture_from_config("varied", config).layers
    )
    assert (whole.window, whole.kv_heads, whole.head_dim) == (None, 2, 16)
    assert (windowed.window, windowed.kv_heads, windowed.head_dim) == (128, 4, 8)
    without = architecture_from_config("varied", {**config, "add_swa_attention_sink_bias": False})
    assert architecture_from_config("varied", config).parameters - without.parameters == 4
