"""How much host memory the arguments of a replica give to its KV cache."""

from __future__ import annotations

from collections.abc import Mapping

from budsim.commons.units import GIB, GIGA
from budsim.engine_ops.base import ArgumentValue

# vLLM's flag, GiB of all devices of one attention rank; SGLang's, GB of each device.
_OF_RANK, _RANKS, _OF_DEVICE = "kv-offloading-size", "data-parallel-size", "hicache-size"


def host_cache_gib(args: Mapping[str, ArgumentValue], devices: int) -> float:
    """Return the host memory of KV cache for each of ``devices`` of a replica, GiB.

    300 GiB for two devices are 150 each; 161 GB a device are 149.9.
    """
    of_ranks = float(args.get(_OF_RANK, 0)) * int(args.get(_RANKS, 1))
    return of_ranks / devices + float(args.get(_OF_DEVICE, 0)) * GIGA / GIB
