"""Decoder-only transformers: dense or with experts, grouped or multi-head latent attention, full or windowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Attention, AttentionKind, FeedForward
from budsim.model_ops.families.body import Body, Layer, attention_biases, feed_forward_biases
from budsim.model_ops.families.experts import expert_layer, expert_layers
from budsim.model_ops.families.windows import kind_of, windows
from budsim.model_ops.fields import (
    MAX_CONTEXT,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    Fields,
)

HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "attention_heads")
KV_HEADS = (
    "num_attention_groups",
    "num_key_value_heads",
    "num_kv_heads",
    "multi_query_group_num",
    "n_head_kv",
)
HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim", "d_kv")
WIDTH = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
VOCABULARY = ("vocab_size", "padded_vocab_size")
CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "seq_length",
    "max_seq_len",
    "model_max_length",
    "max_sequence_length",
)


class QkNorm(StrEnum):
    """Norms on queries and keys: none, one of a head's width shared by all heads, or one as wide as the projection."""

    NONE = "none"
    HEAD = "head"
    PROJECTION = "projection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a family's modelling code does that its config need not say; flags the config does say win.

    ``norm_values`` is 1 for RMS or bias-free layer norms, 2 with bias, 0 for norms without weights. The bias fields name the
    config flag that decides and hold its default. ``width_factor`` is the feed-forward width in hidden sizes where the config
    is silent. ``windowed`` is whether a declared window applies when ``use_sliding_window`` is absent.
    """

    norm_values: int = 1
    norms: int = 2
    gated: bool = True
    qkv_bias: tuple[str, bool] = ("attention_bias", False)
    out_bias: tuple[str, bool] = ("attention_bias", False)
    ff_bias: tuple[str, bool] = ("mlp_bias", False)
    qk_norm: QkNorm = QkNorm.NONE
    qk_norm_flag: tuple[str, bool] = ("", True)
    tied: bool = False
    head_bias: bool = False
    positions: int | None = None
    embedding_norm: bool = False
    final_norm: bool = True
    width_factor: int = 0
    window_pattern: int = 0
    windowed: bool = True
    experts: bool = False
    shared_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    sinks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The numbers every decoder has."""

    hidden: int
    layers: int
    vocabulary: int
    context: int


def size(fields: Fields) -> Size:
    """Return hidden size, layer count, vocabulary and context."""
    return Size(
        hidden=fields.integer(*HIDDEN, high=MAX_HIDDEN),
        layers=fields.integer(*LAYERS, high=MAX_LAYERS),
        vocabulary=fields.integer(*VOCABULARY, high=MAX_VOCABULARY),
        context=fields.integer(*CONTEXT, high=MAX_CONTEXT),
    )


def grouped_attention(fields: Fields, hidden: int, window: int | None = None) -> Attention:
    """Return multi-head, grouped-query or multi-query attention.

    Raises
    ------
    InvalidInput
        Head counts that do not divide each other or the hidden size.
    """
    heads = fields.integer(*HEADS, high=MAX_HEADS)
    kv_heads = fields.integer(*KV_HEADS, high=MAX_HEADS, default=heads)
    if heads % kv_heads:
        raise InvalidInput(
            fields.path(fields.raw(*KV_HEADS)[0]),
            f"{kv_heads} for {heads} heads",
            f"a divisor of {heads}",
        )
    if not fields.has(*HEAD_DIM) and hidden % heads:
        raise InvalidInput(
            fields.path(fields.raw(*HEADS)[0]),
            f"{heads} for hidden size {hidden}",
            f"a divisor of {hidden}",
        )
    head_dim = fields.integer(*HEAD_DIM, high=MAX_HIDDEN, default=hidden // heads)
    return Attention(
        kind=kind_of(window),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_head_dim=fields.integer("v_head_dim", high=MAX_HIDDEN, default=head_dim),
        window=window,
    )


def decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of grouped attention, with experts where the style says so."""
    shape = size(fields)
    spans = windows(
        fields, shape.layers, shape.context, pattern=style.window_pattern, default=style.windowed
    )
    mixers = [grouped_attention(fields, shape.hidden, span) for span in spans]
    return body(
        fields,
        style,
        shape,
        [(mixer, grouped_extra(fields, style, mixer, shape.hidden)) for mixer in mixers],
    )


def grouped_extra(fields: Fields, style: Style, attention: Attention, hidden: int) -> int:
    """Return the biases, query-key norms and sinks of one layer's grouped attention."""
    biases = attention_biases(
        attention,
        hidden,
        qkv=fields.flag(style.qkv_bias[0], default=style.qkv_bias[1]),
        out=fields.flag(style.out_bias[0], default=style.out_bias[1]),
    )
    return biases + _qk_norm_values(fields, style, attention) + attention.heads * style.sinks


def body(
    fields: Fields, style: Style, shape: Size, mixers: Sequence[tuple[Attention, int]]
) -> Body:
    """Return the decoder around ``mixers``: each layer's attention and its small weights."""
    has_experts = expert_layers(fields, shape.layers) if style.experts else (False,) * shape.layers
    layers = [
        _layer(fields, style, shape.hidden, attention, small, sparse)
        for (attention, small), sparse in zip(mixers, has_experts, strict=True)
    ]
    norm = shape.hidden * style.norm_values
    return Body(
        hidden=shape.hidden,
        vocabulary=shape.vocabulary,
        context=shape.context,
        layers=layers,
        tied=fields.flag("tie_word_embeddings", default=style.tied),
        extra=norm * (style.final_norm + style.embedding_norm) + shape.vocabulary * style.head_bias,
        positions=0 if style.positions is None else shape.context + style.positions,
    )


def mla_attention(
    fields: Fields, *, indexed: bool = False, shares_index: bool = False
) -> Attention:
    """Return multi-head latent attention, with the sparse indexer of DeepSeek V3.2 when ``indexed``.

    A layer that ``shares_index`` with an earlier one attends as sparsely and stores no index of its own.
    """
    heads = fields.integer(*HEADS, high=MAX_HEADS)
    own_index = indexed and not shares_index
    return Attention(
        kind=AttentionKind.MLA,
        heads=heads,
        kv_heads=heads,
        head_dim=fields.integer("qk_nope_head_dim", high=MAX_HIDDEN),
        value_head_dim=fields.integer("v_head_dim", high=MAX_HIDDEN),
        q_lora_rank=fields.integer("q_lora_rank", low=0, high=MAX_HIDDEN, default=0) or None,
        kv_lora_rank=fields.integer("kv_lora_rank", high=MAX_HIDDEN),
        rope_head_dim=fields.integer("qk_rope_head_dim", high=MAX_HIDDEN),
        index_heads=fields.integer("index_n_heads", high=MAX_HEADS) if own_index else 0,
        index_head_dim=fields.integer("index_head_dim", high=MAX_HIDDEN) if own_index else 0,
        index_topk=fields.integer("index_topk", high=MAX_CONTEXT) if indexed else None,
    )


def latent_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder of multi-head latent attention (DeepSeek V2 and later, Kimi K2, GLM-5, MiniCPM3)."""
    shape = size(fields)
    indexed = fields.has("index_topk")
    types = fields.texts("indexer_types", count=shape.layers) or ("full",) * shape.layers
    mixers = [
        mla_attention(fields, indexed=indexed, shares_index=kind == "shared") for kind in types
    ]
    return body(
        fields,
        style,
        shape,
        [(mixer, latent_extra(fields, mixer, shape.hidden)) for mixer in mixers],
    )


def latent_extra(fields: Fields, attention: Attention, hidden: int) -> int:
    """Return the norms and biases of one layer's latent attention."""
    norms = (attention.q_lora_rank or 0) + attention.kv_lora_rank + 2 * attention.index_head_dim
    biased = fields.flag("attention_bias", default=False)
    return norms + biased * (
        (attention.q_lora_rank or 0) + attention.kv_lora_rank + attention.rope_head_dim + hidden
    )


def _layer(
    fields: Fields, style: Style, hidden: int, attention: Attention, small: int, sparse: bool
) -> Layer:
    feed_forward = (
        expert_layer(fields, gated=style.gated) if sparse else dense_layer(fields, style, hidden)
    )
    extra = small + style.norms * style.norm_values * hidden
    if sparse:
        extra += (
            hidden * (style.shared_gate and feed_forward.shared_width > 0)
            + feed_forward.experts * style.router_bias
        )
    if style.expert_bias if sparse else fields.flag(style.ff_bias[0], default=style.ff_bias[1]):
        extra += feed_forward_biases(feed_forward, hidden)
    return Layer(attention=attention, feed_forward=feed_forward, extra=extra)


def dense_layer(fields: Fields, style: Style, hidden: int) -> FeedForward:
    """Return the feed-forward part of a layer without experts."""
    default = style.width_factor * hidden or None
    names = ("intermediate_size_mlp", "dense_intermediate_size", *WIDTH) if style.experts else WIDTH
    return FeedForward(
        width=fields.integer(*names, high=MAX_WIDTH, default=default), gated=style.gated
    )


def _qk_norm_values(fields: Fields, style: Style, attention: Attention) -> int:
    name, default = style.qk_norm_flag
    if style.qk_norm is QkNorm.NONE or not (fields.flag(name, default=default) if name else True):
        return 0
    if style.qk_norm is QkNorm.HEAD:
        return 2 * attention.head_dim
    return (attention.heads + attention.kv_heads) * attention.head_dim
