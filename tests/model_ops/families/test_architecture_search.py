"""Searched decoders are read block by block."""

from __future__ import annotations

from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import llama


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
