"""Where replicas go: which devices of a cluster may be used, how many replicas they hold, and on which nodes each one lies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from budsim.commons.units import GIB
from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.simulator.planning.plans import Placement, Rejection

SHARE_STEP = 0.05
MEMORY_STEPS = 32
LEVELS = 4
"""Slices are told apart in steps of 5 % of compute and 1/32 of memory, in at most so many levels: searching each costs time."""
NODES_NAMED = 3
USUAL_NODE = 8
UNTOUCHED = 0.9
"""A device with less of its memory free than this is somebody's already; drivers and data sheets differ by a few per cent."""


Layout = tuple[int, int, int]
"""TP, PP and number of equal replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Free devices of one type on one node; ``pools`` are pairs of (index of the pool in the node, devices free there)."""

    node: Node
    pools: tuple[tuple[int, int], ...]

    @property
    def free(self) -> int:
        """Number of free devices."""
        return sum(count for _, count in self.pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareGroup:
    """Interchangeable devices of one cluster.

    Attributes
    ----------
    memory_free_bytes, compute_share : float
        What every one of them has left at least.
    slots : tuple of Slots
        Where they are, in inventory order; one entry per node.
    sizes : mapping as sorted pairs
        How many nodes have how many of them free: all that capacity depends on.
    """

    device: Device
    label: DeviceLabel
    memory_free_bytes: float
    compute_share: float
    slots: tuple[Slots, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def devices(self) -> int:
        """Number of free devices."""
        return sum(free * nodes for free, nodes in self.sizes)

    @property
    def largest_node(self) -> int:
        """Most devices free on one node: the largest tensor-parallel group."""
        return max(free for free, _ in self.sizes)

    def capacity(self, tp: int, pp: int) -> int:
        """Return how many replicas of ``tp x pp`` devices fit, every tensor-parallel group inside one node.

        Pipeline stages may lie on different nodes where the device has a link out of its node.
        """
        stages = sum(nodes * (free // tp) for free, nodes in self.sizes)
        if pp == 1 or crosses_nodes(self.device):
            return stages // pp
        return sum(nodes * (free // tp // pp) for free, nodes in self.sizes)

    def free(self) -> Iterator[tuple[str, int, int]]:
        """Yield node id, pool and number of the free devices, pool by pool."""
        return ((slot.node.node_id, pool, free) for slot in self.slots for pool, free in slot.pools)

    def less(self, taken: Iterable[tuple[str, int, int]]) -> HardwareGroup:
        """Return the group without some devices, told by node id, pool and number."""
        counts = Counter[tuple[str, int]]()
        for node_id, pool, devices in taken:
            counts[node_id, pool] += devices
        slots = tuple(slot for slot in (_less(slot, counts) for slot in self.slots) if slot.pools)
        return replace(self, slots=slots, sizes=_sizes(slots))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """What of a cluster may be used: groups of equal devices, and a reason for every device that is in none of them."""

    groups: tuple[HardwareGroup, ...]
    rejections: tuple[Rejection, ...]


def usual_node(device: Device) -> int:
    """Return how many devices a node of the catalog's device has: eight, fewer where its link reaches fewer."""
    return min(USUAL_NODE, device.scale_up.domain_devices)


def crosses_nodes(device: Device) -> bool:
    """Return whether pipeline stages on different nodes can reach each other."""
    return device.scale_out.bandwidth_bytes_per_s > 0


def usable(cluster: Cluster, mode: HardwareMode, *, skip_master_cpus: bool) -> Usable:
    """Sort a cluster's devices into groups that replicas may use and reasons why the others may not.

    Every device is counted once: ``sum(rejection.devices)`` plus the free devices of the distinct pools in the groups is the
    number of devices that entered. Groups of one device type may overlap (a device with much free memory is also one with some).
    """
    found: dict[Device, dict[str, list[_Free]]] = defaultdict(lambda: defaultdict(list))
    refused: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for node in cluster.nodes:
        for index, pool in enumerate(node.pools):
            reason = _why_not(cluster, node, pool, mode, skip_master_cpus=skip_master_cpus)
            free = 0 if reason or pool.device is None else min(pool.available, pool.total)
            if pool.total > free or not pool.total:
                refused[pool.label.name, reason or "in use by others"][node.name] += (
                    pool.total - free
                )
            if free and pool.device:
                found[pool.device][node.node_id].append(_Free(node, index, pool, pool.device, free))
    groups = tuple(
        group for nodes in found.values() for group in _levels(list(nodes.values()), mode)
    )
    return Usable(groups=groups, rejections=tuple(_rejections(cluster.cluster_id, refused)))


def place(
    group: HardwareGroup, tp: int, pp: int, replicas: int
) -> tuple[tuple[Placement, ...], ...]:
    """Return where each of ``replicas`` replicas lies: one tuple of placements per replica.

    A replica stays on one node where it can; otherwise its pipeline stages follow each other over nodes.

    Raises
    ------
    ValueError
        More replicas than `HardwareGroup.capacity` says: a bug of the caller.
    """
    placed: list[tuple[Placement, ...]] = []
    left: list[list[Placement]] = []
    for slots in group.slots:
        if len(placed) == replicas:
            return tuple(placed)
        stages = _stages(slots, tp)
        whole = min(len(stages) // pp, replicas - len(placed))
        placed += [_merged(stages[k * pp : (k + 1) * pp]) for k in range(whole)]
        left += stages[whole * pp :]
    if crosses_nodes(group.device):
        missing = replicas - len(placed)
        placed += [
            _merged(left[k * pp : (k + 1) * pp]) for k in range(min(missing, len(left) // pp))
        ]
    if len(placed) < replicas:
        raise ValueError(
            f"{replicas} replicas of tp={tp}, pp={pp} do not fit {group.devices} devices"
        )
    return tuple(placed)


def left_beside(group: HardwareGroup, layouts: Sequence[Layout]) -> HardwareGroup | None:
    """Return what sets of replicas leave of a group when they are placed one after another, None where they do not fit."""
    for tp, pp, replicas in layouts:
        if group.capacity(tp, pp) < replicas:
            return None
        group = group.less(devices_of(place(group, tp, pp, replicas)))
    return group


def arranged(group: HardwareGroup, layouts: Sequence[Layout]) -> list[HardwareGroup]:
    """Return where each of several sets of replicas may lie: in all that the others leave, so that no two share a device.

    Raises
    ------
    ValueError
        They do not fit: a bug of the caller; see `left_beside`.
    """
    placed: list[tuple[tuple[Placement, ...], ...]] = []
    left = group
    for layout in layouts:
        placed.append(place(left, *layout))
        left = left.less(devices_of(placed[-1]))
    found = []
    for number, layout in enumerate(layouts):
        others = (
            placement
            for other, set_ in enumerate(placed)
            if other != number
            for placement in devices_of(set_)
        )
        found.append(group.less(others))
        placed[number] = place(found[-1], *layout)
    return found


def devices_of(replicas: Iterable[Iterable[Placement]]) -> Iterator[tuple[str, int, int]]:
    """Yield node id, pool and number of the devices replicas lie on."""
    return ((part.node_id, part.pool, part.devices) for replica in replicas for part in replica)


@dataclass(frozen=True, slots=True)
class _Free:
    node: Node
    index: int
    pool: DevicePool
    device: Device
    free: int


def _why_not(
    cluster: Cluster, node: Node, pool: DevicePool, mode: HardwareMode, *, skip_master_cpus: bool
) -> str:
    if pool.device is None:
        return (
            pool.unavailable_reason
            or "unknown device: the catalog has no figures for it, and none are guessed"
        )
    if not pool.total:
        return pool.unavailable_reason or "the inventory counts none of it"
    if not node.is_up:
        return "its node is down"
    if not pool.available:
        return pool.unavailable_reason or "in use by others"
    if skip_master_cpus and node.is_master and pool.device.kind is DeviceKind.CPU:
        return "CPUs of master nodes are left to the cluster"
    if mode is HardwareMode.SHARED and not _time_sliced(cluster, pool, pool.device):
        return "it is not time-sliced, and hardware_mode is shared"
    if mode is HardwareMode.DEDICATED and _taken(pool, pool.device):
        return "others hold a part of it, and hardware_mode is dedicated"
    if pool.memory_free_bytes <= 0 or pool.compute_free_share <= 0:
        return f"nothing of it is left ({_left(pool)})"
    return ""


def _time_sliced(cluster: Cluster, pool: DevicePool, device: Device) -> bool:
    """One entry per physical GPU is how time-sliced clusters list them; CPUs are never sliced."""
    return (
        cluster.mode is HardwareMode.SHARED
        and device.kind is not DeviceKind.CPU
        and pool.total == 1
    )


def _taken(pool: DevicePool, device: Device) -> bool:
    """On CPUs the node's own work always takes a little; what is left of them is ours."""
    if device.kind is DeviceKind.CPU:
        return False
    return pool.compute_free_share < 1.0 or pool.memory_free_bytes < UNTOUCHED * device.memory_bytes


def _left(pool: DevicePool) -> str:
    return f"{pool.memory_free_bytes / GIB:.0f} GiB and {pool.compute_free_share:.0%} of its compute are free"


def _levels(nodes: Sequence[Sequence[_Free]], mode: HardwareMode) -> Iterator[HardwareGroup]:
    """Yield the groups of one device type: one per level of what is left, each of all devices with at least that much."""
    everyone = [free for node in nodes for free in node]
    levels = sorted({_level(free, mode) for free in everyone}, reverse=True)
    if len(levels) > LEVELS:
        levels = sorted(
            {levels[round(k * (len(levels) - 1) / (LEVELS - 1))] for k in range(LEVELS)},
            reverse=True,
        )
    seen: set[int] = set()
    for share, memory in [*levels, (min(s for s, _ in levels), min(m for _, m in levels))]:
        members = [[free for free in node if _holds(free, share, memory, mode)] for node in nodes]
        group = _group([node for node in members if node])
        if group and group.devices not in seen:
            seen.add(group.devices)
            yield group


def _level(free: _Free, mode: HardwareMode) -> tuple[float, float]:
    share = (
        1.0
        if mode is HardwareMode.DEDICATED
        else int(free.pool.compute_free_share / SHARE_STEP + 1e-9) * SHARE_STEP
    )
    step = free.device.memory_bytes / MEMORY_STEPS
    return (
        max(share, min(SHARE_STEP, free.pool.compute_free_share)),
        int(free.pool.memory_free_bytes / step + 1e-9) * step,
    )


def _holds(free: _Free, share: float, memory: float, mode: HardwareMode) -> bool:
    own_share, own_memory = _level(free, mode)
    return own_share >= share - 1e-9 and own_memory >= memory - 1.0


def _group(nodes: Sequence[Sequence[_Free]]) -> HardwareGroup | None:
    if not nodes:
        return None
    first = nodes[0][0]
    slots = tuple(
        Slots(node=node[0].node, pools=tuple((free.index, free.free) for free in node))
        for node in nodes
    )
    return HardwareGroup(
        device=first.device,
        label=first.pool.label,
        memory_free_bytes=min(free.pool.memory_free_bytes for node in nodes for free in node),
        compute_share=min(free.pool.compute_free_share for node in nodes for free in node),
        slots=slots,
        sizes=_sizes(slots),
    )


def _less(slot: Slots, counts: Mapping[tuple[str, int], int]) -> Slots:
    """Return the slots without devices counted by node id and pool."""
    node_id = slot.node.node_id
    if not any((node_id, pool) in counts for pool, _ in slot.pools):
        return slot
    left = ((pool, free - counts.get((node_id, pool), 0)) for pool, free in slot.pools)
    return replace(slot, pools=tuple((pool, free) for pool, free in left if free > 0))


def _sizes(slots: Iterable[Slots]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(slot.free for slot in slots).items()))


def _stages(slots: Slots, tp: int) -> list[list[Placement]]:
    """Return tensor-parallel groups of one node, each as the pools its devices come from."""
    stages: list[list[Placement]] = []
    stage: list[Placement] = []
    missing = tp
    for pool, count in slots.pools:
        here = count
        while here:
            taken = min(here, missing)
            stage.append(
                Placement(
                    node_id=slots.node.node_id, node_name=slots.node.name, pool=pool, devices=taken
                )
            )
            here, missing = here - taken, missing - taken
            if not missing:
                stages.append(stage)
                stage, missing = [], tp
    return stages


def _merged(stages: Iterable[Sequence[Placement]]) -> tuple[Placement, ...]:
    merged: list[Placement] = []
    for placement in (placement for stage in stages for placement in stage):
        last = merged[-1] if merged else None
        if last and (last.node_id, last.pool) == (placement.node_id, placement.pool):
            merged[-1] = replace(last, devices=last.devices + placement.devices)
        else:
            merged.append(placement)
    return tuple(merged)


def _rejections(
    cluster_id: str, refused: dict[tuple[str, str], Counter[str]]
) -> Iterator[Rejection]:
    for (subject, reason), nodes in refused.items():
        named = ", ".join(list(nodes)[:NODES_NAMED]) + (
            f" and {len(nodes) - NODES_NAMED} more" if len(nodes) > NODES_NAMED else ""
        )
        yield Rejection(
            cluster_id=cluster_id,
            subject=subject,
            reason=f"{reason} (on {named})",
            devices=sum(nodes.values()),
        )
