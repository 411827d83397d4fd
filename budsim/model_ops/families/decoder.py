"""Decoder-only transformers, dense or with experts, of grouped or multi-head latent attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from budsim.model_ops.config_reader import (
    MAX_CONTEXT,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCABULARY,
    ConfigReader,
)
from budsim.model_ops.families.attention import (
    attention_extra_parameters,
    latent_extra_parameters,
    read_attention,
    read_latent_attention,
)
from budsim.model_ops.families.feed_forward import (
    feed_forward_biases,
    layers_with_experts,
    read_dense,
    read_experts,
)
from budsim.model_ops.families.sliding_windows import read_windows
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits

HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
VOCABULARY = ("vocab_size", "padded_vocab_size")
CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "seq_length",
    "max_seq_len",
    "model_max_length",
    "max_sequence_length",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The numbers every decoder has."""

    hidden: int
    layers: int
    vocabulary: int
    context: int


def read_dimensions(config: ConfigReader) -> Dimensions:
    """Return hidden size, layer count, vocabulary and context."""
    return Dimensions(
        hidden=config.integer(*HIDDEN, high=MAX_HIDDEN),
        layers=config.integer(*LAYERS, high=MAX_LAYERS),
        vocabulary=config.integer(*VOCABULARY, high=MAX_VOCABULARY),
        context=config.integer(*CONTEXT, high=MAX_CONTEXT),
    )


def read_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of grouped attention, with experts where the traits say so."""
    dims = read_dimensions(config)
    windows = read_windows(
        config, dims.layers, dims.context, pattern=traits.window_pattern, default=traits.windowed
    )
    return assemble(
        config,
        traits,
        dims,
        [attention_layer(config, traits, dims.hidden, window) for window in windows],
    )


def read_latent_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of multi-head latent attention.

    DeepSeek V2 and later, Kimi K2, GLM-5, MiniCPM3.
    """
    dims = read_dimensions(config)
    indexed = config.has("index_topk")
    # GLM-5.2 indexes in some layers; the others use the latest index before them.
    types = config.texts("indexer_types", count=dims.layers) or ("full",) * dims.layers
    attentions = [
        read_latent_attention(config, indexed=indexed, shares_index=kind == "shared")
        for kind in types
    ]
    layers = [
        Layer(
            attention=attention,
            extra_parameters=latent_extra_parameters(config, attention, dims.hidden),
        )
        for attention in attentions
    ]
    return assemble(config, traits, dims, layers)


def attention_layer(
    config: ConfigReader, traits: FamilyTraits, hidden: int, window: int | None = None
) -> Layer:
    """Return a layer of grouped attention whose feed-forward part is yet to be read."""
    attention = replace(read_attention(config, hidden, window), output_gate=traits.output_gate)
    extra = attention_extra_parameters(config, traits, attention, hidden)
    extra += attention.heads * hidden * traits.head_gate
    return Layer(attention=attention, extra_parameters=extra)


def assemble(
    config: ConfigReader, traits: FamilyTraits, dims: Dimensions, layers: Sequence[Layer]
) -> TextModel:
    """Return the decoder of ``layers``, to which feed-forward parts and norms are added."""
    has_experts = (
        layers_with_experts(config, dims.layers) if traits.experts else (False,) * dims.layers
    )
    return surround(
        config,
        traits,
        dims,
        [
            _with_feed_forward(config, traits, dims.hidden, layer, has_experts=sparse)
            for layer, sparse in zip(layers, has_experts, strict=True)
        ],
    )


def surround(
    config: ConfigReader, traits: FamilyTraits, dims: Dimensions, layers: Sequence[Layer]
) -> TextModel:
    """Return the decoder of complete ``layers``: token table, positions, final norm and head."""
    norms = (traits.final_norm + traits.embedding_norm) * dims.hidden * traits.norm_values
    return TextModel(
        hidden=dims.hidden,
        vocabulary=dims.vocabulary,
        context=dims.context,
        layers=layers,
        tied=config.flag("tie_word_embeddings", default=traits.tied),
        extra_parameters=norms + dims.vocabulary * traits.head_bias,
        positions=0 if traits.positions is None else dims.context + traits.positions,
    )


def _with_feed_forward(
    config: ConfigReader, traits: FamilyTraits, hidden: int, layer: Layer, *, has_experts: bool
) -> Layer:
    extra = layer.extra_parameters + traits.norms * traits.norm_values * hidden
    if has_experts:
        feed_forward = read_experts(config, gated=traits.gated)
        # One scalar gate weighs all shared experts together (Qwen2-MoE).
        extra += hidden * (traits.shared_gate and feed_forward.shared_width > 0)
        extra += feed_forward.experts * traits.router_bias
        has_biases = traits.expert_bias
    else:
        feed_forward = read_dense(config, traits, hidden)
        has_biases = config.flag(traits.ff_bias[0], default=traits.ff_bias[1])
    extra += feed_forward_biases(feed_forward, hidden) * has_biases
    return replace(layer, feed_forward=feed_forward, extra_parameters=extra)
