"""Decoders are counted matrix by matrix."""

from __future__ import annotations

from budsim.commons.precision import Precision
from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import LAYER, llama


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
    """A dense layer; then 4 routed and 1 shared expert of 32, and a router with 4 biases."""
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
