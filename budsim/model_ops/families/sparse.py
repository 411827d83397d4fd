"""Decoders that look at a chosen part of what came before: DeepSeek V4's compressed latents, MiniMax M3's blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Attention, AttentionKind
from budsim.model_ops.families.body import Body
from budsim.model_ops.families.decoder import (
    HEADS,
    Style,
    body,
    grouped_attention,
    grouped_extra,
    size,
)
from budsim.model_ops.fields import MAX_CONTEXT, MAX_HEADS, MAX_HIDDEN, Fields

MAX_COMPRESSION: Final = 65_536
HYPER_PARTS: Final = 2
"""Hyper-connections weigh the streams before attention and before experts (vLLM 0.33 ``models/deepseek_v4/nvidia/model.py``)."""


def compressed_decoder(fields: Fields, style: Style) -> Body:
    """Return DeepSeek V4: each layer's ``compress_ratios`` says how many tokens an entry of its cache stands for.

    0 is a window alone; the ratio that has an indexer looks at the ``index_topk`` best entries, the others at all. The window
    beside compressed entries, a constant for each sequence, is not counted.
    """
    shape = size(fields)
    listed = fields.values.get("compress_ratios")
    if not isinstance(listed, list) or len(listed) < shape.layers:
        raise InvalidInput(
            fields.path("compress_ratios"),
            "missing or too short",
            f"a list of {shape.layers} ratios or more",
        )
    ratios = Fields({"compress_ratios": listed[: shape.layers]}, fields.prefix)
    checked = ratios.integers("compress_ratios", count=shape.layers, high=MAX_COMPRESSION) or ()
    least = min(filter(None, checked), default=0)
    latents = {ratio: _latent(fields, ratio, indexed=ratio == least > 0) for ratio in set(checked)}
    streams = fields.integer("hc_mult", high=64, default=0)
    hyper = HYPER_PARTS * (2 + streams) * streams * streams * shape.hidden
    return body(
        fields,
        style,
        shape,
        [(latents[ratio], _small(latents[ratio]) + hyper) for ratio in checked],
    )


def _latent(fields: Fields, ratio: int, *, indexed: bool) -> Attention:
    heads, width = (
        fields.integer(*HEADS, high=MAX_HEADS),
        fields.integer("head_dim", high=MAX_HIDDEN),
    )
    rotary = fields.integer("qk_rope_head_dim", high=width)
    plain = Attention(
        kind=AttentionKind.MLA,
        heads=heads,
        kv_heads=heads,
        head_dim=width - rotary,
        value_head_dim=width,
        q_lora_rank=fields.integer("q_lora_rank", high=MAX_HIDDEN),
        kv_lora_rank=width - rotary,
        rope_head_dim=rotary,
        compression=max(1, ratio),
        o_groups=fields.integer("o_groups", high=MAX_HEADS),
        o_lora_rank=fields.integer("o_lora_rank", high=MAX_HIDDEN),
    )
    if not ratio:
        return replace(plain, window=fields.integer("sliding_window", high=MAX_CONTEXT))
    if not indexed:
        return plain
    return replace(
        plain,
        index_heads=fields.integer("index_n_heads", high=MAX_HEADS),
        index_head_dim=fields.integer("index_head_dim", high=MAX_HIDDEN),
        index_topk=fields.integer("index_topk", high=MAX_CONTEXT) * ratio,
    )


def _small(attention: Attention) -> int:
    """Return a layer's norms, sinks and the positions inside the entries it compresses."""
    entry = attention.kv_lora_rank + attention.rope_head_dim
    norms = (attention.q_lora_rank or 0) + entry + attention.heads
    return norms + (attention.compression > 1) * (
        entry + 2 * attention.compression * (entry + attention.index_head_dim)
    )


def block_decoder(fields: Fields, style: Style) -> Body:
    """Return MiniMax M3: grouped attention that looks at the best blocks of tokens, chosen by an index of its own."""
    shape = size(fields)
    whole = grouped_attention(fields, shape.hidden)
    chosen = tuple(_chosen(fields, whole, shape.layers))
    return body(
        fields,
        style,
        shape,
        [(mixer, grouped_extra(fields, style, mixer, shape.hidden)) for mixer in chosen],
    )


def _chosen(fields: Fields, whole: Attention, layers: int) -> Iterator[Attention]:
    settings = fields.nested("sparse_attention_config")
    marked: Sequence[int] = (
        settings.integers("sparse_attention_freq", count=layers, high=1) if settings else None
    ) or (0,) * layers
    for sparse in marked:
        if not sparse or settings is None:
            yield whole
            continue
        block = settings.integer("sparse_block_size", high=MAX_CONTEXT)
        yield replace(
            whole,
            index_heads=settings.integer("sparse_num_index_heads", high=MAX_HEADS),
            index_head_dim=settings.integer("sparse_index_dim", high=MAX_HIDDEN),
            index_topk=block * settings.integer("sparse_topk_blocks", high=MAX_CONTEXT),
        )
