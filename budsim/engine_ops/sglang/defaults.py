"""What SGLang 0.5.23 sets by the memory of a device unless told otherwise.

Read in ``arg_groups/memory_hook.py`` of its wheel (``handle_gpu_memory_settings``) and
``arg_groups/cuda_graph_hook.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from budsim.commons.units import GIB, MIB
from budsim.engine_ops.engine_profile import DefaultLimits
from budsim.hardware_ops.device import Device

# Least bound on running requests (``max_running_requests`` is derived from the cache).
MAX_RUNNING_REQUESTS: Final = 2048

# Tensor-parallel size from which larger decode graphs are captured.
_LARGE_TP: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTier:
    """Defaults of devices with less than ``below_bytes``.

    ``decode_graph`` is the largest batch whose decode step is captured as a CUDA graph with fewer
    than four tensor-parallel ranks, ``decode_graph_large_tp`` with more; larger batches run
    eagerly.
    """

    below_bytes: float
    chunked_prefill_size: int
    decode_graph: int
    decode_graph_large_tp: int


# T4 and RTX 4080; A10, RTX 4090 and 5090; A100-40GB and L40; A100-80GB to H200; B200 and MI300.
TIERS: Final = (
    MemoryTier(
        below_bytes=20 * GIB, chunked_prefill_size=2048, decode_graph=8, decode_graph_large_tp=8
    ),
    MemoryTier(
        below_bytes=35 * GIB, chunked_prefill_size=4096, decode_graph=48, decode_graph_large_tp=160
    ),
    MemoryTier(
        below_bytes=60 * GIB, chunked_prefill_size=4096, decode_graph=32, decode_graph_large_tp=160
    ),
    MemoryTier(
        below_bytes=160 * GIB,
        chunked_prefill_size=8192,
        decode_graph=256,
        decode_graph_large_tp=512,
    ),
    MemoryTier(
        below_bytes=float("inf"),
        chunked_prefill_size=16384,
        decode_graph=512,
        decode_graph_large_tp=512,
    ),
)

LIMITS: Final = tuple(
    DefaultLimits(
        below_bytes=tier.below_bytes,
        max_num_batched_tokens=tier.chunked_prefill_size,
        max_num_seqs=MAX_RUNNING_REQUESTS,
    )
    for tier in TIERS
)

# Megabytes (MiB) that mem_fraction_static leaves: 512 for metadata, 1.5 for each token of a chunk
# of at least 2048, 1024 for eight ranks, 2 for each sequence of a decode graph, 8 for each prefill
# graph; at least 10 GiB on devices of more than 60 GiB.
_METADATA_MIB: Final = 512.0
_TOKEN_MIB: Final = 1.5
_LEAST_TOKENS: Final = 2048
_RANK_MIB: Final = 1024.0 / 8
_DECODE_GRAPH_MIB: Final = 2.0
_PREFILL_GRAPH_MIB: Final = 8.0
_MLA_PREFILL_GRAPHS_MIB: Final = 1.5 * 1024
_FLOOR_MIB: Final = 10.0 * 1024
_FLOOR_FROM_MIB: Final = 60.0 * 1024
_DIGITS: Final = 3

# Token counts captured for prefill, those up to the chunk size.
_PREFILL_GRAPHS: Final = (
    *range(4, 33, 4),
    *range(48, 257, 16),
    *range(288, 513, 32),
    *range(576, 1025, 64),
    *range(1280, 4097, 256),
    *range(4608, 16385, 512),
)


def tier_of(device: Device) -> MemoryTier:
    """Return the defaults of a device by its memory."""
    return next(tier for tier in TIERS if device.memory_bytes < tier.below_bytes)


def decode_graph_limit(device: Device, tp: int) -> int:
    """Return the largest batch whose decode step is captured; larger ones run eagerly."""
    tier = tier_of(device)
    return tier.decode_graph if tp < _LARGE_TP else tier.decode_graph_large_tp


def memory_fraction(device: Device, tp: int, pp: int = 1, *, mla: bool = False) -> float:
    """Return ``mem_fraction_static`` (0..1) of a text model without attention ranks."""
    tier = tier_of(device)
    total_mib = device.memory_bytes / MIB
    chunk = tier.chunked_prefill_size
    prefill_graphs = sum(size <= chunk for size in _PREFILL_GRAPHS)
    left = _METADATA_MIB + _TOKEN_MIB * max(chunk, _LEAST_TOKENS) + _RANK_MIB * tp * pp
    left += _DECODE_GRAPH_MIB * decode_graph_limit(device, tp)
    left += _MLA_PREFILL_GRAPHS_MIB if mla else _PREFILL_GRAPH_MIB * prefill_graphs
    if total_mib > _FLOOR_FROM_MIB:
        left = max(left, _FLOOR_MIB)
    return round(max(total_mib - left, 0.0) / total_mib, _DIGITS)
