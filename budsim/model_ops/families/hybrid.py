"""Decoders that mix attention with layers of fixed-size state: gated delta networks, Mamba-2, lightning attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Attention, AttentionKind, FeedForward
from budsim.model_ops.families.body import Body, Layer
from budsim.model_ops.families.decoder import Style, body, dense_layer, grouped_attention, grouped_extra, size
from budsim.model_ops.families.experts import expert_layer
from budsim.model_ops.families.windows import layer_types
from budsim.model_ops.fields import MAX_HEADS, MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, Fields


def delta_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of gated delta layers with gated full attention in between (Qwen3-Next, Qwen3.5)."""
    shape = size(fields)
    every = fields.integer("full_attention_interval", high=MAX_LAYERS, default=4)
    kinds = layer_types(fields, shape.layers) or tuple(
        "linear_attention" if (index + 1) % every else "full_attention" for index in range(shape.layers)
    )
    full = replace(grouped_attention(fields, shape.hidden), output_gate=fields.flag("attn_output_gate", default=True))
    linear = _delta_attention(fields)
    full_extra, linear_extra = grouped_extra(fields, style, full, shape.hidden), _delta_extra(linear)
    mixers = [(linear, linear_extra) if kind == "linear_attention" else (full, full_extra) for kind in kinds]
    return body(fields, style, shape, mixers)


def lightning_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of lightning attention with full attention in between (MiniMax-Text-01, MiniMax-M1)."""
    shape = size(fields)
    declared = fields.integers("attn_type_list", count=shape.layers, high=1)
    kinds = tuple("full_attention" if kind else "linear_attention" for kind in declared or ())
    kinds = kinds or layer_types(fields, shape.layers)
    if not kinds:
        raise InvalidInput(fields.path("attn_type_list"), "missing", f"a list of {shape.layers} zeros and ones")
    full = grouped_attention(fields, shape.hidden)
    linear = replace(full, kind=AttentionKind.LINEAR, kv_heads=full.heads, output_gate=True, gates_per_head=0)
    mixers = [(linear, full.heads * full.head_dim) if kind == "linear_attention" else (full, 0) for kind in kinds]
    return body(fields, style, shape, mixers)


def mamba_pattern_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder whose layers are a Mamba-2 block, attention, a dense or an expert block each (Nemotron-H).

    A feed-forward block joins the mixing layer before it, so that ``layers`` counts mixing layers.
    """
    shape = size(fields)
    pattern = fields.text("hybrid_override_pattern")
    if len(pattern) != shape.layers or set(pattern) - set("M*-E") or pattern[:1] not in {"M", "*"}:
        raise InvalidInput(
            fields.path("hybrid_override_pattern"), repr(pattern[:40]), f"{shape.layers} of the letters M * - E, mixing first"
        )
    layers = tuple(_joined(_pattern_layers(fields, style, shape.hidden, pattern)))
    tied = fields.flag("tie_word_embeddings", default=style.tied)
    return Body(
        hidden=shape.hidden, vocabulary=shape.vocabulary, context=shape.context, layers=layers, tied=tied, extra=shape.hidden
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
    mixers = [(mamba, small) if kind in {"mamba", "linear_attention"} else (full, full_extra) for kind in kinds]
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
        state_value_bytes=_state_value_bytes(fields, "float32" if fields.text("model_type").startswith("qwen3_5") else ""),
    )


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
    projection_bias = fields.flag("mamba_proj_bias", default=False) * (values + _channels(mamba) + heads + hidden)
    return mamba, _channels(mamba) * (mamba.conv_kernel + conv_bias) + 3 * heads + values + projection_bias


def _state_value_bytes(fields: Fields, default: str) -> int:
    """Return what the configuration asks of the recurrent state: 16 bit unless it says fp32, as Qwen3.5's published ones do."""
    asked = fields.text("mamba_ssm_cache_dtype", default=fields.text("mamba_ssm_dtype", default=default))
    return 4 if asked == "float32" else 2


def _channels(linear: Attention) -> int:
    return 2 * linear.kv_heads * linear.head_dim + linear.heads * linear.value_head_dim


def _pattern_layers(fields: Fields, style: Style, hidden: int, pattern: str) -> Iterator[Layer | tuple[FeedForward, int]]:
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


def _joined(parts: Iterator[Layer | tuple[FeedForward, int]]) -> list[Layer]:
    layers: list[Layer] = []
    for part in parts:
        if isinstance(part, Layer):
            layers.append(part)
            continue
        feed_forward, extra = part
        last = layers[-1]
        layers[-1] = replace(last, feed_forward=join(last.feed_forward, feed_forward), extra=last.extra + extra)
    return layers
