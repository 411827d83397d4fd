"""Builds a `Device` from a catalog entry, all but the price of an hour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from budsim.commons.catalog import Entry
from budsim.commons.precision import Precision
from budsim.commons.units import GIGA, MIB
from budsim.hardware_ops.device import Availability, Device, DeviceKind, Link

# Attributes of `Device` that must name a source.
FIGURES = (
    "memory_bytes",
    "memory_bandwidth_bytes_per_s",
    "flops_per_s",
    "compute_units",
    "scale_up",
    "scale_out",
    "tdp_w",
    "price_usd",
)

# Devices a scale-out network is assumed to hold; no network of the catalog is smaller.
SCALE_OUT_DEVICES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a catalog entry's own numbers amount to, in base units.

    Attributes
    ----------
    sources : mapping of str to str
        Where each figure was read.
    memory_bytes, bandwidth : float
        Bytes, and bytes/s.
    peaks : mapping of Precision to float
        Dense FLOP/s of each format.
    units : int
        Multiprocessors, compute units or cores.
    availability : Availability
        Segment and years of sale.
    instruction_sets, l3_bytes, clock_hz
        Processors only: see `Device`.
    """

    sources: Mapping[str, str]
    memory_bytes: float
    bandwidth: float
    peaks: Mapping[Precision, float]
    units: int
    availability: Availability
    instruction_sets: Iterable[str] = ()
    l3_bytes: float = 0.0
    clock_hz: float = 0.0


def build_device(entry: Entry, figures: Figures) -> Device:
    """Return the device of a catalog entry with both its links in full.

    The price of an hour is still missing; `budsim.hardware_ops.pricing` adds it.
    """
    up, out = entry["scale_up"], entry["scale_out"]
    return Device(
        name=entry["name"],
        kind=DeviceKind(entry["kind"]),
        vendor=entry["vendor"],
        generation=entry["generation"],
        memory_bytes=float(figures.memory_bytes),
        memory_bandwidth_bytes_per_s=float(figures.bandwidth),
        flops_per_s=dict(figures.peaks),
        compute_units=figures.units,
        scale_up=Link(
            name=up["name"],
            bandwidth_bytes_per_s=up["gb_per_s"] * GIGA,
            domain_devices=up["devices"],
            meshed=up.get("meshed", False),
        ),
        # Networks are shared by all servers, so every device of a job is within reach.
        scale_out=Link(
            name=out["name"],
            bandwidth_bytes_per_s=out["gb_per_s"] * GIGA,
            domain_devices=SCALE_OUT_DEVICES,
        ),
        tdp_w=float(entry["tdp_w"]),
        price_usd=float(entry["price_usd"]),
        price_usd_per_h=0.0,
        aliases=tuple(entry["aliases"]),
        pci_ids=tuple(entry["pci_ids"]),
        instruction_sets=frozenset(figures.instruction_sets),
        l3_bytes=float(figures.l3_bytes),
        clock_hz=float(figures.clock_hz),
        numa_nodes=int(entry.get("numa_nodes", 1)),
        host_reserved_bytes=float(entry.get("host_reserved_mib", 0) * MIB),
        availability=figures.availability,
        sources=figures.sources,
    )


def merge_sources(
    sheet: str, derived: Mapping[str, str], stated: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the source of each figure: stated for it alone, else derived, else the data sheet."""
    own = {figure: source for figure, source in stated.items() if figure != "*"}
    return {**dict.fromkeys(FIGURES, sheet), **derived, **own}
