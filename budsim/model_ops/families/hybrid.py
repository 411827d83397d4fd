"""Decoders that mix attention with layers of fixed-size state: delta networks, Mamba-2, lightning attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Attention, AttentionKind, FeedForward
from budsim.model_ops.families.body import Body, Layer
from budsim.model_ops.families.decoder import (
    Style,
    body,
    dense_layer,
    grouped_attention,
    grouped_extra,
    latent_extra,
    mla_attention,
    size,
)
from budsim.model_ops.families.experts import expert_layer
from budsim.model_ops.families.windows import layer_types
from budsim.model_ops.fields import MAX_HEADS, MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, Fields

BLOCKS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def delta_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of gated delta layers with gated full attention in between (Qwen3-Next, Qwen3.5)."""
    shape = size(fields)
    every = fields.integer("full_attention_interval", high=MAX_LAYERS, default=4)
    kinds = layer_types(fields, shape.layers) or tuple(
        "linear_attention" if (index + 1) % every else "full_attention"
        for index in range(shape.layers)
    )
    full = replace(
        grouped_attention(fields, shape.hidden),
        output_gate=fields.flag("attn_output_gate", default=True),
    )
    linear = _delta_attention(fields)
    full_extra, linear_extra = (
        grouped_extra(fields, style, full, shape.hidden),
        _delta_extra(linear),
    )
    mixers = [
        (linear, linear_extra) if kind == "linear_attention" else (full, full_extra)
        for kind in kinds
    ]
    return body(fields, style, shape, mixers)


def lightning_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of lightning attention with full attention in between (MiniMax-Text-01, MiniMax-M1)."""
    shape = size(fields)
    declared = fields.integers("attn_type_list", count=shape.layers, high=1)
    kinds = tuple("full_attention" if kind else "linear_attention" for kind in declared or ())
    kinds = kinds or layer_types(fields, shape.layers)
    if not kinds:
        raise InvalidInput(
            fields.path("attn_type_list"), "missing", f"a list of {shape.layers} zeros and ones"
        )
    full = grouped_attention(fields, shape.hidden)
    linear = replace(
        full, kind=AttentionKind.LINEAR, kv_heads=full.heads, output_gate=True, gates_per_head=0
    )
    mixers = [
        (linear, full.heads * full.head_dim) if kind == "linear_attention" else (full, 0)
        for kind in kinds
    ]
    return body(fields, style, shape, mixers)


def mamba_pattern_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder whose layers are a Mamba-2 block, attention, a dense or an expert block each (Nemotron-H).

    A feed-forward block joins the mixing layer before it, so that ``layers`` counts mixing layers.
    """
    fields = _with_pattern(fields)
    shape = size(fields)
    pattern = fields.text("hybrid_override_pattern")
    if len(pattern) != shape.layers or set(pattern) - set("M*-E") or pattern[:1] not in {"M", "*"}:
        raise InvalidInput(
            fields.path("hybrid_override_pattern"),
            repr(pattern[:40]),
            f"{shape.layers} of the letters M * - E, mixing first",
        )
    layers = tuple(_joined(_pattern_layers(fields, style, shape.hidden, pattern)))
    tied = fields.flag("tie_word_embeddings", default=style.tied)
    return Body(
        hidden=shape.hidden,
        vocabulary=shape.vocabulary,
        context=shape.context,
        layers=layers,
        tied=tied,
        extra=shape.hidden,
    )


def kimi_delta_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of Kimi delta layers with latent attention in between (Kimi Linear, Kimi K3)."""
    shape, settings = size(fields), fields.nested("linear_attn_config")
    marked = settings.values.get("kda_layers") if settings else None
    if settings is None or not isinstance(marked, list):
        raise InvalidInput(
            fields.path("linear_attn_config.kda_layers"),
            "missing",
            "the numbers of the delta layers, from 1",
        )
    latent = replace(
        mla_attention(fields), output_gate=fields.flag("mla_use_output_gate", default=False)
    )
    linear, small = _kimi_delta(settings, shape.hidden)
    mixers = [
        (linear, small)
        if index + 1 in marked
        else (latent, latent_extra(fields, latent, shape.hidden))
        for index in range(shape.layers)
    ]
    return body(fields, style, shape, mixers)


def jamba_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of Mamba-1 layers with attention in between, and experts in every so-maniest layer (Jamba)."""
    shape = size(fields)
    full = grouped_attention(fields, shape.hidden)
    mamba, small = _mamba1(fields, shape.hidden)
    every, first = (
        fields.integer(f"attn_layer_{name}", low=0, high=MAX_LAYERS)
        for name in ("period", "offset")
    )
    mixers = [
        (full, 0) if index % max(every, 1) == first else (mamba, small)
        for index in range(shape.layers)
    ]
    period, offset = (
        fields.integer(f"expert_layer_{name}", low=0, high=MAX_LAYERS)
        for name in ("period", "offset")
    )
    kinds = [
        "sparse" if index % max(period, 1) == offset else "dense" for index in range(shape.layers)
    ]
    return body(
        Fields({**fields.values, "mlp_layer_types": kinds}, fields.prefix), style, shape, mixers
    )


def mamba_layered_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of Mamba-2 and attention layers, each with a feed-forward part (Granite 4 hybrids)."""
    shape = size(fields)
    kinds = layer_types(fields, shape.layers)
    if not kinds:
        raise InvalidInput(fields.path("layer_types"), "missing", f"a list of {shape.layers} kinds")
    full = grouped_attention(fields, shape.hidden)
    mamba, small = _mamba(fields, shape.hidden)
    full_extra = grouped_extra(fields, style, full, shape.hidden)
    mixers = [
        (mamba, small) if kind in {"mamba", "linear_attention"} else (full, full_extra)
        for kind in kinds
    ]
    return body(fields, replace(style, experts=fields.has("num_local_experts")), shape, mixers)


def join(first: FeedForward | None, second: FeedForward) -> FeedForward:
    """Return one dense layer with the weights and work of two in a row: their widths add up."""
    if first is None:
        return second
    return replace(first, width=first.width + second.width)


def _delta_attention(fields: Fields) -> Attention:
    heads = fields.integer("linear_num_value_heads", high=MAX_HEADS)
    return Attention(
        kind=AttentionKind.LINEAR,
        heads=heads,
        kv_heads=fields.integer("linear_num_key_heads", high=MAX_HEADS),
        head_dim=fields.integer("linear_key_head_dim", high=MAX_HIDDEN),
        value_head_dim=fields.integer("linear_value_head_dim", high=MAX_HIDDEN),
        conv_kernel=fields.integer("linear_conv_kernel_dim", high=MAX_HIDDEN),
        output_gate=True,
        state_value_bytes=_state_value_bytes(
            fields, "float32" if fields.text("model_type").startswith("qwen3_5") else ""
        ),
    )


def _kimi_delta(settings: Fields, hidden: int) -> tuple[Attention, int]:
    """Return a delta layer with a decay for every channel, and its gates' small weights (vLLM 0.33 ``kimi_gdn_linear_attn``)."""
    heads, width = (
        settings.integer("num_heads", high=MAX_HEADS),
        settings.integer("head_dim", high=MAX_HIDDEN),
    )
    linear = Attention(
        kind=AttentionKind.LINEAR,
        heads=heads,
        kv_heads=heads,
        head_dim=width,
        value_head_dim=width,
        conv_kernel=settings.integer("short_conv_kernel_size", high=MAX_HIDDEN),
        output_gate=settings.flag("use_full_rank_gate", default=False),
        gates_per_head=1,
        state_value_bytes=4,
    )
    low_rank = (1 if linear.output_gate else 2) * width * (hidden + heads * width)
    return linear, low_rank + 3 * heads * width * linear.conv_kernel + heads * width + heads + width


def _delta_extra(linear: Attention) -> int:
    return _channels(linear) * linear.conv_kernel + 2 * linear.heads + linear.value_head_dim


def _mamba(fields: Fields, hidden: int) -> tuple[Attention, int]:
    heads = fields.integer("mamba_num_heads", "mamba_n_heads", high=MAX_HEADS)
    mamba = Attention(
        kind=AttentionKind.LINEAR,
        heads=heads,
        kv_heads=fields.integer("n_groups", "mamba_n_groups", high=MAX_HEADS),
        head_dim=fields.integer("ssm_state_size", "mamba_d_state", high=MAX_HIDDEN),
        value_head_dim=fields.integer("mamba_head_dim", "mamba_d_head", high=MAX_HIDDEN),
        conv_kernel=fields.integer("conv_kernel", "mamba_d_conv", high=MAX_HIDDEN),
        output_gate=True,
        gates_per_head=1,
        state_value_bytes=_state_value_bytes(fields, ""),
    )
    values = heads * mamba.value_head_dim
    conv_bias = fields.flag("use_conv_bias", "mamba_conv_bias", default=True)
    projection_bias = fields.flag("mamba_proj_bias", default=False) * (
        values + _channels(mamba) + heads + hidden
    )
    return mamba, _channels(mamba) * (
        mamba.conv_kernel + conv_bias
    ) + 3 * heads + values + projection_bias


def _mamba1(fields: Fields, hidden: int) -> tuple[Attention, int]:
    """Return a Mamba-1 block as a linear layer of one-value heads, and its other weights (transformers modeling_jamba.py)."""
    inner = hidden * fields.integer("mamba_expand", high=64)
    state, rank = (
        fields.integer("mamba_d_state", high=MAX_HIDDEN),
        fields.integer("mamba_dt_rank", high=MAX_HIDDEN),
    )
    mamba = Attention(
        kind=AttentionKind.LINEAR,
        heads=inner,
        kv_heads=1,
        head_dim=state,
        value_head_dim=1,
        conv_kernel=fields.integer("mamba_d_conv", high=MAX_HIDDEN),
        output_gate=True,
        gates_per_head=0,
    )
    steps = inner * (rank + 2 * state) + (rank + 1) * inner + rank + 2 * state - 2 * state * hidden
    return mamba, steps + inner * (mamba.conv_kernel + 1) + inner * (state + 1)


def _state_value_bytes(fields: Fields, default: str) -> int:
    """Return what the configuration asks of the recurrent state: 16 bit unless it says fp32, as Qwen3.5's published ones do."""
    asked = fields.text(
        "mamba_ssm_cache_dtype", default=fields.text("mamba_ssm_dtype", default=default)
    )
    return 4 if asked == "float32" else 2


def _channels(linear: Attention) -> int:
    return 2 * linear.kv_heads * linear.head_dim + linear.heads * linear.value_head_dim


def _pattern_layers(
    fields: Fields, style: Style, hidden: int, pattern: str
) -> Iterator[Layer | tuple[FeedForward, int]]:
    mamba, small = _mamba(fields, hidden)
    full = grouped_attention(fields, hidden)
    full_extra = grouped_extra(fields, style, full, hidden)
    for letter in pattern:
        if letter == "M":
            yield Layer(attention=mamba, feed_forward=None, extra=small + hidden)
        elif letter == "*":
            yield Layer(attention=full, feed_forward=None, extra=full_extra + hidden)
        elif letter == "E":
            experts = expert_layer(fields, gated=False)
            yield experts, hidden + experts.experts
        else:
            width = fields.integer("intermediate_size", high=MAX_WIDTH)
            yield replace(dense_layer(fields, style, hidden), width=width), hidden


def _with_pattern(fields: Fields) -> Fields:
    """Return the fields with the pattern and the number of layers, where they list ``layers_block_type`` instead."""
    blocks = fields.texts("layers_block_type")
    if not blocks:
        return fields
    if unknown := sorted(set(blocks) - set(BLOCKS)):
        raise fields.unsupported(
            "layers_block_type", f"unknown block {unknown[0]!r}", f"blocks among {sorted(BLOCKS)}"
        )
    pattern = "".join(BLOCKS[block] for block in blocks)
    return Fields(
        {**fields.values, "hybrid_override_pattern": pattern, "num_hidden_layers": len(blocks)},
        fields.prefix,
    )


def _joined(parts: Iterator[Layer | tuple[FeedForward, int]]) -> list[Layer]:
    layers: list[Layer] = []
    for part in parts:
        if isinstance(part, Layer):
            layers.append(part)
            continue
        feed_forward, extra = part
        last = layers[-1]
        layers[-1] = replace(
            last, feed_forward=join(last.feed_forward, feed_forward), extra=last.extra + extra
        )
    return layers
