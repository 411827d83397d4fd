"""Which devices of a cluster may be used.

Groups of interchangeable devices, and a reason for every other device.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from budsim.commons.units import GIB
from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device import Device, DeviceKind, Segment
from budsim.hardware_ops.device_identity import UNKNOWN
from budsim.hardware_ops.device_names import close_text
from budsim.simulator.planning.plans import Rejection

# Time-sliced devices are told apart in steps of 5 % of compute and 1/32 of memory.
SHARE_STEP: Final = 0.05
MEMORY_STEPS: Final = 32
# Levels of what is left of time-sliced devices that are searched: each costs a search of its own.
LEVELS: Final = 4
# Nodes that a rejection names before it says how many more there are.
NODES_NAMED: Final = 3
# Unknown devices that come with names that are spelled alike; each takes about a millisecond.
MOST_HINTS: Final = 10
# Accelerators in the usual server (HGX, OAM and PCIe servers of 2020 to 2026).
USUAL_NODE: Final = 8
# Nodes that people put into one pipeline where they can choose their devices.
PLAIN_PIPELINE: Final = 4
# Share of its memory a dedicated device must have free: drivers and data sheets differ by a little.
UNTOUCHED: Final = 0.9
# Share of its cores from which on a CPU is busy and not used as a dedicated device: the deploying
# service's own rule.
BUSY_CPU: Final = 0.05

ROUNDING: Final = 1e-9
# Nodes that one group of experts spans: powers of two, up to the 72 devices of the largest NVLink
# domain (GB200 and GB300 NVL72) and the 64 that guides for wide expert parallelism run.
WIDE_NODES: Final = (2, 4, 8, 16)
MOST_WIDE: Final = 72

# Node id, place of a pool in the node, and a number of its devices.
DeviceCount = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDevices:
    """Free devices of one type on one node.

    ``pools`` are pairs of (place of a pool in the node, devices free there).
    """

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
    nodes : tuple of NodeDevices
        Where they are, in inventory order.
    sizes : mapping as sorted pairs
        How many nodes have how many of them free: all that capacity depends on.
    whole_node : int
        Free devices of the nodes that replicas over several nodes are made of; 0: they stay within
        one, see `with_whole_nodes`.
    """

    device: Device
    label: DeviceLabel
    memory_free_bytes: float
    compute_share: float
    nodes: tuple[NodeDevices, ...]
    sizes: tuple[tuple[int, int], ...]
    whole_node: int = 0

    @property
    def devices(self) -> int:
        """Number of free devices."""
        return sum(free * nodes for free, nodes in self.sizes)

    @property
    def device_of_whole_servers(self) -> Device:
        """The device with the link of a whole server, however few of it a node offers here."""
        first = self.nodes[0]
        place, _ = first.pools[0]
        return first.node.pools[place].device or self.device

    @property
    def largest_node(self) -> int:
        """Most devices free on one node: the largest tensor-parallel group; 1 of MIG slices."""
        return 1 if self.device.works_alone else max(free for free, _ in self.sizes)

    def capacity(self, tp: int, pp: int) -> int:
        """Return how many replicas of ``tp x pp`` devices fit; no TP group spans nodes.

        Pipeline stages may lie on different nodes where the device has a link out of its node: two
        nodes of three devices hold two stages of TP 2, one replica of TP 2 and PP 2.
        """
        if self.device.works_alone and tp * pp > 1:
            return 0
        if self.is_wide(tp):
            return self._wide_capacity(tp // self.whole_node) if pp == 1 else 0
        stages = sum(nodes * (free // tp) for free, nodes in self.sizes)
        if pp == 1 or crosses_nodes(self.device):
            return stages // pp
        return sum(nodes * (free // tp // pp) for free, nodes in self.sizes)

    @property
    def wide_sizes(self) -> tuple[int, ...]:
        """Sizes of groups over several whole nodes there is room for, ascending.

        Four nodes of eight H200: 16 and 32.
        """
        sizes = (nodes * self.whole_node for nodes in WIDE_NODES)
        return tuple(size for size in sizes if 0 < size <= MOST_WIDE and self.capacity(size, 1))

    def is_wide(self, tp: int) -> bool:
        """Return whether ``tp`` devices are several whole nodes."""
        return 0 < self.whole_node < tp and tp % self.whole_node == 0

    def is_linked(self, tp: int) -> bool:
        """Return whether ``tp`` devices of several nodes reach each other as those of one node do.

        The 72 devices of a GB200 NVL72 do; they are taken to be 18 nodes in inventory order.
        """
        return tp <= self.device.scale_up.domain_devices

    @property
    def is_one_domain(self) -> bool:
        """Whether the devices' own link joins all of them: one node, or nodes of one rack.

        18 nodes of four GB200 are an NVL72. Nodes of several racks are joined by the network.
        """
        domain = self.device.scale_up.domain_devices
        total = sum(each.node.pools[at].total for each in self.nodes for at, _ in each.pools)
        return len(self.nodes) == 1 or total <= domain

    @property
    def largest_domain(self) -> HardwareGroup:
        """The devices of the link domain that has most of them free; all where it is one.

        36 nodes of four GB200 are two NVL72. Racks are taken to be nodes in inventory order.
        """
        if self.is_one_domain or self.device.scale_up.domain_devices <= USUAL_NODE:
            return self
        racks: list[list[NodeDevices]] = [[]]
        left = self.device.scale_up.domain_devices
        for node in self.nodes:
            total = sum(node.node.pools[at].total for at, _ in node.pools)
            if total > left:
                racks.append([])
                left = self.device.scale_up.domain_devices
            racks[-1].append(node)
            left -= total
        nodes = tuple(max(racks, key=lambda rack: sum(node.free for node in rack)))
        return replace(self, nodes=nodes, sizes=_sizes(nodes))

    def whole_nodes(self) -> list[list[NodeDevices]]:
        """Return the nodes with all their devices free, by link domain, in inventory order."""
        whole = [node for node in self.nodes if node.free == self.whole_node]
        each = self._nodes_of_domain(len(whole))
        return [whole[start : start + each] for start in range(0, len(whole), each)]

    def _wide_capacity(self, nodes: int) -> int:
        whole = dict(self.sizes).get(self.whole_node, 0)
        each = self._nodes_of_domain(whole)
        full, rest = divmod(whole, each)
        return full * (each // nodes) + rest // nodes

    def _nodes_of_domain(self, whole: int) -> int:
        """Return how many nodes share a fast link; all where only the network connects nodes."""
        inside = self.device.scale_up.domain_devices // max(self.whole_node, 1)
        return inside if inside > 1 else max(whole, 1)

    def free(self) -> Iterator[DeviceCount]:
        """Yield the free devices, pool by pool."""
        return ((each.node.node_id, pool, n) for each in self.nodes for pool, n in each.pools)

    def without(self, taken: Iterable[DeviceCount]) -> HardwareGroup:
        """Return the group without some devices."""
        counts = Counter[tuple[str, int]]()
        for node_id, pool, devices in taken:
            counts[node_id, pool] += devices
        left = (_without(each, counts) for each in self.nodes)
        nodes = tuple(each for each in left if each.pools)
        return replace(self, nodes=nodes, sizes=_sizes(nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """What of a cluster may be used.

    Groups of equal devices, and reasons for the devices that are in none of them.
    """

    groups: tuple[HardwareGroup, ...]
    rejections: tuple[Rejection, ...]


def usual_node(device: Device) -> int:
    """Return how many devices a usual node has.

    Eight, fewer where the device's link reaches fewer.
    """
    return min(USUAL_NODE, device.scale_up.domain_devices)


def is_plain(group: HardwareGroup, tp: int, pp: int) -> bool:
    """Return whether a layout has no pipeline, or one of a few whole data centre nodes."""
    segment = group.device.availability.segment if group.device.availability else None
    in_data_center = segment in {None, Segment.DATA_CENTER}
    return pp == 1 or (in_data_center and tp == group.largest_node and pp <= PLAIN_PIPELINE)


def with_whole_nodes(group: HardwareGroup) -> HardwareGroup:
    """Return the group for a question whose replicas may take several whole nodes."""
    return replace(group, whole_node=group.largest_node if len(group.nodes) > 1 else 0)


def crosses_nodes(device: Device) -> bool:
    """Return whether pipeline stages on different nodes can reach each other."""
    return device.scale_out.bandwidth_bytes_per_s > 0


def usable(cluster: Cluster, mode: HardwareMode, *, skip_master_cpus: bool) -> Usable:
    """Sort a cluster's devices into groups that may be used, and reasons for the others.

    Every device is counted once: ``sum(rejection.devices)`` plus the free devices of the distinct
    pools in the groups is the number of devices that entered. Groups of one device type may
    overlap: a device with much free memory is also one with some.
    """
    found: dict[Device, dict[str, list[_FreePool]]] = defaultdict(lambda: defaultdict(list))
    refused: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for node in cluster.nodes:
        for index, pool in enumerate(node.pools):
            reason = _why_not(cluster, node, pool, mode, skip_master_cpus=skip_master_cpus)
            free = _free_devices(pool, reason)
            if pool.total > free or not pool.total:
                subject = (pool.label.name, reason or "in use by others")
                refused[subject][node.name] += pool.total - free
            if free and pool.device:
                mine = found[pool.device][node.node_id]
                mine.append(_FreePool(node, index, pool, pool.device, free))
    by_level = (_levels(_linked(device, nodes), mode) for device, nodes in found.items())
    groups = tuple(chain.from_iterable(by_level))
    return Usable(groups=groups, rejections=tuple(_rejections(cluster.cluster_id, refused)))


@dataclass(frozen=True, slots=True)
class _FreePool:
    """A pool with ``free`` devices that may be used."""

    node: Node
    index: int
    pool: DevicePool
    device: Device
    free: int


def _linked(device: Device, nodes: Mapping[str, list[_FreePool]]) -> list[list[_FreePool]]:
    """Return the pools of a device by node, with the link among the most that one node has free."""
    most = max(sum(each.free for each in pools) for pools in nodes.values())
    linked = in_nodes_of(device, most)
    return [[replace(each, device=linked) for each in pools] for pools in nodes.values()]


def _free_devices(pool: DevicePool, reason: str) -> int:
    """Return how many devices of a pool may be used: none where a reason speaks against it."""
    if reason or pool.device is None:
        return 0
    # Inventories have been seen that count more devices free than there are.
    return min(pool.available, pool.total)


def _why_not(
    cluster: Cluster, node: Node, pool: DevicePool, mode: HardwareMode, *, skip_master_cpus: bool
) -> str:
    """Return why no device of a pool may be used, or nothing."""
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
    if _is_skipped(node, pool.device, skip_master_cpus=skip_master_cpus):
        return "CPUs of master nodes are left to the cluster"
    return _why_not_in_mode(cluster, pool, pool.device, mode)


def _is_skipped(node: Node, device: Device, *, skip_master_cpus: bool) -> bool:
    return skip_master_cpus and node.is_master and device.kind is DeviceKind.CPU


def _why_not_in_mode(cluster: Cluster, pool: DevicePool, device: Device, mode: HardwareMode) -> str:
    """Return why a pool cannot be used as the question's hardware mode asks, or nothing."""
    if mode is HardwareMode.SHARED and not _can_be_shared(cluster, pool, device):
        return "it is not time-sliced, and shares of devices are asked for"
    if mode is HardwareMode.DEDICATED and _is_partly_taken(pool, device):
        if device.kind is DeviceKind.CPU:
            busy = 1.0 - pool.compute_free_share
            return f"other work keeps {busy:.0%} of its cores busy, and whole devices are asked for"
        return "others hold a part of it, and whole devices are asked for"
    if pool.memory_free_bytes <= 0 or pool.compute_free_share <= 0:
        left = f"{pool.memory_free_bytes / GIB:.0f} GiB and {pool.compute_free_share:.0%} of its"
        return f"nothing of it is left ({left} compute are free)"
    return ""


def _can_be_shared(cluster: Cluster, pool: DevicePool, device: Device) -> bool:
    """Return whether a device may be used beside others: CPUs, and GPUs that are time-sliced."""
    if device.kind is DeviceKind.CPU:
        return True
    # Time-sliced clusters list every GPU as an entry of its own; larger pools are of whole GPUs.
    return cluster.mode is HardwareMode.SHARED and pool.total == 1


def _is_partly_taken(pool: DevicePool, device: Device) -> bool:
    """Return whether others hold a part of a device.

    A CPU always runs some of its node's own work; its memory is shared by design.
    """
    if device.kind is DeviceKind.CPU:
        return pool.compute_free_share <= 1.0 - BUSY_CPU + ROUNDING
    untouched = UNTOUCHED * device.memory_at_start_bytes
    return pool.compute_free_share < 1.0 or pool.memory_free_bytes < untouched


def _levels(nodes: Sequence[Sequence[_FreePool]], mode: HardwareMode) -> Iterator[HardwareGroup]:
    """Yield groups of one device type.

    For each level of what is left, all devices with at least that much.

    The last group is of all devices. One whole GPU and one with 60 % left make two groups: the
    whole one, and both at 60 %.
    """
    everyone = [free for node in nodes for free in node]
    seen: set[int] = set()
    for share, memory in _searched_levels(everyone, mode):
        members = [[free for free in node if _has(free, share, memory, mode)] for node in nodes]
        group = _group([node for node in members if node])
        # A level that adds no device is the same group with less left of it.
        if group and group.devices not in seen:
            seen.add(group.devices)
            yield group


def _searched_levels(pools: Sequence[_FreePool], mode: HardwareMode) -> list[tuple[float, float]]:
    """Return the levels of what is left, most first, and one that all of the devices reach."""
    levels = sorted({_level(free, mode) for free in pools}, reverse=True)
    # Evenly spread levels keep the best and the least that is left.
    if len(levels) > LEVELS:
        spread = (round(k * (len(levels) - 1) / (LEVELS - 1)) for k in range(LEVELS))
        levels = sorted({levels[at] for at in spread}, reverse=True)
    shares, memories = zip(*levels, strict=True)
    return [*levels, (min(shares), min(memories))]


def _level(free: _FreePool, mode: HardwareMode) -> tuple[float, float]:
    """Return what is left of a device, rounded down: its share of compute, and bytes of memory."""
    share = 1.0
    if mode is HardwareMode.SHARED:
        share = int(free.pool.compute_free_share / SHARE_STEP + ROUNDING) * SHARE_STEP
    step = free.device.memory_bytes / MEMORY_STEPS
    return (
        max(share, min(SHARE_STEP, free.pool.compute_free_share)),
        int(free.pool.memory_free_bytes / step + ROUNDING) * step,
    )


def _has(free: _FreePool, share: float, memory: float, mode: HardwareMode) -> bool:
    own_share, own_memory = _level(free, mode)
    return own_share >= share - ROUNDING and own_memory >= memory - 1.0


def _group(nodes: Sequence[Sequence[_FreePool]]) -> HardwareGroup | None:
    """Return the group of some pools, listed by node; None without any."""
    if not nodes:
        return None
    first = nodes[0][0]
    free = tuple(
        NodeDevices(node=node[0].node, pools=tuple((each.index, each.free) for each in node))
        for node in nodes
    )
    return HardwareGroup(
        device=first.device,
        label=first.pool.label,
        memory_free_bytes=min(each.pool.memory_free_bytes for node in nodes for each in node),
        compute_share=min(each.pool.compute_free_share for node in nodes for each in node),
        nodes=free,
        sizes=_sizes(free),
    )


def in_nodes_of(device: Device, size: int) -> Device:
    """Return a device whose link joins no more than the ``size`` devices that a node offers.

    The catalog states the link of a whole server. Of two servers with four H100 each, NVLink joins
    four and not eight. A device with a way to each other one has fewer ways. Links of a rack
    (GB200 NVL72) join several nodes and stay.
    """
    link = device.scale_up
    if not size < link.domain_devices <= USUAL_NODE:
        return device
    ways = max(size - 1, 1) / (link.domain_devices - 1) if link.meshed else 1.0
    smaller = replace(
        link, domain_devices=size, bandwidth_bytes_per_s=link.bandwidth_bytes_per_s * ways
    )
    return replace(device, scale_up=smaller)


def _without(devices: NodeDevices, counts: Mapping[tuple[str, int], int]) -> NodeDevices:
    """Return a node's devices without those counted by node id and pool."""
    node_id = devices.node.node_id
    if not any((node_id, pool) in counts for pool, _ in devices.pools):
        return devices
    left = ((pool, free - counts.get((node_id, pool), 0)) for pool, free in devices.pools)
    return replace(devices, pools=tuple((pool, free) for pool, free in left if free > 0))


def _sizes(nodes: Iterable[NodeDevices]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(each.free for each in nodes).items()))


def _rejections(
    cluster_id: str, refused: Mapping[tuple[str, str], Counter[str]]
) -> Iterator[Rejection]:
    """Yield a rejection for every device and reason, with the first nodes it is on.

    The first unknown devices come with names that are spelled alike.
    """
    unknown = [each for each in refused if each[1].startswith(UNKNOWN)][:MOST_HINTS]
    for (subject, reason), nodes in refused.items():
        hint = close_text(subject) if (subject, reason) in unknown else ""
        named = ", ".join(list(nodes)[:NODES_NAMED])
        more = f" and {len(nodes) - NODES_NAMED} more" if len(nodes) > NODES_NAMED else ""
        yield Rejection(
            cluster_id=cluster_id,
            subject=subject,
            reason=f"{reason} (on {named}{more}){hint and f'; {hint}'}",
            devices=sum(nodes.values()),
        )
