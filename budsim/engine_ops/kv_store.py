"""A store of KV cache that all replicas of a deployment share, as a person asks for one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB, GIGA
from budsim.engine_ops.engine_profile import StoreKind

# A pebibyte. All of Kimi together has petabytes of DRAM (Mooncake's README); more for one
# deployment is a mistake of units.
MOST_STORE_BYTES: Final = 1024.0 * 1024.0 * GIB
# 100 TB/s: 20 nodes of 8 network cards of 50 GB/s each deliver 8.
MOST_STORE_GB_PER_S: Final = 100_000.0

# No inventory says how fast a file system is.
STATED_SPEED: Final = frozenset({StoreKind.FILE})


@dataclass(frozen=True, slots=True, kw_only=True)
class KvStore:
    """One store for all replicas.

    Attributes
    ----------
    kind : StoreKind
        What runs it.
    capacity_bytes : float
        KV cache it holds.
    bytes_per_s : float, optional
        What it delivers to all replicas together. None: what its network can, by data sheet; a file
        system's is always stated.
    nodes : tuple of str
        Nodes that each give an equal part of it; empty: those that the replicas run on.
    """

    kind: StoreKind
    capacity_bytes: float
    bytes_per_s: float | None = None
    nodes: tuple[str, ...] = ()


def kv_store_of(
    capacity_gib: float | None, kind: str | None = None, gb_per_s: float | None = None
) -> KvStore | None:
    """Return the store that is asked for, by default Mooncake; None for 0 GiB or no size.

    Raises
    ------
    InvalidInput
        A number is out of range, the kind is not known, a store is described without a size, or a
        file system without its speed.
    """
    capacity = (capacity_gib or 0.0) * GIB
    if not 0.0 <= capacity <= MOST_STORE_BYTES:
        most = f"0 to {MOST_STORE_BYTES / GIB:g} GiB"
        raise InvalidInput("kv_store_gib", f"is {capacity_gib:g}", most)
    if gb_per_s is not None and not 0.0 < gb_per_s <= MOST_STORE_GB_PER_S:
        most = f"above 0, at most {MOST_STORE_GB_PER_S:g} GB/s"
        raise InvalidInput("kv_store_gb_per_s", f"is {gb_per_s:g}", most)
    wanted = _kind_of(kind)
    if capacity and wanted in STATED_SPEED and gb_per_s is None:
        problem = f"is missing: no inventory says how fast a {wanted} store is"
        raise InvalidInput("kv_store_gb_per_s", problem, "GB/s that all replicas read together")
    if capacity:
        speed = None if gb_per_s is None else gb_per_s * GIGA
        return KvStore(
            kind=wanted or StoreKind.MOONCAKE, capacity_bytes=capacity, bytes_per_s=speed
        )
    for field, value in (("kv_store", kind), ("kv_store_gb_per_s", gb_per_s)):
        if value:
            problem = "is given without the size of the store"
            raise InvalidInput(field, problem, "kv_store_gib beside it")
    return None


def _kind_of(name: str | None) -> StoreKind | None:
    wanted = (name or "").strip().lower()
    if wanted and wanted not in set(StoreKind):
        expected = f"one of {', '.join(StoreKind)}"
        raise InvalidInput("kv_store", f"{name!r} is not known"[:60], expected)
    return StoreKind(wanted) if wanted else None


def store_text(store: KvStore) -> str:
    """Return a store in words: ``2,000 GiB in mooncake``, ``2,000 GiB in files``."""
    held = "files" if store.kind is StoreKind.FILE else store.kind
    return f"{math.floor(store.capacity_bytes / GIB):,} GiB in {held}"
