"""Encoder-decoder transformers of the T5 kind: T5, Flan-T5, UL2, mT5 and mT0."""

from __future__ import annotations

from budsim.model_ops.architecture import Attention, AttentionKind, FeedForward
from budsim.model_ops.families.body import Body, Layer
from budsim.model_ops.families.decoder import Style
from budsim.model_ops.fields import (
    MAX_CONTEXT,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    Fields,
)


def t5(fields: Fields, style: Style) -> Body:
    """Return a T5: relative position biases in the first layer of each half, RMS norms, no other biases.

    Positions are relative, so the context is what the model was trained for, not what its tables hold.
    """
    hidden = fields.integer("d_model", high=MAX_HIDDEN)
    heads = fields.integer("num_heads", high=MAX_HEADS)
    width = fields.integer("d_kv", high=MAX_HIDDEN)
    attention = Attention(
        kind=AttentionKind.FULL, heads=heads, kv_heads=heads, head_dim=width, value_head_dim=width
    )
    gated = fields.text("feed_forward_proj", default="relu").startswith("gated")
    feed_forward = FeedForward(width=fields.integer("d_ff", high=MAX_WIDTH), gated=gated)
    encoders = fields.integer("num_layers", high=MAX_LAYERS)
    decoders = fields.integer("num_decoder_layers", high=MAX_LAYERS, default=encoders)
    buckets = fields.integer("relative_attention_num_buckets", high=MAX_WIDTH, default=32)
    encoder = Layer(attention=attention, feed_forward=feed_forward, extra=2 * hidden)
    decoder = Layer(
        attention=attention, feed_forward=feed_forward, extra=3 * hidden, cross_attention=attention
    )
    return Body(
        hidden=hidden,
        vocabulary=fields.integer("vocab_size", high=MAX_VOCABULARY),
        context=fields.integer(
            "max_position_embeddings", "n_positions", high=MAX_CONTEXT, default=512
        ),
        layers=[decoder] * decoders,
        encoder_layers=[encoder] * encoders,
        tied=fields.flag("tie_word_embeddings", default=style.tied),
        extra=2 * buckets * heads + 2 * hidden,
    )
