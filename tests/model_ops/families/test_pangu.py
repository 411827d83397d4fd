"""Pangu Pro MoE V2 is read by its class, whatever its model_type."""

from __future__ import annotations

from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import llama

PANGU = {
    "architectures": ["PanguProMoEV2ForCausalLM"],
    "model_type": "somebody's name",
    "num_hidden_layers": 4,
    "qk_nope_dim": 24,
    "qk_rope_dim": 8,
    "v_channels": 16,
    "param_sink_number": 3,
    "interleaved_sliding_window": [128, -1],
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}


def test_layers_take_the_listed_windows_in_turn() -> None:
    """Two of four layers see 128 tokens; keys are 32 and values 16 wide."""
    model = architecture_from_config("pangu", llama(**PANGU))
    windows = [group.attention.window for group in model.layers for _ in range(group.count)]
    assert sorted(windows, key=str) == [128, 128, None, None]
    assert {(g.attention.head_dim, g.attention.value_head_dim) for g in model.layers} == {(32, 16)}
    assert model.is_moe


def test_sinks_are_weights_of_every_layer() -> None:
    """Three keys and values for each key-value head."""
    with_sinks = architecture_from_config("pangu", llama(**PANGU))
    without = architecture_from_config("pangu", llama(**{**PANGU, "param_sink_number": 0}))
    kv_heads = with_sinks.layers[0].attention.kv_heads
    assert with_sinks.parameters - without.parameters == 4 * 3 * kv_heads * (32 + 16)
