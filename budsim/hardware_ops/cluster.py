"""What there is, and what of it is free: pools of equal devices on nodes of clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from budsim.hardware_ops.device import Device, DeviceKind


class HardwareMode(StrEnum):
    """Whether replicas own whole devices or time-slice them (HAMi)."""

    DEDICATED = "dedicated"
    SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLabel:
    """A device as the inventory's writer names it; echoed to callers, never computed with."""

    name: str
    raw_name: str
    device_model: str
    wire_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePool:
    """Equal devices of one node (one entry per physical GPU on time-sliced nodes).

    Attributes
    ----------
    device : Device or None
        ``None``: the catalog does not know it; it is reported, never guessed.
    label : DeviceLabel
        Names as the inventory spells them.
    total, available : int
        Devices present, and devices free to be used whole. A CPU counts one device per socket.
    memory_free_bytes : float
        Memory one device still has for us: all of it, or what other containers leave of a
        time-sliced device or a CPU node.
    compute_free_share : float
        Share of the device's arithmetic left to us, 0..1; 1 for dedicated devices.
    unavailable_reason : str
        Why ``available`` is below ``total``, or why nothing is usable; empty when all is.
    """

    device: Device | None
    label: DeviceLabel
    total: int
    available: int
    memory_free_bytes: float
    compute_free_share: float = 1.0
    device_uuid: str = ""
    unavailable_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine: its pools, and whether it is up and takes work.

    ``host_memory_bytes`` is what its processors address; 0: not stated.
    """

    node_id: str
    name: str
    pools: tuple[DevicePool, ...]
    is_up: bool = True
    is_master: bool = False
    host_memory_bytes: float = 0.0

    @property
    def known_host_memory_bytes(self) -> float:
        """Host memory as stated, or that of the processors the inventory lists; 0: unknown."""
        sockets = (
            pool.total * pool.device.memory_bytes
            for pool in self.pools
            if pool.device and pool.device.kind is DeviceKind.CPU
        )
        return self.host_memory_bytes or sum(sockets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Nodes that one deployment may span."""

    cluster_id: str
    name: str
    nodes: tuple[Node, ...]
    mode: HardwareMode = HardwareMode.DEDICATED

    def pools(self) -> Iterator[tuple[Node, DevicePool]]:
        """Yield every pool with its node, in inventory order."""
        for node in self.nodes:
            for pool in node.pools:
                yield node, pool

    def free_by_label(self) -> Counter[str]:
        """Return how many free devices there are of each label; on nodes that are down none is."""
        counts = Counter[str]()
        for _, pool in self.pools():
            counts[pool.label.name] += pool.available
        return counts
