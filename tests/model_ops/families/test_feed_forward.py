"""Dense and expert layers are told apart, and their widths are found under many names."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.families.feed_forward import (
    feed_forward_biases,
    layers_with_experts,
    read_dense,
    read_experts,
)
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import FeedForward


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "EEEE"),
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "dense"]}, "DEED"),
        ({"moe_layer_freq": [0, 1, 1, 1]}, "DEEE"),
        ({"moe_layer_freq": 2}, "EDED"),
        ({"decoder_sparse_step": 2}, "DEDE"),
        ({"first_k_dense_replace": 1}, "DEEE"),
        ({"mlp_only_layers": [2]}, "EEDE"),
    ],
)
def test_layers_with_experts_are_stated_in_many_ways(
    fields: dict[str, object], expected: str
) -> None:
    """E is a layer with experts, D a dense one."""
    kinds = layers_with_experts(ConfigReader(fields), 4)
    assert "".join("E" if has else "D" for has in kinds) == expected


def test_a_token_visits_at_most_all_experts() -> None:
    """Five of four experts are refused by the field that states the five."""
    config = ConfigReader({"num_experts": 4, "num_experts_per_tok": 5, "intermediate_size": 8})
    with pytest.raises(InvalidInput, match="num_experts_per_tok"):
        read_experts(config)


@pytest.mark.parametrize(
    ("fields", "width"),
    [
        ({}, 0),
        ({"n_shared_experts": 2}, 64),
        ({"shared_expert_intermediate_size": 48, "n_shared_experts": 2}, 48),
    ],
)
def test_shared_experts_have_a_width_or_a_number(fields: dict[str, object], width: int) -> None:
    """Two shared experts are as wide as two routed ones, unless a width is stated."""
    config = ConfigReader(
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, **fields}
    )
    assert read_experts(config).shared_width == width


def test_dense_layers_beside_experts_have_a_width_of_their_own() -> None:
    """Llama 4 states 8,192 for an expert and 16,384 for a dense layer."""
    config = ConfigReader({"intermediate_size": 8192, "intermediate_size_mlp": 16384})
    assert read_dense(config, FamilyTraits(experts=True), 5120).width == 16384
    assert read_dense(config, FamilyTraits(), 5120).width == 8192


def test_a_width_may_follow_from_the_hidden_size() -> None:
    """GPT-2 states none: it is four times the hidden size."""
    assert read_dense(ConfigReader({}), FamilyTraits(width_factor=4), 768).width == 3072


def test_biases_of_experts_include_the_router_s() -> None:
    """Width 32 with a gate and hidden size 64: 32 + 32 + 64 a matrix set, and 1 for each expert."""
    dense = FeedForward(width=32, gated=True)
    experts = FeedForward(width=32, gated=True, experts=4, experts_per_token=2)
    assert feed_forward_biases(dense, 64) == 128
    assert feed_forward_biases(experts, 64) == 4 * (128 + 1)
