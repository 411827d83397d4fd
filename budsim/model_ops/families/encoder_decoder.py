"""Encoder-decoder transformers of the T5 kind: T5, Flan-T5, UL2, mT5 and mT0."""

from __future__ import annotations

from budsim.model_ops.config_reader import (
    MAX_CONTEXT,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import Attention, AttentionKind, FeedForward


def read_t5(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a T5: RMS norms, and relative position biases in the first layer of each half.

    Positions are relative, so the context is the length the model was trained for.
    """
    hidden = config.integer("d_model", high=MAX_HIDDEN)
    attention = _read_attention(config)
    feed_forward = _read_feed_forward(config)
    encoders = config.integer("num_layers", high=MAX_LAYERS)
    decoders = config.integer("num_decoder_layers", high=MAX_LAYERS, default=encoders)
    buckets = config.integer("relative_attention_num_buckets", high=MAX_WIDTH, default=32)
    encoder = Layer(attention=attention, feed_forward=feed_forward, extra_parameters=2 * hidden)
    decoder = Layer(
        attention=attention,
        feed_forward=feed_forward,
        extra_parameters=3 * hidden,
        cross_attention=attention,
    )
    return TextModel(
        hidden=hidden,
        vocabulary=config.integer("vocab_size", high=MAX_VOCABULARY),
        context=config.integer(
            "max_position_embeddings", "n_positions", high=MAX_CONTEXT, default=512
        ),
        layers=[decoder] * decoders,
        encoder_layers=[encoder] * encoders,
        tied=config.flag("tie_word_embeddings", default=traits.tied),
        # One table of relative biases and one final norm for each half.
        extra_parameters=2 * buckets * attention.heads + 2 * hidden,
    )


def _read_attention(config: ConfigReader) -> Attention:
    heads = config.integer("num_heads", high=MAX_HEADS)
    width = config.integer("d_kv", high=MAX_HIDDEN)
    return Attention(
        kind=AttentionKind.FULL, heads=heads, kv_heads=heads, head_dim=width, value_head_dim=width
    )


def _read_feed_forward(config: ConfigReader) -> FeedForward:
    gated = config.text("feed_forward_proj", default="relu").startswith("gated")
    return FeedForward(width=config.integer("d_ff", high=MAX_WIDTH), gated=gated)
