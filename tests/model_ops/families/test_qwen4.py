"""Qwen4-Exp: indexed attention, several residual streams, n-gram tables."""

from __future__ import annotations

import pytest

from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import llama

TEXT = {
    "architectures": ["Qwen4ExpForCausalLM"],
    "model_type": "qwen4_exp_text",
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
"""The defaults of transformers' `Qwen4ExpTextConfig`."""
INDEX = {"indexer_n_heads": 4, "indexer_head_dim": 128, "indexer_budget": 2048}


def test_tables_of_ngrams_are_stored_and_not_multiplied() -> None:
    """One layer's tables hold 16 x 20 million rows of 128 values: 41 billion."""
    plain = architecture_from_config("q", llama(**TEXT))
    looked_up = architecture_from_config("q", llama(**TEXT, ple_layer_ids=[2]))
    assert looked_up.parameters - plain.parameters == pytest.approx(40.96e9, rel=0.001)
    assert looked_up.active_parameters == pytest.approx(plain.active_parameters, rel=0.02)


def test_attention_layers_attend_to_a_budget_of_tokens() -> None:
    """Every fourth layer is indexed; the others keep a state."""
    model = architecture_from_config("q", llama(**TEXT, **INDEX))
    counts = {group.attention.index_topk: group.count for group in model.layers}
    assert counts == {None: 30, 2048: 10}


def test_streams_cost_low_rank_matrices_in_each_layer() -> None:
    """Two mixers a layer, each of 8,192 x (2 x 320 + 4 + 1) values with four streams."""
    one = architecture_from_config("q", llama(**TEXT, hc_count=1)).parameters
    four = architecture_from_config("q", llama(**TEXT)).parameters
    assert four - one == 40 * 2 * (8192 * 645 - 2048 * 642)
