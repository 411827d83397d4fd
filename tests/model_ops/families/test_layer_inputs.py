"""Gemma 3n and the small Gemma 4: a table with a vector for each layer, and shared caches."""

from __future__ import annotations

from budsim.commons.precision import Precision
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.registry import resolve_model

SMALL: dict[str, object] = {
    "model_type": "gemma4_text",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "global_head_dim": 32,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "layer_types": ["full_attention"] * 4,
    "tie_word_embeddings": True,
}


def test_shared_layers_store_and_project_no_keys() -> None:
    """Two of four layers keep 2 x 32 values of a token, 256 bytes together.

    The other two lack the projections of keys and values, 64 x 64 weights, and a norm of 32.
    """
    whole = architecture_from_config("whole", SMALL)
    shared = architecture_from_config("shared", {**SMALL, "num_kv_shared_layers": 2})
    assert whole.kv_bytes_per_token(Precision.BF16) == 512
    assert shared.kv_bytes_per_token(Precision.BF16) == 256
    assert whole.parameters - shared.parameters == 2 * (64 * 64 + 32)


def test_shared_layers_may_be_twice_as_wide() -> None:
    """Each of two has 3 x 64 x 128 weights more."""
    config = {**SMALL, "num_kv_shared_layers": 2}
    wide = architecture_from_config("wide", {**config, "use_double_wide_mlp": True})
    narrow = architecture_from_config("narrow", config)
    assert wide.parameters - narrow.parameters == 2 * 3 * 64 * 128


def test_the_table_of_layer_inputs_is_looked_up() -> None:
    """1000 x 4 x 16 values count as weights and not as active ones.

    A gate, a projection and a norm in each layer, one projection and a norm for all.
    """
    config = {**SMALL, "vocab_size_per_layer_input": 1000, "hidden_size_per_layer_input": 16}
    more, less = architecture_from_config("more", config), architecture_from_config("less", SMALL)
    small = 4 * (2 * 64 * 16 + 64) + 64 * 4 * 16 + 16
    assert more.parameters - less.parameters == 1000 * 4 * 16 + small
    assert more.active_parameters - less.active_parameters == small


def test_gemma_3n_counts_its_copies_of_the_hidden_state() -> None:
    """E4B keeps caches in 20 of 35 layers: 40 KiB a token in 16 bit."""
    e4b = resolve_model("google/gemma-3n-E4B-it")
    assert e4b.layer_count == 35
    assert e4b.kv_bytes_per_token(Precision.BF16) == 20 * 2 * 2 * 256 * 2
    assert e4b.active_parameters / e4b.parameters < 0.75
