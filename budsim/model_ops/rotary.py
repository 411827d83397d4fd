"""Counts the tables of sines and cosines that engines compute for rotary positions at load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, ConfigReader
from budsim.model_ops.families.text_model import TextModel
from budsim.model_ops.layers import Attention, AttentionKind

MAX_FACTOR: Final = 4096.0
# Fields that give some layers another base, and with it a second table.
OTHER_BASES: Final = ("rope_local_base_freq", "swa_rope_theta", "compress_rope_theta")


def rotary_values(text: ConfigReader, model: TextModel) -> int:
    """Return the values of a model's rotary tables: the rotated part of a head for every position.

    Source: vLLM 0.32 ``layers/rotary_embedding``.

    * Layers of one base share a table of ``max_position_embeddings`` rows, whatever the longest
      sequence served. Linear scaling makes it longer; other kinds stretch to the context that
      config.json states.
    * Layers with a base of their own (``rope_local_base_freq``) have a second table, unscaled.
    * Where ``rope_parameters`` are stated for each kind of layer, each width of head has a table.
    * ``rotary_dim`` states the rotated width, whatever ``partial_rotary_factor`` stands beside it.

    Parameters
    ----------
    text : ConfigReader
        The text model's part of config.json.
    model : TextModel
        The shape read from it; models of learned positions have no tables.
    """
    rotating = _rotating_attention(model)
    # Learned positions are weights, and linear layers rotate nothing.
    if model.positions or not rotating:
        return 0
    kinds = text.nested("rope_parameters")
    # Gemma 4: heads of full and windowed layers differ in width.
    if kinds and isinstance(kinds.raw("sliding_attention")[1], Mapping):
        return model.context * sum({_rotated_width(attention) for attention in rotating})
    widest = max(_rotated_width(attention) for attention in rotating)
    place = kinds if kinds and kinds.has("partial_rotary_factor") else text
    rotated = widest * place.number("partial_rotary_factor", default=1.0, high=1.0)
    width = text.integer("rotary_dim", high=MAX_HIDDEN, default=round(rotated))
    tables = _linear_factor(text) + text.has(*OTHER_BASES)
    return round(model.context * width * tables)


def _rotating_attention(model: TextModel) -> list[Attention]:
    """Return the attention of every layer that is not linear."""
    return [
        layer.attention
        for layer in model.layers
        if layer.attention.kind is not AttentionKind.LINEAR
    ]


def _rotated_width(attention: Attention) -> int:
    return attention.rope_head_dim or attention.head_dim


def _linear_factor(text: ConfigReader) -> float:
    scaling = text.nested("rope_scaling")
    if scaling is None:
        return 1.0
    if "linear" not in {scaling.values.get("rope_type"), scaling.values.get("type")}:
        return 1.0
    return scaling.number("factor", default=1.0, high=MAX_FACTOR)
