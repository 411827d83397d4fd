"""One accelerator or CPU socket by its data sheet, and how devices of its kind reach each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from budsim.commons.precision import Precision, compute_format


class DeviceKind(StrEnum):
    """Families of hardware with an engine build and a regressor of their own."""

    CUDA = "cuda"
    ROCM = "rocm"
    HPU = "hpu"
    CPU = "cpu"
    XPU = "xpu"


class Segment(StrEnum):
    """What a device is made for."""

    DATA_CENTER = "data_center"
    WORKSTATION = "workstation"
    DESKTOP = "desktop"
    EMBEDDED = "embedded"


class PriceBasis(StrEnum):
    """What the price of an hour pays for: renting a device, or owning it."""

    RENT = "rent"
    OWN = "own"


class PriceKind(StrEnum):
    """How the price of an hour is known."""

    PUBLISHED = "published"
    ESTIMATED = "estimated"
    COMPUTED = "computed"
    GIVEN = "given"
    INVENTORY = "inventory"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOrigin:
    """Where the price of an hour comes from.

    Attributes
    ----------
    basis : PriceBasis
        What it pays for.
    kind : PriceKind
        ``published`` by providers, ``estimated`` from the purchase price, ``computed`` from the
        costs of ownership, ``given`` in a price file, or stated by the ``inventory``.
    date : str
        Day, month or year of the oldest price it is made of; empty where unknown.
    source : str
        Providers or file, and the arithmetic.
    """

    basis: PriceBasis
    kind: PriceKind
    date: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a device can be had.

    Attributes
    ----------
    segment : Segment
        What it is made for.
    sold_from, sold_until : int or None
        Years of the first and the last sale. No first year: it was never sold. No last year: it is
        still sold.
    market : str
        The only country it is sold in, as export versions are; empty: everywhere.
    rented_only : bool
        Whether a cloud has it made for itself: it can be rented and not bought.
    source : str
        Where this was read.
    """

    segment: Segment
    sold_from: int | None
    sold_until: int | None
    source: str
    market: str = ""
    rented_only: bool = False

    @property
    def is_sold(self) -> bool:
        """Whether it can be bought new today."""
        return self.sold_from is not None and self.sold_until is None and not self.rented_only

    @property
    def exists(self) -> bool:
        """Whether it was ever sold or rented: false of parts announced and never shipped."""
        return self.sold_from is not None or self.rented_only


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How devices reach each other.

    Attributes
    ----------
    name : str
        ``NVLink 4``, ``PCIe 4.0 x16``, ``UPI``...
    bandwidth_bytes_per_s : float
        What one device sends at a time (one direction).
    domain_devices : int
        How many devices one such link domain holds.
    meshed : bool
        Whether each pair of devices has links of its own: a device's bandwidth is then divided
        among its pairs. Otherwise a switch gives all of it to one pair.
    """

    name: str
    bandwidth_bytes_per_s: float
    domain_devices: int
    meshed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, or one CPU socket.

    Attributes
    ----------
    name : str
        Canonical name, as measurements spell it (``H100-SXM``).
    generation : str
        What kernels are built for: ``sm90``, ``gfx942``, ``gaudi3``, ``sapphire_rapids``.
    memory_bytes, memory_bandwidth_bytes_per_s : float
        Data sheet values. A CPU socket has the peak of its installed memory channels, and the
        node's memory divided by its sockets.
    flops_per_s : mapping of Precision to float
        Dense peaks. A missing format is not supported in hardware.
    compute_units : int
        Streaming multiprocessors, compute units, tensor cores' hosts; physical cores of a CPU.
    scale_up, scale_out : Link
        Inside a node (or rack-scale domain), and between nodes.
    tdp_w : float
        Thermal design power, W.
    price_usd, price_usd_per_h : float
        Purchase price of one device and what one costs per hour; see
        `budsim.hardware_ops.pricing`.
    price_origin : PriceOrigin or None
        Where the price of an hour comes from; ``None``: not known.
    instruction_sets : frozenset of str
        CPU only: ``avx2``, ``avx512f``, ``avx512_bf16``, ``amx_bf16``, ``sve``...
    l3_bytes : float
        CPU only: last-level cache of one socket.
    clock_hz : float
        CPU only: what all cores hold at once in vector code.
    numa_nodes : int
        CPU only: memory nodes its channels are split into.
    host_reserved_bytes : float
        Memory that the system keeps where CPU and GPU share it (GB10, Jetson); 0 elsewhere. GH200
        has memory of its own for the GPU.
    whole : Device or None
        What a MIG slice or the NUMA node of a socket is a part of; ``None``: it is whole.
    share_of_whole : float
        Share of the price of the whole, 0..1.
    availability : Availability or None
        Segment and years of sale; ``None``: not known.
    sources : mapping of str to str
        Where each figure comes from, by attribute name.
    """

    name: str
    kind: DeviceKind
    vendor: str
    generation: str
    memory_bytes: float
    memory_bandwidth_bytes_per_s: float
    flops_per_s: Mapping[Precision, float]
    compute_units: int
    scale_up: Link
    scale_out: Link
    tdp_w: float
    price_usd: float
    price_usd_per_h: float
    aliases: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    instruction_sets: frozenset[str] = frozenset()
    l3_bytes: float = 0.0
    clock_hz: float = 0.0
    numa_nodes: int = 1
    host_reserved_bytes: float = 0.0
    whole: Device | None = None
    share_of_whole: float = 1.0
    availability: Availability | None = None
    price_origin: PriceOrigin | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        """Tell devices apart by name and size: a socket with other memory is another device."""
        return hash((self.name, self.memory_bytes, self.compute_units))

    @property
    def works_alone(self) -> bool:
        """Whether no second device can join it in a replica, as with MIG slices.

        NVIDIA MIG User Guide, application considerations: a process sees one slice, and slices do
        not reach each other.
        """
        return self.whole is not None and self.kind is not DeviceKind.CPU

    @property
    def memory_at_start_bytes(self) -> float:
        """Memory that is free when an engine starts on an idle device."""
        return self.memory_bytes - self.host_reserved_bytes

    def startable_shares(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Return the shares of the memory that an engine can reserve when it starts.

        Of 0.8, 0.85 and 0.92 a GB10 leaves the first two, as 0.8526 of its memory is free. If none
        is left, the largest whole percentage is returned.
        """
        free = self.memory_at_start_bytes / self.memory_bytes
        fitting = tuple(share for share in shares if share <= free)
        return fitting or (math.floor(free * 100) / 100,)

    def runs_natively(self, precision: Precision) -> bool:
        """Return whether the arithmetic units multiply this format without converting it first."""
        return compute_format(precision) in self.flops_per_s

    def peak_flops_per_s(self, precision: Precision) -> float:
        """Return the dense peak for weights stored as ``precision``.

        Formats the device lacks run as bf16, or as fp32 if it lacks that too.
        """
        for candidate in (compute_format(precision), Precision.BF16, Precision.FP32):
            if candidate in self.flops_per_s:
                return self.flops_per_s[candidate]
        return max(self.flops_per_s.values())
