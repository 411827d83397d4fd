"""Qwen4-Exp: delta layers and indexed attention between several residual streams, and n-grams."""

from __future__ import annotations

from dataclasses import replace

from budsim.model_ops.config_reader import (
    MAX_EXPERTS,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCABULARY,
    ConfigReader,
)
from budsim.model_ops.families.linear_attention import read_delta_decoder
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import AttentionKind

# Where the config states none (transformers 5.24 ``Qwen4ExpTextConfig``).
STREAMS, STREAM_RANK = 4, 320
NGRAM_TOKENS, NGRAM_HEADS, NGRAM_ROWS = 3, 8, 20_000_000
# Rows of n-gram tables are many times a vocabulary.
MAX_NGRAM_ROWS = 100 * MAX_VOCABULARY


def read_qwen4_exp(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Qwen4-Exp (transformers 5.24 ``modeling_qwen4_exp.py``).

    Attention layers select tokens by an index. Before attention and experts of each layer, low-rank
    matrices mix the residual streams. A few layers look up hashed n-grams.
    """
    kinds = config.texts("layer_types")
    renamed = ["full_attention" if kind == "indexed_attention" else kind for kind in kinds]
    model = read_delta_decoder(
        config.with_values({"layer_types": renamed} if kinds else {}), traits
    )
    streams = config.integer("hc_count", high=MAX_LAYERS, default=STREAMS)
    rank = config.integer("hc_lowrank", high=MAX_HIDDEN, default=STREAM_RANK)
    wide = streams * model.hidden
    mixers = 2 * wide * (2 * rank + streams + 1)
    layers = [
        replace(_indexed(config, layer), extra_parameters=layer.extra_parameters + mixers)
        for layer in model.layers
    ]
    return _with_ngrams(config, replace(model, layers=layers), wide)


def _indexed(config: ConfigReader, layer: Layer) -> Layer:
    if layer.attention.kind is AttentionKind.LINEAR or not config.has("indexer_n_heads"):
        return layer
    attention = replace(
        layer.attention,
        index_heads=config.integer("indexer_n_heads", high=MAX_HEADS),
        index_head_dim=config.integer("indexer_head_dim", high=MAX_HIDDEN),
        index_topk=config.integer("indexer_budget", high=MAX_VOCABULARY),
    )
    return replace(layer, attention=attention)


def _with_ngrams(config: ConfigReader, model: TextModel, wide: int) -> TextModel:
    """Return a model with the n-gram tables of its layers, and their projections.

    2 lengths x 8 heads of 20 million rows with a sixteenth of the width each: 41 billion values in
    a layer of width 2,048.
    """
    listed = config.values.get("ple_layer_ids")
    layers = len(listed) if isinstance(listed, list) else 0
    if not layers:
        return model
    width = config.integer("ple_embed_dim", high=MAX_HIDDEN, default=model.hidden)
    tokens = config.integer("ngram_size", low=2, high=MAX_EXPERTS, default=NGRAM_TOKENS)
    heads = (tokens - 1) * config.integer("heads_per_ngram", high=MAX_HEADS, default=NGRAM_HEADS)
    rows = config.integer("ngram_vocab_size_base", high=MAX_NGRAM_ROWS, default=NGRAM_ROWS)
    kernel = config.integer("ple_conv_kernel_size", high=MAX_HIDDEN, default=4)
    small = width * (wide + model.hidden) + wide * (kernel + 3)
    return replace(
        model,
        layer_inputs=(layers * heads * rows, max(1, width // heads)),
        extra_parameters=model.extra_parameters + layers * small,
    )
