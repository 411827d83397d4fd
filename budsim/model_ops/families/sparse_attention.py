"""Decoders whose attention selects earlier tokens.

DeepSeek V4 compresses several tokens into one cache entry; MiniMax M3 selects blocks of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import MAX_CONTEXT, MAX_HEADS, MAX_HIDDEN, ConfigReader
from budsim.model_ops.families.attention import HEADS, attention_extra_parameters, read_attention
from budsim.model_ops.families.decoder import assemble, read_dimensions
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import Attention, AttentionKind

MAX_COMPRESSION: Final = 65_536
# Hyper-connections weigh the streams before attention and before experts (vLLM 0.33
# ``models/deepseek_v4/nvidia/model.py``).
HYPER_PARTS: Final = 2


def read_compressed_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return DeepSeek V4.

    ``compress_ratios`` says for each layer how many tokens an entry of its cache stands for:

    * 0: the layer has a window only;
    * the smallest ratio: an indexer selects the ``index_topk`` best entries;
    * the others: the layer sees all entries.

    The window beside compressed entries is a constant for each sequence and is not counted.
    """
    dims = read_dimensions(config)
    ratios = _compress_ratios(config, dims.layers)
    # Only the finest entries are too many to read all of them.
    smallest = min(filter(None, ratios), default=0)
    attentions = [
        _read_compressed_latent(config, ratio, indexed=ratio == smallest > 0) for ratio in ratios
    ]
    return assemble(config, traits, dims, _compressed_layers(config, dims.hidden, attentions))


def read_shared_compressed_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return DeepSeek V4.1, whose layers share caches (vLLM 0.33 ``deepseek_v41/attention.py``).

    ``kv_source_layer_ids`` lists the layers that store compressed entries, and
    ``index_source_layer_ids`` those with an indexer; other layers use the latest one before them.
    A ratio of 0 in ``compress_ratios`` is a layer with a window only. The n-gram tables
    (``engram_*``) are not counted: engines keep them in the host's memory.
    """
    dims = read_dimensions(config)
    ratios = _compress_ratios(config, dims.layers)
    stores = config.values.get("kv_source_layer_ids")
    indexes = config.values.get("index_source_layer_ids")
    if not isinstance(stores, list) or not isinstance(indexes, list):
        raise InvalidInput(config.path("kv_source_layer_ids"), "missing", "a list of layer numbers")
    attentions = []
    for index, ratio in enumerate(ratios):
        attention = _read_compressed_latent(config, ratio, indexed=ratio > 0)
        if index not in indexes:
            attention = replace(attention, index_heads=0, index_head_dim=0)
        shares = ratio > 0 and index not in stores
        attentions.append(replace(attention, shares_cache=shares))
    return assemble(config, traits, dims, _compressed_layers(config, dims.hidden, attentions))


def read_block_sparse_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return MiniMax M3: an index selects the best blocks of tokens for grouped attention."""
    dims = read_dimensions(config)
    full = read_attention(config, dims.hidden)
    settings = config.nested("sparse_attention_config")
    marked = (
        settings.integers("sparse_attention_freq", count=dims.layers, high=1) if settings else None
    )
    sparse = _with_block_index(full, settings) if settings and any(marked or ()) else full
    layers = []
    for is_sparse in marked or (0,) * dims.layers:
        attention = sparse if is_sparse else full
        extra = attention_extra_parameters(config, traits, attention, dims.hidden)
        layers.append(Layer(attention=attention, extra_parameters=extra))
    return assemble(config, traits, dims, layers)


def _compressed_layers(
    config: ConfigReader, hidden: int, attentions: Sequence[Attention]
) -> list[Layer]:
    streams = config.integer("hc_mult", high=64, default=0)
    hyper_connections = HYPER_PARTS * (2 + streams) * streams * streams * hidden
    return [
        Layer(
            attention=attention,
            extra_parameters=_compressed_extra_parameters(attention) + hyper_connections,
        )
        for attention in attentions
    ]


def _compress_ratios(config: ConfigReader, layers: int) -> Sequence[int]:
    listed = config.values.get("compress_ratios")
    if not isinstance(listed, list) or len(listed) < layers:
        expected = f"a list of {layers} ratios or more"
        raise InvalidInput(config.path("compress_ratios"), "missing or too short", expected)
    # Further entries belong to layers of multi-token prediction, which are not counted.
    own = config.with_values({"compress_ratios": listed[:layers]})
    return own.integers("compress_ratios", count=layers, high=MAX_COMPRESSION) or ()


def _read_compressed_latent(config: ConfigReader, ratio: int, *, indexed: bool) -> Attention:
    heads = config.integer(*HEADS, high=MAX_HEADS)
    width = config.integer("head_dim", high=MAX_HIDDEN)
    rotary = config.integer("qk_rope_head_dim", high=width)
    plain = Attention(
        kind=AttentionKind.MLA,
        heads=heads,
        kv_heads=heads,
        head_dim=width - rotary,
        value_head_dim=width,
        q_lora_rank=config.integer("q_lora_rank", high=MAX_HIDDEN),
        kv_lora_rank=width - rotary,
        rope_head_dim=rotary,
        compression=max(1, ratio),
        o_groups=config.integer("o_groups", high=MAX_HEADS),
        o_lora_rank=config.integer("o_lora_rank", high=MAX_HIDDEN),
    )
    # No compressed entries: the window is all the layer sees.
    if not ratio:
        return replace(plain, window=config.integer("sliding_window", high=MAX_CONTEXT))
    if not indexed:
        return plain
    return replace(
        plain,
        index_heads=config.integer("index_n_heads", high=MAX_HEADS),
        index_head_dim=config.integer("index_head_dim", high=MAX_HIDDEN),
        # The indexer selects entries; `index_topk` counts the tokens they stand for.
        index_topk=config.integer("index_topk", high=MAX_CONTEXT) * ratio,
    )


def _compressed_extra_parameters(attention: Attention) -> int:
    """Return a layer's norms, sinks and the learned positions inside the entries it compresses."""
    entry = attention.kv_lora_rank + attention.rope_head_dim
    norms = (attention.q_lora_rank or 0) + entry + attention.heads
    if attention.compression == 1 or attention.shares_cache:
        return norms
    positions = 2 * attention.compression * (entry + attention.index_head_dim)
    return norms + entry + positions


def _with_block_index(attention: Attention, settings: ConfigReader) -> Attention:
    block = settings.integer("sparse_block_size", high=MAX_CONTEXT)
    return replace(
        attention,
        index_heads=settings.integer("sparse_num_index_heads", high=MAX_HEADS),
        index_head_dim=settings.integer("sparse_index_dim", high=MAX_HIDDEN),
        index_topk=block * settings.integer("sparse_topk_blocks", high=MAX_CONTEXT),
    )
