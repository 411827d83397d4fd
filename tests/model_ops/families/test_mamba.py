"""Hybrids with Mamba layers are read from patterns and lists."""

from __future__ import annotations

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import llama


def test_blocks_listed_by_name_are_the_letters_of_a_pattern() -> None:
    """Nemotron 3 Ultra lists the blocks that Nano writes as letters: they are the same layers."""
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
    renamed = {
        **listed,
        "layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"],
    }
    found = architecture_from_config("spelt", renamed)
    assert found.layers == architecture_from_config("spelt", listed).layers
    with pytest.raises(UnsupportedModel, match="layers_block_type: unknown block 'conv'"):
        architecture_from_config("odd", {**listed, "layers_block_type": ["mamba", "conv"]})


def test_blocks_of_a_puzzle_have_sizes_of_their_own() -> None:
    """Two blocks of experts, of 8 and of 4: the second stores half as many weights."""
    experts = {"block_type": "moe", "moe_intermediate_size": 32, "num_experts_per_tok": 2}
    config = llama(
        model_type="nemotron_h_puzzle",
        num_hidden_layers=4,
        mamba_num_heads=8,
        mamba_head_dim=16,
        n_groups=2,
        ssm_state_size=8,
        conv_kernel=4,
        block_configs=[
            {"block_type": "mamba"},
            {**experts, "n_routed_experts": 8},
            {"block_type": "attention"},
            {**experts, "n_routed_experts": 4},
        ],
    )
    first, second = architecture_from_config("puzzle", config).layers
    assert (first.feed_forward.experts, second.feed_forward.experts) == (8, 4)
    assert (first.feed_forward.width, second.feed_forward.experts_per_token) == (32, 2)
    odd = {**config, "block_configs": [{"block_type": "conv"}] * 4}
    with pytest.raises(UnsupportedModel, match="unknown block 'conv'"):
        architecture_from_config("odd", odd)
