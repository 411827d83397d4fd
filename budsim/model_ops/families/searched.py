"""Decoders whose layers differ because an architecture search shaped them: DeciLM, Nemotron Super and Ultra."""

from __future__ import annotations

from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Attention, FeedForward
from budsim.model_ops.families.body import Body, Layer
from budsim.model_ops.families.decoder import Style, body, grouped_attention, size
from budsim.model_ops.families.hybrid import join
from budsim.model_ops.fields import MAX_HEADS, Fields


def deci_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder with its own number of KV heads in every layer (DeciLM-7B)."""
    shape = size(fields)
    kv_heads = fields.integers("num_key_value_heads_per_layer", count=shape.layers, high=MAX_HEADS)
    if not kv_heads or 0 in kv_heads:
        raise InvalidInput(
            fields.path("num_key_value_heads_per_layer"),
            repr(kv_heads),
            f"{shape.layers} positive numbers",
        )
    mixers = [
        (
            grouped_attention(
                Fields({**fields.values, "num_key_value_heads": count}, fields.prefix), shape.hidden
            ),
            0,
        )
        for count in kv_heads
    ]
    return body(fields, style, shape, mixers)


def searched_decoder(fields: Fields, style: Style) -> Body:
    """Return a decoder read from ``block_configs`` (Nemotron-NAS, used by Llama-3.3-Nemotron-Super-49B).

    A layer without attention joins the one before: two feed-forward parts in a row have the weights of one as wide as both.
    """
    shape = size(fields)
    layers: list[Layer] = []
    for block in fields.objects("block_configs", count=shape.layers):
        attention, feed_forward = _sub(block, "attention"), _sub(block, "ffn")
        channel = (
            None
            if feed_forward.flag("no_op", default=False)
            else _block_width(feed_forward, shape.hidden)
        )
        extra = shape.hidden * (channel is not None)
        if not attention.flag("no_op", default=False):
            mixer = _block_attention(fields, attention, shape.hidden)
            layers.append(Layer(attention=mixer, feed_forward=channel, extra=extra + shape.hidden))
        elif layers and channel is not None:
            layers[-1] = replace(
                layers[-1],
                feed_forward=join(layers[-1].feed_forward, channel),
                extra=layers[-1].extra + extra,
            )
        elif channel is not None:
            raise block.unsupported(
                "attention.no_op",
                "the first layer has no attention",
                "attention in the first layer",
            )
    tied = fields.flag("tie_word_embeddings", default=style.tied)
    return Body(
        hidden=shape.hidden,
        vocabulary=shape.vocabulary,
        context=shape.context,
        layers=layers,
        tied=tied,
        extra=shape.hidden,
    )


def _sub(block: Fields, name: str) -> Fields:
    found = block.nested(name)
    if found is None:
        raise InvalidInput(block.path(name), "missing", "an object")
    if found.flag("replace_with_linear", default=False) or found.values.get("sparsify"):
        raise found.unsupported(
            "replace_with_linear",
            "linear or sparse replacement",
            "attention, a gated layer, or no_op",
        )
    return found


def _block_attention(fields: Fields, attention: Fields, hidden: int) -> Attention:
    heads = fields.integer("num_attention_heads", high=MAX_HEADS)
    group = attention.integer("n_heads_in_group", high=heads)
    return grouped_attention(
        Fields({**fields.values, "num_key_value_heads": heads // group}, fields.prefix), hidden
    )


def _block_width(feed_forward: Fields, hidden: int) -> FeedForward:
    """Return the gated layer of width 2/3 x multiple x 4 x hidden, rounded up to 256 (``_ffn_mult_to_intermediate_size``)."""
    multiple = feed_forward.number("ffn_mult", default=1.0, high=64.0)
    width = int(2 * multiple * hidden / 3)
    return FeedForward(width=-(-width // 256) * 256)
