"""Which device of the catalog an inventory's entry means.

Rules
-----
* The PCI id is asked first, then ``raw_name``, ``device_model``, ``model`` and ``name``.
* The stated memory picks among devices of one name (``A100`` with 40 or 80 GB). If it is more than
  25 % away from the catalog, the entry contradicts itself and is not used.
* If PCI id and names mean different devices, the one whose memory fits is meant; if the memory
  cannot tell, the entry contradicts itself.
* A MIG slice is the slice its profile names (``3g.40gb``) of the GPU that names or PCI id mean.
* Names the catalog does not know do not contradict a known PCI id. Where several devices carry the
  id, a name or the memory must tell which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from budsim.commons.units import GIB
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.device_names import (
    candidates,
    candidates_by_pci,
    find_device,
    is_slice,
    slices,
)
from budsim.hardware_ops.inventory_reader import InventoryReader

MOST_GB = 1e6
# Largest relative difference between stated and catalog memory (GB against GiB is 7 %).
MEMORY_TOLERANCE = 0.25

# How the reason of a device that the catalog does not know begins.
UNKNOWN = "unknown device"
NAME_FIELDS = ("raw_name", "device_model", "model", "name")

KINDS_ON_THE_WIRE = {
    "cuda": DeviceKind.CUDA,
    "rocm": DeviceKind.ROCM,
    "hpu": DeviceKind.HPU,
    "xpu": DeviceKind.XPU,
    "cpu": DeviceKind.CPU,
    "cpu_high": DeviceKind.CPU,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The device an entry means, or why none can be named."""

    device: Device | None = None
    reason: str = ""


def identify_device(entry: InventoryReader) -> Identity:
    """Return the device an entry means, or why none can be named."""
    names = _stated_names(entry)
    if part := next(filter(is_slice, names), None):
        return _identify_slice(part, names, entry)
    # Virtual machines and re-labelled boards report ids and names that differ: both are asked.
    by_pci, by_name = candidates_by_pci(pci_id(entry)), candidates(*names)
    shown = names[-1] if names else pci_id(entry)
    possible = _agreed(by_pci, by_name) or (*by_pci, *by_name)
    if not possible:
        return _unknown(shown)
    if possible[0].kind is DeviceKind.CPU:
        # A processor's memory is the node's: it tells nothing of the part.
        return _of_stated_kind(possible[0], entry)
    stated_gb = _stated_memory_gb(entry)
    fitting = [device for device in possible if _fits(device, stated_gb)]
    if not fitting:
        return _wrong_memory(shown, possible, stated_gb)
    if _is_undecided(fitting, by_pci, by_name):
        return _undecided(pci_id(entry), shown, fitting, by_pci, by_name)
    return _of_stated_kind(fitting[0], entry)


def _identify_slice(name: str, names: Sequence[str], entry: InventoryReader) -> Identity:
    """Return the MIG slice an entry means: its profile, and the GPU it is cut from.

    Memory that is stated may be the slice's or the whole GPU's.
    """
    stated_gb = _stated_memory_gb(entry)
    found = slices(*names, pci_id=pci_id(entry))
    fitting = [
        part
        for part in found
        if _fits(part, stated_gb) or (part.whole and _fits(part.whole, stated_gb))
    ]
    if not fitting:
        return _unknown(name, ": a slice (MIG) that no GPU of the catalog is cut into")
    whole = find_device(*names, pci_id=pci_id(entry) or None)
    if whole is None and len(fitting) > 1:
        wholes = ", ".join(part.whole.name for part in fitting if part.whole)
        return _unknown(name, f": a slice of one of {wholes}; expected the GPU's name beside it")
    return _of_stated_kind(fitting[0], entry)


def _stated_names(entry: InventoryReader) -> list[str]:
    return [text for key in NAME_FIELDS if (text := entry.text(key))]


def pci_id(entry: InventoryReader) -> str:
    """Return ``vendor:device``; empty if the entry states none."""
    vendor, device = entry.text("pci_vendor"), entry.text("pci_device")
    return f"{vendor}:{device}" if vendor and device else ""


def _unknown(name: str, problem: str = "") -> Identity:
    return Identity(reason=f"{UNKNOWN} {name!r}{problem}")


def _agreed(by_pci: Sequence[Device], by_name: Sequence[Device]) -> tuple[Device, ...]:
    return tuple(device for device in by_pci if device in by_name)


def _is_undecided(
    fitting: Sequence[Device], by_pci: Sequence[Device], by_name: Sequence[Device]
) -> bool:
    """Return whether several devices fit and no name says which of the PCI id's is meant."""
    return len(fitting) > 1 and bool(by_pci) and not _agreed(by_pci, by_name)


def _undecided(
    pci: str,
    shown: str,
    fitting: Sequence[Device],
    by_pci: Sequence[Device],
    by_name: Sequence[Device],
) -> Identity:
    """Return why none of the devices that fit can be chosen."""
    if by_name:
        one, other = by_pci[0].name, by_name[0].name
        return _contradiction(f"PCI id {pci} is {one}, the name says {other}")
    choice = " or ".join(device.name for device in fitting)
    return _unknown(shown, f": PCI id {pci} is {choice}; expected its name or memory")


def _contradiction(problem: str) -> Identity:
    return Identity(reason=f"contradictory entry: {problem}")


def _wrong_memory(shown: str, possible: Sequence[Device], stated_gb: float | None) -> Identity:
    sizes = " or ".join(sorted({f"{device.memory_bytes / GIB:.0f}" for device in possible}))
    return _contradiction(f"{shown!r} has {sizes} GB, the inventory says {stated_gb:g} GB")


def _fits(device: Device, stated_gb: float | None) -> bool:
    if stated_gb is None:
        return True
    memory_gb = device.memory_bytes / GIB
    return abs(memory_gb - stated_gb) <= MEMORY_TOLERANCE * memory_gb


def _stated_memory_gb(entry: InventoryReader) -> float | None:
    # 0 is what collectors write where they could not read it: it counts as not stated.
    for key in ("mem_per_GPU_in_GB", "memory_gb"):
        if stated := entry.number(key, most=MOST_GB, unit="GB"):
            return stated
    return None


def _of_stated_kind(device: Device, entry: InventoryReader) -> Identity:
    stated = entry.text("type").lower()
    if stated and stated not in KINDS_ON_THE_WIRE:
        kinds = ", ".join(KINDS_ON_THE_WIRE)
        return _contradiction(f"type {stated[:60]!r} is none of {kinds}")
    if stated and KINDS_ON_THE_WIRE[stated] is not device.kind:
        problem = f"{device.name} is of type {device.kind}, the inventory says {stated}"
        return _contradiction(problem)
    return Identity(device=device)
