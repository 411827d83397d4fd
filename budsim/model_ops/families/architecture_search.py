"""Decoders shaped by a neural architecture search, whose layers differ: DeciLM, Nemotron Super."""

from __future__ import annotations

from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import MAX_HEADS, ConfigReader
from budsim.model_ops.families.attention import read_attention
from budsim.model_ops.families.decoder import assemble, read_dimensions, surround
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import Attention, FeedForward

# Widths are rounded up to this (``_ffn_mult_to_intermediate_size`` of the model card's code).
WIDTH_STEP = 256


def read_deci(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder with its own number of KV heads in every layer (DeciLM-7B)."""
    dims = read_dimensions(config)
    field = "num_key_value_heads_per_layer"
    kv_heads = config.integers(field, count=dims.layers, high=MAX_HEADS)
    if not kv_heads or 0 in kv_heads:
        expected = f"{dims.layers} positive numbers"
        raise InvalidInput(config.path(field), repr(kv_heads), expected)
    layers = [
        Layer(
            attention=read_attention(
                config.with_values({"num_key_value_heads": count}), dims.hidden
            )
        )
        for count in kv_heads
    ]
    return assemble(config, traits, dims, layers)


def read_nemotron_nas(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder read from ``block_configs`` (Llama-3.3-Nemotron-Super-49B).

    A layer without attention joins the layer before it: two feed-forward parts in a row have the
    weights and the work of one as wide as both.
    """
    dims = read_dimensions(config)
    layers: list[Layer] = []
    for block in config.objects("block_configs", count=dims.layers):
        attention, feed_forward = _part(block, "attention"), _read_feed_forward(block, dims.hidden)
        norm = dims.hidden if feed_forward else 0
        if not attention.flag("no_op", default=False):
            layers.append(
                Layer(
                    attention=_read_block_attention(config, attention, dims.hidden),
                    feed_forward=feed_forward,
                    extra_parameters=norm + dims.hidden,
                )
            )
        elif layers and feed_forward is not None:
            # Our layers need an attention part, as caches and stages are counted by layers.
            layers[-1] = with_further_feed_forward(layers[-1], feed_forward, norm)
        elif feed_forward is not None:
            problem, expected = "the first layer has no attention", "attention in the first layer"
            raise block.unsupported("attention.no_op", problem, expected)
    return surround(config, traits, dims, layers)


def with_further_feed_forward(layer: Layer, feed_forward: FeedForward, extra: int) -> Layer:
    """Return ``layer`` with a second feed-forward part behind its first: their widths add up.

    ``extra`` counts the second part's norms and biases.
    """
    first = layer.feed_forward
    both = feed_forward if first is None else replace(first, width=first.width + feed_forward.width)
    return replace(layer, feed_forward=both, extra_parameters=layer.extra_parameters + extra)


def _part(block: ConfigReader, name: str) -> ConfigReader:
    found = block.nested(name)
    if found is None:
        raise InvalidInput(block.path(name), "missing", "an object")
    if found.flag("replace_with_linear", default=False) or found.values.get("sparsify"):
        problem, expected = "linear or sparse replacement", "attention, a gated layer, or no_op"
        raise found.unsupported("replace_with_linear", problem, expected)
    return found


def _read_block_attention(config: ConfigReader, block: ConfigReader, hidden: int) -> Attention:
    heads = config.integer("num_attention_heads", high=MAX_HEADS)
    group = block.integer("n_heads_in_group", high=heads)
    return read_attention(config.with_values({"num_key_value_heads": heads // group}), hidden)


def _read_feed_forward(block: ConfigReader, hidden: int) -> FeedForward | None:
    """Return the gated part of width 2/3 x ``ffn_mult`` x ``hidden``; ``None`` if left out."""
    settings = _part(block, "ffn")
    if settings.flag("no_op", default=False):
        return None
    multiple = settings.number("ffn_mult", default=1.0, high=64.0)
    width = int(2 * multiple * hidden / 3)
    return FeedForward(width=-(-width // WIDTH_STEP) * WIDTH_STEP)
