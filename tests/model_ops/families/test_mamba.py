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
    with pytest.raises(UnsupportedModel, match="layers_block_type: unknown block 'conv'"):
        architecture_from_config("odd", {**listed, "layers_block_type": ["mamba", "conv"]})
