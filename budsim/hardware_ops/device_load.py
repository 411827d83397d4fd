"""What other work leaves of a device: on time-sliced GPUs, and on the processors of a node."""

from __future__ import annotations

from dataclasses import dataclass, replace

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.hardware_ops.cluster import DevicePool
from budsim.hardware_ops.device import Device
from budsim.hardware_ops.device_identity import MOST_GB
from budsim.hardware_ops.device_parts import numa_node
from budsim.hardware_ops.inventory_reader import InventoryReader

MOST_CORES = 10_000
MOST_SOCKETS = 64
MOST_NUMA_NODES = 1024
# Sixteen groups of cores with a last-level cache each, exposed as nodes (EPYC 9005, 16 dies).
MOST_NODES_OF_SOCKET = 16
# Time-sliced cores are handed out more than once.
MOST_PERCENT = 1e4
_REMEDY = "state what other containers hold, 0 where they hold nothing"


def unusable(pool: DevicePool, reason: str) -> DevicePool:
    """Return a pool of which nothing may be used, for a reason."""
    return replace(pool, available=0, memory_free_bytes=0.0, unavailable_reason=reason)


def with_time_sliced_load(pool: DevicePool, entry: InventoryReader) -> DevicePool:
    """Return the pool with what other containers leave on its time-sliced device.

    10 of 40 GB and 40 % of the cores handed out -> 30 GB and a share of 0.6.
    """
    allocated = entry.number("memory_allocated_gb", most=MOST_GB, unit="GB")
    used_percent = entry.number("memory_utilization_percent", most=100, unit="%")
    busy = [
        entry.number(key, most=MOST_PERCENT, unit="%")
        for key in ("core_utilization_percent", "cores_allocated_percent")
    ]
    device = pool.device
    if device is None:
        return pool
    stated_busy = [percent for percent in busy if percent is not None]
    taken = _taken_bytes(device, allocated, used_percent)
    # Both are asked for at once, so that nobody has to come back for the second.
    missing = ["memory_allocated_gb"] * (taken is None)
    missing += ["cores_allocated_percent"] * (not stated_busy)
    if taken is None or missing:
        return unusable(pool, f"time-sliced device without {' and '.join(missing)}; {_REMEDY}")
    # What is handed out counts even if it idles: its owner may use it at any time.
    share = 1 - max(stated_busy) / 100
    reason = "other containers hold all of its memory or compute"
    return _with_rest(pool, device.memory_bytes - taken, share, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NodeProcessors:
    """What an entry states of a node's processors; memory in GB of all sockets together."""

    cores: int | None
    sockets: int | None
    memory_gb: float
    used_cores: float
    used_gb: float
    numa_nodes: int | None = None

    def count(self, pool: DevicePool, device: Device) -> int:
        """Return the number of sockets: counted, stated, or as many as the cores need."""
        counted = pool.total if pool.total > 1 else None
        needed = max(1, round((self.cores or 0) / device.compute_units))
        return counted or self.sockets or needed

    def cores_of_socket(self, device: Device, sockets: int) -> int:
        """Return a socket's cores, at most those of the data sheet: more are threads."""
        if not self.cores:
            return device.compute_units
        return min(device.compute_units, max(1, round(self.cores / sockets)))

    def nodes_of_socket(self, device: Device, sockets: int, path: str) -> int:
        """Return the NUMA nodes of a socket.

        Where the entry states none, whole sockets have those that the BIOS sets up by default; a
        part of a socket has one, because virtual machines do not see them.

        Raises
        ------
        InvalidInput
            The nodes at ``path`` do not divide among sockets, or are more than a socket can have.
        """
        if self.numa_nodes is None:
            is_whole = (self.cores or 0) >= sockets * device.compute_units
            return device.numa_nodes if is_whole else 1
        if self.numa_nodes == 1:  # one node may hold several interleaved sockets
            return 1
        nodes, rest = divmod(self.numa_nodes, sockets)
        most = min(MOST_NODES_OF_SOCKET, device.compute_units)
        if rest or not 1 <= nodes <= most:
            expected = f"1 or a multiple of the {sockets} sockets, at most {most} a socket"
            raise InvalidInput(path, f"is {self.numa_nodes}", f"{expected}, as lscpu prints it")
        return nodes


def with_processor_load(pool: DevicePool, entry: InventoryReader) -> DevicePool:
    """Return one device for each NUMA node, with what the node's other work leaves of it.

    That is a socket, or a part of one: engines run one rank for each.

    Missing sockets follow from the cores; without cores the CPU cannot be used. A virtual machine
    with fewer cores gets their share of the arithmetic and all of the bandwidth.
    """
    stated = _read_processors(entry)
    device = pool.device
    if device is None:
        return _per_socket(pool, stated.sockets or 1)
    if not stated.memory_gb:
        reason = "the node's memory is not stated (memory_gb)"
        return unusable(_per_socket(pool, stated.sockets or 1), reason)
    sockets = stated.count(pool, device)
    cores = stated.cores_of_socket(device, sockets)
    nodes = stated.nodes_of_socket(device, sockets, entry.at("numa_nodes"))
    socket = _socket(device, cores, stated.memory_gb * GIB / sockets)
    pool = _per_socket(replace(pool, device=numa_node(socket, nodes)), sockets)
    pool = replace(pool, total=pool.total * nodes, available=pool.available * nodes)
    if not stated.cores:
        # The callers' own rule: they place no replica on a CPU whose cores they do not know.
        return unusable(pool, "the node's cores are not stated (cores)")
    free = (stated.memory_gb - stated.used_gb) * GIB / (sockets * nodes)
    share = 1 - stated.used_cores / (cores * sockets)
    return _with_rest(pool, free, share, "the node's other work holds all its memory or cores")


def _taken_bytes(
    device: Device, allocated_gb: float | None, used_percent: float | None
) -> float | None:
    if allocated_gb is not None:
        return allocated_gb * GIB
    return None if used_percent is None else used_percent / 100 * device.memory_bytes


def _with_rest(pool: DevicePool, free_bytes: float, share: float, reason: str) -> DevicePool:
    if free_bytes <= 0 or share <= 0:
        return unusable(replace(pool, compute_free_share=max(0.0, share)), reason)
    return replace(pool, memory_free_bytes=free_bytes, compute_free_share=share)


def _read_processors(entry: InventoryReader) -> _NodeProcessors:
    physical = entry.count("physical_cores", most=MOST_CORES)
    # Read for their checks alone: a bad value is an error even where nothing depends on it.
    for key in ("threads", "frequency_ghz"):
        entry.number(key, most=2 * MOST_CORES, unit=key)
    return _NodeProcessors(
        cores=physical or entry.count("cores", most=MOST_CORES),
        sockets=entry.count("socket_count", most=MOST_SOCKETS) or None,
        memory_gb=_stated_memory_gb(entry),
        used_cores=entry.number("utilized_cores", most=MOST_CORES, unit="cores") or 0.0,
        used_gb=entry.number("utilized_memory_gb", most=MOST_GB, unit="GB") or 0.0,
        numa_nodes=entry.count("numa_nodes", least=1, most=MOST_NUMA_NODES),
    )


def _stated_memory_gb(entry: InventoryReader) -> float:
    stated = entry.number("memory_gb", most=MOST_GB, unit="GB")
    return stated or entry.number("mem_per_GPU_in_GB", most=MOST_GB, unit="GB") or 0.0


def _per_socket(pool: DevicePool, sockets: int) -> DevicePool:
    """Count sockets where the inventory counts the node's CPUs as one."""
    if pool.total > 1:  # already counted by socket
        return pool
    return replace(pool, total=pool.total * sockets, available=pool.available * sockets)


def _socket(device: Device, cores: int, memory_bytes: float) -> Device:
    share = cores / device.compute_units
    peaks = {precision: flops * share for precision, flops in device.flops_per_s.items()}
    return replace(device, compute_units=cores, memory_bytes=memory_bytes, flops_per_s=peaks)
