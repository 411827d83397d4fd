"""K2 Horizon: experts for the feed-forward part, and for the values of attention."""

from __future__ import annotations

from dataclasses import replace

from budsim.model_ops.config_reader import MAX_EXPERTS, ConfigReader
from budsim.model_ops.families.decoder import read_decoder
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits


def read_k2_horizon(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return K2 Horizon (vLLM 0.32 ``k2_horizon.py``).

    In layers with experts, attention chooses among projections to values, too: the others are
    stored, and their work is left out. ``attention_gate_func`` gates the output.
    """
    traits = replace(
        traits,
        output_gate=bool(config.text("attention_gate_func")),
        router_bias=config.flag("moe_gate_bias", default=False),
    )
    model = read_decoder(config, traits)
    projections = config.integer("mova_num_experts", low=0, high=MAX_EXPERTS, default=0)
    if not projections:
        return model
    layers = [_with_value_experts(layer, model.hidden, projections) for layer in model.layers]
    return replace(model, layers=layers)


def _with_value_experts(layer: Layer, hidden: int, projections: int) -> Layer:
    if layer.feed_forward is None or not layer.feed_forward.experts:
        return layer
    values = layer.attention.kv_heads * layer.attention.value_head_dim
    # One projection is counted with queries and keys; the router chooses among all.
    further = (projections - 1) * hidden * values + projections * hidden
    return replace(layer, extra_parameters=layer.extra_parameters + further)
