"""How vLLM pages the caches of DeepSeek V4, whose layers cache one entry for several tokens.

vLLM 0.22 to 0.32 (``v1/core/kv_cache_utils.py``, ``models/deepseek_v4``) divides them into groups
that share pages of one size: all compressed entries; the windows of all layers; and, for each
compression, the states of tokens not compressed yet. A page of any group takes the place of the
widest one, so a short sequence costs far more than its entries: each page of four tokens' states
takes a mebibyte of V4-Flash.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from budsim.model_ops.architecture import Architecture
from budsim.model_ops.layers import Attention
from budsim.performance.candidates import Candidates, Floats

# Tokens a page of compressed entries stands for.
_PAGE_TOKENS: Final = 256

# Tokens in a page of a window: 64 entries, as many as a page of four-fold compression holds.
_WINDOW_PAGE_TOKENS: Final = 64

# Tokens in a page of states, by compression (``CompressorStateCache.block_size``).
_STATE_PAGE_TOKENS: Final = {4: 4, 128: 8}

# The compression whose states reach over two entries (``coff``).
_OVERLAPPED: Final = 4

# Bytes that pages are rounded up to multiples of (FlashMLA).
_ALIGNMENT: Final = 576

# Bytes of the scales of one FP8 entry, padded (448 + 2 x 64 + 8 = 584).
_SCALE_BYTES: Final = 8

# Bytes of the scale of one FP8 index key (128 + 4 = 132).
_INDEX_SCALE_BYTES: Final = 4

# 16-bit values alive for each token and hidden dimension at the peak of a step of DeepSeek V4,
# beside those of other models: its four residual streams in fp32 and what mixes them. Fitted on one
# start-up, DeepSeek-V4-Flash on two GH200 under vLLM 0.22 (vllm-project/vllm issue 44376: 5.44 GiB
# left for the cache with steps of 16,384 tokens).
_STREAM_COPIES: Final = 52.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGroup:
    """Cache groups that hold a window: its tokens, tokens in a page, and how many groups."""

    window: int
    page_tokens: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Pages of one model: bytes of a page of all its layers, and groups that hold windows."""

    page_bytes: float
    windows: tuple[WindowGroup, ...]

    def admitted_bytes(self, tokens: Floats, in_flight: Floats) -> Floats:
        """Return the cache vLLM requires before it admits a sequence of ``tokens``, bytes.

        ``in_flight`` is the tokens of steps under way, which windows hold beside themselves.
        """
        pages = np.ceil(tokens / _PAGE_TOKENS)
        for each in self.windows:
            held = np.minimum(each.window - 1 + in_flight, tokens)
            pages = pages + each.groups * (np.ceil(held / each.page_tokens) + 1)
        return np.asarray(pages * self.page_bytes)


@lru_cache(maxsize=64)
def paging(architecture: Architecture) -> Paging | None:
    """Return how the caches of a model are paged; None where no layer compresses its entries."""
    layers: Counter[Attention] = Counter()
    for group in architecture.layers:
        layers[group.attention] += group.count
    compressed = {each: count for each, count in layers.items() if each.compression > 1}
    if not compressed:
        return None
    sizes = _page_sizes(compressed)
    widest = max(sizes.values())
    window = next((each.window for each in layers if each.window), _PAGE_TOKENS)
    counts = [layers.total(), *compressed.values()]
    repeats = _least_padding(counts, least=widest)
    groups = [
        WindowGroup(
            window=window,
            page_tokens=_WINDOW_PAGE_TOKENS,
            groups=math.ceil(layers.total() / repeats),
        ),
        *(_states(each, math.ceil(count / repeats)) for each, count in compressed.items()),
    ]
    longest = max(widest, *(math.ceil(count / math.ceil(count / repeats)) for count in counts))
    return Paging(page_bytes=float(longest * sum(sizes)), windows=tuple(groups))


def bytes_per_token_by_pages(table: Candidates, admitted: Floats) -> Floats:
    """Return cache bytes of a token of each row by pages, nan where the model is not so paged.

    ``admitted`` is the tokens of steps under way that an engine counts, 0 for running sequences.
    """
    length = table.input_tokens + table.output_tokens
    found = np.full(len(table), np.nan)
    for number, architecture in enumerate(table.architectures):
        pages, rows = paging(architecture), table.architecture == number
        if pages is not None and rows.any():
            needed = pages.admitted_bytes(length[rows], admitted[rows])
            found[rows] = needed / length[rows]
    return found


def stream_copies(table: Candidates) -> Floats:
    """Return the 16-bit copies of the hidden state that residual streams add, of each row."""
    found = [_STREAM_COPIES * (paging(each) is not None) for each in table.architectures]
    return np.asarray(np.array(found)[table.architecture])


def _page_sizes(compressed: dict[Attention, int]) -> Counter[int]:
    """Return the bytes of pages of one layer and how many layers have a page of that size."""
    sizes: Counter[int] = Counter()
    for each, count in compressed.items():
        entries = _PAGE_TOKENS // each.compression
        entry = each.kv_lora_rank + 2 * each.rope_head_dim + _SCALE_BYTES
        sizes[_aligned(entries * entry)] += count
        if each.index_heads:
            sizes[_aligned(entries * (each.index_head_dim + _INDEX_SCALE_BYTES))] += count
    return sizes


def _states(attention: Attention, groups: int) -> WindowGroup:
    overlap = 2 if attention.compression == _OVERLAPPED else 1
    return WindowGroup(
        window=overlap * attention.compression,
        page_tokens=_STATE_PAGE_TOKENS.get(attention.compression, 8),
        groups=groups,
    )


def _least_padding(counts: list[int], least: int) -> int:
    """Return the layers of a group, at least ``least``, that need the least padding."""
    sizes = range(least, max(*counts, least) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
