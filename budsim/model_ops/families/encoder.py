"""Encoder-only models that turn a text into one vector: BERT and XLM-RoBERTa."""

from __future__ import annotations

from budsim.model_ops.architecture import FeedForward
from budsim.model_ops.families.body import Body, Layer, attention_biases, feed_forward_biases
from budsim.model_ops.families.decoder import CONTEXT, WIDTH, Style, grouped_attention, size
from budsim.model_ops.fields import MAX_CONTEXT, MAX_LAYERS, MAX_WIDTH, Fields


def bert(fields: Fields, style: Style) -> Body:
    """Return a BERT-like encoder: learned positions and token types, biases and layer norms everywhere, a pooler.

    RoBERTa's table holds two positions more than a text may have (padding index 1), which ``style.positions`` counts.
    """
    shape = size(fields)
    attention = grouped_attention(fields, shape.hidden)
    feed_forward = FeedForward(width=fields.integer(*WIDTH, high=MAX_WIDTH), gated=False)
    biases = attention_biases(attention, shape.hidden, qkv=True, out=True) + feed_forward_biases(
        feed_forward, shape.hidden
    )
    layer = Layer(attention=attention, feed_forward=feed_forward, extra=biases + 4 * shape.hidden)
    token_types = fields.integer("type_vocab_size", low=0, high=MAX_LAYERS, default=2)
    pooler = shape.hidden * (shape.hidden + 1)
    positions = fields.integer(*CONTEXT, high=MAX_CONTEXT)
    return Body(
        hidden=shape.hidden,
        vocabulary=shape.vocabulary,
        context=positions - (style.positions or 0),
        layers=[layer] * shape.layers,
        tied=True,
        extra=(token_types + 2) * shape.hidden + pooler,
        positions=positions,
        is_bidirectional=True,
    )
