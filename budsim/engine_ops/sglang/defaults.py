"""What SGLang 0.5.23 sets by the memory of a device unless told otherwise.

Read in ``arg_groups/memory_hook.py`` of its wheel (``handle_gpu_memory_settings``) and
``arg_groups/cuda_graph_hook.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from budsim.commons.units import GIB
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


def tier_of(device: Device) -> MemoryTier:
    """Return the defaults of a device by its memory."""
    return next(tier for tier in TIERS if device.memory_bytes < tier.below_bytes)


def decode_graph_limit(device: Device, tp: int) -> int:
    """Return the largest batch whose decode step is captured; larger ones run eagerly."""
    tier = tier_of(device)
    return tier.decode_graph if tp < _LARGE_TP else tier.decode_graph_large_tp
