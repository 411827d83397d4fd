"""The store of KV cache that replicas share: what a device reads of it, or why it has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from budsim.commons.units import GIB
from budsim.engine_ops.base import ServingEngine
from budsim.engine_ops.engine_profile import StoreKind, StoreRule
from budsim.engine_ops.kv_store import KvStore
from budsim.performance.candidates import Candidates, Floats
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.host_memory import (
    HOST_RESERVE_BYTES,
    RESERVE_TEXT,
    host_bytes_per_device,
    why_no_prefixes,
)
from budsim.simulator.planning.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLink:
    """The store as replicas on one group of devices reach it.

    Attributes
    ----------
    store : KvStore
        As it is asked for, no larger than what holds it.
    device_bytes_per_s : float
        What one device reads at most, over its own network card.
    all_bytes_per_s : float
        What all devices together read at most.
    through_host : bool
        Whether the engine reads it into host memory.
    """

    store: KvStore
    device_bytes_per_s: float
    all_bytes_per_s: float
    through_host: bool

    def bytes_per_s(self, devices: int) -> float:
        """Return what each of ``devices`` reads, bytes/s: an equal part of what is delivered."""
        return min(self.device_bytes_per_s, self.all_bytes_per_s / devices)


def store_link(question: Question, group: HardwareGroup, engine: ServingEngine) -> StoreLink | None:
    """Return how replicas on a group of devices reach the store that is asked for, or None."""
    store, rule = question.kv_store, _rule(question, group, engine)
    if store is None or rule is None or why_no_store(question, group, engine):
        return None
    card = group.device.scale_out.bandwidth_bytes_per_s * rule.reached
    # A server has one card like those of the devices; memory of all nodes has all their cards.
    usual = card if rule.kind is StoreKind.LMCACHE else math.inf
    return StoreLink(
        store=_placed(question, group, store),
        device_bytes_per_s=card,
        all_bytes_per_s=store.bytes_per_s or usual,
        through_host=rule.through_host,
    )


def store_note(question: Question, group: HardwareGroup, engine: ServingEngine) -> str:
    """Return why the store is not used, is smaller than asked or gains nothing; else ""."""
    store, why = question.kv_store, why_no_store(question, group, engine)
    if store is None or why:
        return why
    if not question.traffic.prefix_set_tokens():
        return (
            "a shared store changes nothing: caches drop no prefix unless the tokens of all "
            "prefixes are given"
        )
    room = _placed(question, group, store).capacity_bytes
    if room < store.capacity_bytes:
        return (
            f"nodes hold {room / GIB:.0f} of the {store.capacity_bytes / GIB:.0f} GiB asked for "
            f"the {store.kind} store beside other KV cache and {RESERVE_TEXT} that are left to "
            "others"
        )
    return ""


def why_no_store(question: Question, group: HardwareGroup, engine: ServingEngine) -> str:
    """Return why replicas share no store, or "" where they may."""
    store, device = question.kv_store, group.device
    if store is None:
        return ""
    if why := why_no_prefixes(question, group, engine):
        return why
    rule = _rule(question, group, engine)
    if rule is None:
        return f"{engine.name} reads no {store.kind} store on {device.kind.upper()}"
    if device.scale_out.bandwidth_bytes_per_s <= 0.0:
        return f"{device.name} has no network over which a store is read"
    if rule.through_host and not host_bytes_per_device(question, group, engine):
        return (
            f"{engine.name} reads a {store.kind} store through host memory, and none is given to "
            "KV cache"
        )
    if not _placed(question, group, store).capacity_bytes:
        return (
            f"host memory has no room for the {store.kind} store beside {RESERVE_TEXT} left to "
            "others"
        )
    return ""


def store_columns(
    links: Sequence[StoreLink | None], met: Floats, devices: Sequence[int]
) -> dict[str, Any]:
    """Return the columns of `Candidates` about a shared store, one ``links`` a row.

    A replica that meets a quarter of the prefixes (``met``) sees a quarter of the store. All
    ``devices`` of a row divide what the store delivers.
    """
    if not any(links):
        return {}
    speed = [
        link.bytes_per_s(count) if link else 0.0 for link, count in zip(links, devices, strict=True)
    ]
    return {
        "store_bytes": np.array([link.store.capacity_bytes if link else 0.0 for link in links])
        * met,
        "store_bytes_per_s": np.array(speed),
        "store_through_host": np.array([bool(link and link.through_host) for link in links]),
    }


def storing_where_it_gains(table: Candidates) -> Candidates:
    """Return the rows, with a store where requests then end sooner.

    Engines always read what the store holds. Where that takes longer than computing it again, as
    over a slow network, the row has no store.
    """
    if table.store_bytes is None or not table.store_bytes.any():
        return table
    without = replace(table, store_bytes=np.zeros(len(table)))
    plain, stored = (
        AnalyticPredictor().predict(each)[1].service.e2e_s for each in (without, table)
    )
    return replace(table, store_bytes=np.where(stored < plain, table.store_bytes, 0.0))


def _rule(question: Question, group: HardwareGroup, engine: ServingEngine) -> StoreRule | None:
    kind = group.device.kind
    return engine.profile(kind).store(question.kv_store.kind, kind) if question.kv_store else None


def _placed(question: Question, group: HardwareGroup, store: KvStore) -> KvStore:
    """Return a store on the fewest nodes whose memory holds it in equal parts, or most of it.

    Nodes with room for 500, 500 and 100 GB hold 600 GB on the first two, and at most 1,000. A
    server of its own is as large as it is said to be, and so are nodes whose memory is not known,
    or that have not been bought yet.
    """
    there = {each.node.name: each.node.known_host_memory_bytes for each in group.nodes}
    is_known = bool(there) and all(there.values())
    if store.kind is not StoreKind.MOONCAKE or not is_known:
        return store
    taken = HOST_RESERVE_BYTES + question.kv_offload_bytes
    rooms = {name: max(size - taken, 0.0) for name, size in there.items()}
    names = sorted(rooms, key=lambda name: -rooms[name])
    held = [count * rooms[name] for count, name in enumerate(names, start=1)]
    enough = (n for n, size in enumerate(held, start=1) if size >= store.capacity_bytes)
    count = next(enough, held.index(max(held)) + 1)
    capacity = min(store.capacity_bytes, held[count - 1])
    return replace(store, capacity_bytes=capacity, nodes=tuple(names[:count]))
