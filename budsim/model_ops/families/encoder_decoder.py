"""Encoder-decoder transformers: those of the T5 kind, and Whisper's decoder."""

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


def read_whisper(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Whisper's decoder, which reads the positions of its encoder by cross-attention.

    The encoder is a tower (`budsim.model_ops.towers`): it runs once for each sound. Its positions
    stand in the context before the text, because their keys and values are kept as long.
    """
    hidden = config.integer("d_model", high=MAX_HIDDEN)
    heads = config.integer("decoder_attention_heads", high=MAX_HEADS)
    width = hidden // heads
    attention = Attention(
        kind=AttentionKind.FULL, heads=heads, kv_heads=heads, head_dim=width, value_head_dim=width
    )
    ff = FeedForward(width=config.integer("decoder_ffn_dim", high=MAX_WIDTH), gated=False)
    # Biases of queries, values and outputs twice, of both wide matrices, and three norms.
    small = 6 * hidden + ff.width + hidden + 6 * hidden
    layer = Layer(
        attention=attention, feed_forward=ff, extra_parameters=small, cross_attention=attention
    )
    text = config.integer("max_target_positions", high=MAX_CONTEXT, default=448)
    return TextModel(
        hidden=hidden,
        vocabulary=config.integer("vocab_size", high=MAX_VOCABULARY),
        context=text + config.integer("max_source_positions", high=MAX_CONTEXT, default=1_500),
        layers=[layer] * config.integer("decoder_layers", high=MAX_LAYERS),
        tied=config.flag("tie_word_embeddings", default=traits.tied),
        extra_parameters=2 * hidden,
        positions=text,
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
