"""openPangu with learned sinks: heads of their own widths, and windows in turn."""

from __future__ import annotations

from dataclasses import replace

from budsim.model_ops.config_reader import MAX_CONTEXT, MAX_HIDDEN, ConfigReader
from budsim.model_ops.families.decoder import assemble, attention_layer, read_dimensions
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits


def read_pangu_sinks(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Pangu Pro MoE V2 (vLLM 0.32 ``OpenPanguSinkAttention``).

    Keys are ``qk_nope_dim + qk_rope_dim`` wide, values ``v_channels``. Layers take the windows of
    ``interleaved_sliding_window`` in turn; one that is not positive sees everything.
    """
    dims = read_dimensions(config)
    keys = sum(config.integer(name, high=MAX_HIDDEN) for name in ("qk_nope_dim", "qk_rope_dim"))
    values = config.integer("v_channels", high=MAX_HIDDEN)
    sinks = config.integer("param_sink_number", low=0, high=MAX_HIDDEN, default=0)
    config = config.with_values({"head_dim": keys, "v_head_dim": values})
    windows = _windows(config)
    layers = []
    for index in range(dims.layers):
        layer = attention_layer(config, traits, dims.hidden, windows[index % len(windows)])
        layers.append(_with_sinks(layer, sinks))
    return assemble(config, traits, dims, layers)


def _with_sinks(layer: Layer, sinks: int) -> Layer:
    """Return a layer with learned keys and values in front of every prompt."""
    attention = layer.attention
    each = attention.kv_heads * (attention.head_dim + attention.value_head_dim)
    return replace(layer, extra_parameters=layer.extra_parameters + sinks * each)


def _windows(config: ConfigReader) -> list[int | None]:
    stated = config.values.get("interleaved_sliding_window")
    listed = stated if isinstance(stated, list) and stated else [stated]
    return [
        window if isinstance(window, int) and 0 < window < MAX_CONTEXT else None
        for window in listed
    ]
