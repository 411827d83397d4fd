"""K2 Horizon's attention chooses among projections to values."""

from __future__ import annotations

from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import llama

HORIZON = {
    "architectures": ["K2HorizonForCausalLM"],
    "model_type": "k2_horizon",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "num_shared_experts": 1,
}


def test_further_projections_to_values_are_stored() -> None:
    """Four of them instead of one, and a router, in every layer with experts."""
    plain = architecture_from_config("m", llama(**HORIZON))
    chosen = architecture_from_config("m", llama(**HORIZON, mova_num_experts=4))
    attention, hidden = plain.layers[0].attention, plain.hidden_size
    values = attention.kv_heads * attention.value_head_dim
    further = plain.layer_count * (3 * hidden * values + 4 * hidden)
    assert chosen.parameters - plain.parameters == further
    assert plain.layers[0].feed_forward.shared_width == 32


def test_a_gate_doubles_the_query_projection() -> None:
    """``attention_gate_func`` multiplies the output by a projection of the input."""
    gated = architecture_from_config("m", llama(**HORIZON, attention_gate_func="sigmoid"))
    assert gated.layers[0].attention.output_gate
