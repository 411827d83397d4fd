"""How much host memory the arguments of a replica give to its KV cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB, GIGA
from budsim.engine_ops.base import ArgumentValue

# vLLM's flag, GiB of all devices of one attention rank; SGLang's, GB of each device.
_OF_RANK, _RANKS, _OF_DEVICE = "kv-offloading-size", "data-parallel-size", "hicache-size"
# The same as bytes in the settings of vLLM's connector, and GiB of each device in LMCache's.
HOST_BYTES: Final = "cpu_bytes_to_use"
LMCACHE_HOST_GIB: Final = "LMCACHE_MAX_LOCAL_CPU_SIZE"
_CONNECTORS = "kv-transfer-config"


def host_cache_gib(
    args: Mapping[str, ArgumentValue], devices: int, envs: Mapping[str, str] | None = None
) -> float:
    """Return the host memory of KV cache for each of ``devices`` of a replica, GiB.

    300 GiB for two devices are 150 each; 161 GB a device are 149.9.
    """
    stated = _number(args, _OF_RANK) + _bytes_in(args.get(_CONNECTORS)) / GIB
    of_ranks = stated * int(args.get(_RANKS, 1))
    of_device = _number(args, _OF_DEVICE) * GIGA / GIB
    return of_ranks / devices + of_device + float((envs or {}).get(LMCACHE_HOST_GIB, 0.0))


def _number(args: Mapping[str, ArgumentValue], name: str) -> float:
    value = args.get(name, 0)
    try:
        return float(value)
    except ValueError as error:
        raise InvalidInput(name, f"{str(value)[:40]!r} is no number", "GiB or GB") from error


def _bytes_in(config: ArgumentValue | None) -> float:
    """Return the bytes of host memory that the connectors of a ``kv-transfer-config`` state."""

    def stated(connector: Mapping[str, Any]) -> float:
        extra = connector.get("kv_connector_extra_config", {})
        return float(extra.get(HOST_BYTES, 0)) + sum(map(stated, extra.get("connectors", ())))

    try:
        return stated(json.loads(config)) if isinstance(config, str) else 0.0
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        problem, expected = "names no connectors", "what vLLM's --kv-transfer-config takes"
        raise InvalidInput(_CONNECTORS, problem, expected) from error
