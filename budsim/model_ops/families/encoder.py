"""Encoder-only models that turn a text into one vector: BERT and XLM-RoBERTa."""

from __future__ import annotations

from budsim.model_ops.config_reader import MAX_CONTEXT, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.families.attention import attention_biases, read_attention
from budsim.model_ops.families.decoder import CONTEXT, read_dimensions
from budsim.model_ops.families.feed_forward import WIDTH, feed_forward_biases
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import FeedForward


def read_bert(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a BERT-like encoder: learned positions and token types, biases, layer norms, a pooler.

    RoBERTa's table holds two positions more than a text may have (its padding index is 1), which
    ``traits.positions`` counts.
    """
    dims = read_dimensions(config)
    attention = read_attention(config, dims.hidden)
    feed_forward = FeedForward(width=config.integer(*WIDTH, high=MAX_WIDTH), gated=False)
    biases = attention_biases(attention, dims.hidden, qkv=True, out=True)
    biases += feed_forward_biases(feed_forward, dims.hidden)
    # Two layer norms, each with a weight and a bias for every value.
    norms = 4 * dims.hidden
    layer = Layer(attention=attention, feed_forward=feed_forward, extra_parameters=biases + norms)
    token_types = config.integer("type_vocab_size", low=0, high=MAX_LAYERS, default=2)
    pooler = dims.hidden * (dims.hidden + 1)
    positions = config.integer(*CONTEXT, high=MAX_CONTEXT)
    return TextModel(
        hidden=dims.hidden,
        vocabulary=dims.vocabulary,
        context=positions - (traits.positions or 0),
        layers=[layer] * dims.layers,
        # BERT has no output head here; a tied table keeps one from being counted.
        tied=True,
        extra_parameters=(token_types + 2) * dims.hidden + pooler,
        positions=positions,
        is_bidirectional=True,
    )
