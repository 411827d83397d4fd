"""Reads the catalog's accelerators: cards and modules, with their links and sources."""

from __future__ import annotations

from collections.abc import Mapping

from budsim.commons.catalog import Entry
from budsim.commons.precision import Precision
from budsim.commons.units import GIGA, MIB, TERA
from budsim.hardware_ops.availability import accelerator_availability
from budsim.hardware_ops.device import Device
from budsim.hardware_ops.device_builder import Figures, build_device, merge_sources

# One direction of a slot: 8, 16 or 32 GT/s a lane, 128 of 130 bits are data (PCI-SIG base
# specifications).
PCIE_GB_PER_S: Mapping[str, float] = {
    "PCIe 3.0 x16": 15.75,
    "PCIe 4.0 x8": 15.75,
    "PCIe 4.0 x16": 31.5,
    "PCIe 5.0 x8": 31.5,
    "PCIe 5.0 x16": 63.0,
}
# Cards that a server of PCIe cards usually holds.
PCIE_DEVICES = 8


def read_accelerator(entry: Entry) -> Device:
    """Return the accelerator of one entry of ``catalog/accelerators.json``."""
    return build_device(
        {**entry, **_links(entry)},
        Figures(
            sources=_sources(entry),
            memory_bytes=entry["memory_mib"] * MIB,
            bandwidth=entry["memory_bandwidth_gb_per_s"] * GIGA,
            peaks={Precision(name): tflops * TERA for name, tflops in entry["tflops"].items()},
            units=entry["compute_units"],
            availability=accelerator_availability()[entry["name"]],
        ),
    )


def _links(entry: Entry) -> Entry:
    """Return both links in full: an entry may name a PCIe slot only, and a network by its rate."""
    up, links = entry["scale_up"], {}
    # Cards of one slot type share its figures, so entries name the slot alone.
    if isinstance(up, str):
        links["scale_up"] = {"name": up, "gb_per_s": PCIE_GB_PER_S[up], "devices": PCIE_DEVICES}
    if rate := entry.get("network_gbit_per_s"):
        links["scale_out"] = {"name": f"RoCE/InfiniBand {rate} Gb/s", "gb_per_s": rate / 8}
    return links


def _sources(entry: Entry) -> Mapping[str, str]:
    sheet = entry["sources"].get("*", "")
    derived = {
        "memory_bytes": f"{sheet}; usable size as the driver reports it (MiB)" if sheet else "",
        "pci_ids": "pci.ids 2026.08.22 (pciutils)",
    }
    if rate := entry.get("network_gbit_per_s"):
        derived["scale_out"] = f"usual server design: RoCE/InfiniBand {rate} Gb/s for each device"
    return merge_sources(sheet, derived, entry["sources"])
