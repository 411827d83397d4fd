"""Reads the catalog's processors: peaks follow from cores, clock and instruction set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from budsim.commons.catalog import Entry, load_catalog
from budsim.commons.precision import Precision
from budsim.commons.units import GIB, GIGA, MEGA, MIB
from budsim.hardware_ops.device import Availability, Device, DeviceKind, Segment
from budsim.hardware_ops.device_builder import Figures, build_device, merge_sources
from budsim.hardware_ops.instruction_sets import INSTRUCTION_SETS, OPS_PER_CYCLE

PACKAGE = "budsim.hardware_ops"


def read_processor(line: Entry) -> Device:
    """Return the socket of one line of ``catalog/processors.json`` and its platform."""
    entry = {**_platforms()[line["platform"]], **line}
    per_cycle, cores = OPS_PER_CYCLE[entry["isa"]], entry["cores"]
    clock = {precision: _clock_hz(entry, precision) for precision in per_cycle}
    return build_device(
        {
            **entry,
            **_socket_links(entry),
            "kind": DeviceKind.CPU,
            "aliases": _aliases(entry),
            "pci_ids": (),
        },
        Figures(
            sources=_sources(entry),
            memory_bytes=entry.get("memory_gb", 64 * entry["channels"]) * GIB,
            bandwidth=entry["channels"] * entry["mt_per_s"] * MEGA * 8,
            peaks={
                precision: cores * clock[precision] * operations
                for precision, operations in per_cycle.items()
            },
            units=cores,
            availability=_availability(entry),
            instruction_sets=INSTRUCTION_SETS[entry["isa"]],
            l3_bytes=entry["l3_mb"] * MIB,
            clock_hz=_clock_hz(entry, Precision.FP32),
        ),
    )


@lru_cache(maxsize=1)
def _platforms() -> Mapping[str, Entry]:
    return {entry["platform"]: entry for entry in load_catalog(PACKAGE, "catalog/platforms.json")}


def _socket_links(entry: Entry) -> Entry:
    """Return the link between sockets, and the server's network.

    An entry without ``links`` is a single socket; the network is 25 Gb/s unless stated.
    """
    links, rate = entry.get("links", 0), entry.get("network_gbit_per_s", 25)
    many = {"name": f"{entry['link']}, {links} links", "gb_per_s": links * entry["link_gb_per_s"]}
    single = {"name": "one socket", "gb_per_s": 1.0, "devices": 1}
    up = entry.get("scale_up") or (
        {**many, "devices": entry.get("sockets", 2)} if links else single
    )
    return {"scale_up": up, "scale_out": {"name": f"Ethernet {rate:g} Gb/s", "gb_per_s": rate / 8}}


def _availability(entry: Entry) -> Availability:
    return Availability(
        segment=Segment.DATA_CENTER,
        sold_from=entry["sold_from"],
        sold_until=entry["sold_until"],
        source="years of launch and end of sale, vendor's announcements, not re-read",
        rented_only=entry.get("rented_only", False),
    )


def _aliases(entry: Entry) -> tuple[str, ...]:
    """Return the aliases of a line, and further spellings of a Xeon.

    ``Xeon Platinum 8480+`` is also ``Xeon 8480+``, ``Xeon Platinum 8480`` and ``Xeon 8480``;
    ``Xeon 6980P`` is also ``Xeon 6 6980P``.
    """
    family, _, number = entry["name"].rpartition(" ")
    # Only Xeons are written with and without family and plus sign.
    if not family.startswith("Xeon") or "(" in entry["name"]:
        return tuple(entry.get("aliases", ()))
    bare = number.rstrip("+")
    spelled = (
        f"Xeon {number}",
        f"Xeon 6 {number}" if family == "Xeon" else "",
        f"{family} {bare}",
        f"Xeon {bare}",
    )
    return (
        *entry.get("aliases", ()),
        *(name for name in dict.fromkeys(spelled) if name and name != entry["name"]),
    )


def _sources(entry: Entry) -> Mapping[str, str]:
    clock = entry.get("estimate" if entry.get("estimated") else "clock", "")
    sheet = "; ".join(filter(None, (entry["source"].format(name=entry["name"]), clock)))
    sheet = entry.get("sources", {}).get("*", sheet)
    derived = {
        "memory_bytes": "assumed where the inventory states none: one 64 GB module for each "
        "channel",
        "memory_bandwidth_bytes_per_s": f"derived: {entry['channels']} channels x "
        f"{entry['mt_per_s']} MT/s x 8 bytes; {sheet}",
        "flops_per_s": f"derived: cores x clock x operations per cycle of {entry['isa']} (see "
        f"OPS_PER_CYCLE); clock: all-core turbo, for AMX the base clock; {sheet}",
        "scale_up": "derived: transfers/s x payload bytes x links, one direction"
        if entry.get("links")
        else "single socket; a nominal 1 GB/s",
        "scale_out": f"usual server design: {entry.get('network_gbit_per_s', 25):g} Gb/s Ethernet",
        "price_usd": entry["price_source"],
    }
    return merge_sources(sheet, derived, entry.get("sources", {}))


def _clock_hz(entry: Entry, precision: Precision) -> float:
    """Return the clock all cores hold: the all-core turbo, for AMX about the base clock."""
    # Matrix tiles draw so much power that cores fall back to about the base clock.
    uses_tiles = entry["isa"] == "amx" and precision is not Precision.FP32
    return float(entry["base_ghz" if uses_tiles else "all_core_ghz"]) * GIGA
