"""Windowed layers may have other heads."""

from __future__ import annotations

from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import llama


def test_windowed_layers_may_have_other_heads() -> None:
    """MiMo V2: a full layer of 2 KV heads x 16, a windowed one of 4 x 8 with a sink a head."""
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
