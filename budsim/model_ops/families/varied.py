"""Decoders whose windowed layers have other heads than those that see everything: Gemma 4, MiMo V2, Step 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.architecture import Attention
from budsim.model_ops.families.body import Body
from budsim.model_ops.families.decoder import (
    Size,
    Style,
    body,
    grouped_attention,
    grouped_extra,
    size,
)
from budsim.model_ops.families.windows import windows
from budsim.model_ops.fields import Fields

GEMMA4_GLOBAL_HEAD_DIM: Final = 512
"""transformers 5.24 ``Gemma4TextConfig``, where the config is silent."""


def gemma4_decoder(fields: Fields, style: Style) -> Body:
    """Return Gemma 4: wide heads where a layer sees everything; experts, if any, beside a dense part that every token visits.

    Raises
    ------
    UnsupportedModel
        Layers that share a cache or take inputs of their own (E2B, E4B): what engines hold of them is not known here.
    """
    for name in ("num_kv_shared_layers", "hidden_size_per_layer_input"):
        if fields.values.get(name, 0):
            raise fields.unsupported(
                name, repr(fields.values[name]), "0: layers that share nothing"
            )
    whole = {"head_dim": fields.values.get("global_head_dim") or GEMMA4_GLOBAL_HEAD_DIM}
    if fields.flag("attention_k_eq_v", default=False) and fields.has("num_global_key_value_heads"):
        whole["num_key_value_heads"] = fields.values["num_global_key_value_heads"]
    if fields.flag("enable_moe_block", default=False):
        beside = _changed(
            fields, {"shared_expert_intermediate_size": fields.values.get("intermediate_size")}
        )
        return _varied(beside, replace(style, experts=True, norms=7), whole, {})
    return _varied(fields, style, whole, {})


def mimo_decoder(fields: Fields, style: Style) -> Body:
    """Return MiMo V2: more key-value heads, and sinks, in the windowed layers, which ``hybrid_layer_pattern`` marks with 1."""
    shape = size(fields)
    marked = fields.integers("hybrid_layer_pattern", count=shape.layers, high=1)
    kinds = ["sliding_attention" if one else "full_attention" for one in marked or ()]
    names = ("num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim")
    windowed = {name: fields.values[f"swa_{name}"] for name in names if fields.has(f"swa_{name}")}
    typed = _changed(fields, {"layer_types": kinds} if kinds else {})
    return _varied(
        typed, style, {}, windowed, sinks=fields.flag("add_swa_attention_sink_bias", default=False)
    )


def step_decoder(fields: Fields, style: Style) -> Body:
    """Return Step 3.5 and 3.7: windowed layers have the heads of ``attention_other_setting``; a scalar gates each head."""
    other = fields.nested("attention_other_setting")
    windowed = (
        {name: other.values[name] for name in ("num_attention_heads", "num_attention_groups")}
        if other is not None
        else {}
    )
    listed = fields.text("moe_layers_enum")
    sparse = {int(item) for item in listed.split(",") if item.strip().isdigit()}
    layers = size(fields).layers
    pattern = (
        {"mlp_layer_types": ["sparse" if index in sparse else "dense" for index in range(layers)]}
        if sparse
        else {}
    )
    shared = (
        {"shared_expert_intermediate_size": fields.values["share_expert_dim"]}
        if fields.has("share_expert_dim")
        else {}
    )
    kinds = fields.values.get("layer_types")
    cut = {"layer_types": kinds[:layers]} if isinstance(kinds, list) else {}
    return _varied(
        _changed(fields, {**pattern, **shared, **cut}), style, {}, windowed, gated_heads=True
    )


def _varied(
    fields: Fields,
    style: Style,
    whole: Mapping[str, object],
    windowed: Mapping[str, object],
    *,
    sinks: bool = False,
    gated_heads: bool = False,
) -> Body:
    """Return a decoder whose full layers read ``fields`` with ``whole`` in place of theirs, the others with ``windowed``."""
    shape = size(fields)
    mixers = []
    for span in windows(
        fields, shape.layers, shape.context, pattern=style.window_pattern, default=style.windowed
    ):
        own = _changed(fields, whole if span is None else windowed)
        attention = grouped_attention(own, shape.hidden, span)
        small = grouped_extra(own, style, attention, shape.hidden) + attention.heads * (
            sinks and span is not None
        )
        mixers.append((attention, small + _gates(attention, shape) * gated_heads))
    return body(fields, style, shape, mixers)


def _gates(attention: Attention, shape: Size) -> int:
    return attention.heads * shape.hidden


def _changed(fields: Fields, values: Mapping[str, object]) -> Fields:
    return Fields({**fields.values, **values}, fields.prefix)
