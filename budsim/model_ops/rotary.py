"""Counts the tables of sines and cosines that engines compute for rotary positions when they load a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from budsim.model_ops.architecture import Attention, AttentionKind
from budsim.model_ops.families.body import Body
from budsim.model_ops.fields import MAX_HIDDEN, Fields

MAX_FACTOR: Final = 4096.0


def rotary_values(text: Fields, body: Body) -> int:
    """Return the values of a model's rotary tables: the turned part of a head for every position.

    vLLM 0.32 ``layers/rotary_embedding``: layers of one base share a table of ``max_position_embeddings`` rows, whatever the
    longest sequence served; linear scaling makes it longer, the other kinds stretch to the context config.json states. Layers
    with a base of their own (``rope_local_base_freq``) have another, unscaled; so have heads of another width, where
    ``rope_parameters`` are by kind of layer. ``rotary_dim`` is what is turned, whatever share is stated beside it.

    Parameters
    ----------
    text : Fields
        The text model's part of config.json.
    body : Body
        The shape read from it; models of learned positions have no tables.
    """
    turning = [
        layer.attention for layer in body.layers if layer.attention.kind is not AttentionKind.LINEAR
    ]
    if body.positions or not turning:
        return 0
    kinds = text.nested("rope_parameters")
    if kinds and isinstance(kinds.raw("sliding_attention")[1], Mapping):
        return body.context * sum({_turned(attention) for attention in turning})
    widest = max(_turned(attention) for attention in turning)
    share = kinds if kinds and kinds.has("partial_rotary_factor") else text
    turned = widest * share.number("partial_rotary_factor", default=1.0, high=1.0)
    width = text.integer("rotary_dim", high=MAX_HIDDEN, default=round(turned))
    tables = _linear_factor(text) + text.has(
        "rope_local_base_freq", "swa_rope_theta", "compress_rope_theta"
    )
    return round(body.context * width * tables)


def _turned(attention: Attention) -> int:
    return attention.rope_head_dim or attention.head_dim


def _linear_factor(text: Fields) -> float:
    scaling = text.nested("rope_scaling")
    if scaling is None or "linear" not in {
        scaling.values.get("rope_type"),
        scaling.values.get("type"),
    }:
        return 1.0
    return scaling.number("factor", default=1.0, high=MAX_FACTOR)
