"""Finds the device of the catalog that a name or PCI id means.

Names are compared without case, punctuation, maker and clock; nothing is compared by likeness.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import Device
from budsim.hardware_ops.device_parts import mig_profile, mig_slice, without_profile

# Trademarks, clocks and core counts differ between tools that name the same processor.
_NOISE = re.compile(r"\((?:r|tm|c)\)|\bcpu\s*@.*|@\s*[\d.]+\s*ghz|\b\d+-core\b")
_SHARED = re.compile(r"[-_ ]shared$", re.IGNORECASE)
_SLICE = re.compile(r"(?:\b|_)mig(?:\b|_)|\b\d+g\.\d+gb\b", re.IGNORECASE)
_COUNT = re.compile(r"^\s*\d+\s*x[\s_-]*(?=[a-z])", re.IGNORECASE)
_MAKERS = frozenset(
    "nvidia amd intel corporation corp inc tesla geforce instinct processor cpu gpu graphics "
    "accelerator habana".split()
)


def find_device(*names: str, pci_id: str | None = None) -> Device | None:
    """Return the device a PCI id or a name means; ``None`` if the catalog does not know it.

    Parameters
    ----------
    names : str
        Names in the order to be tried, as tools print them (``Intel(R) Xeon(R) Platinum 8380 CPU @
        2.30GHz``), with or without a count (``8xH100``). Where several devices share a name
        (``A100``) the first in the catalog is meant; `candidates` returns all.
    pci_id : str, optional
        ``vendor:device`` in hexadecimal (``10de:2330``). It is asked first. Where several devices
        carry it (``1002:740c``: MI250 and MI250X), the names choose among them.

    Notes
    -----
    A MIG slice (``NVIDIA H200 MIG 3g.71gb``) is a device of its own, unless the names leave open of
    which GPU it is.
    """
    if any(map(is_slice, names)):
        parts = slices(*names, pci_id=pci_id)
        return parts[0] if _are_of_one_name(parts, names) else None
    by_pci = candidates_by_pci(pci_id) if pci_id else ()
    # A count is taken off only as a last resort: a device's name may begin with a number.
    by_name = candidates(*names) or candidates(*(_COUNT.sub("", name) for name in names))
    if by_pci:
        return next(
            (device for device in by_pci if device in by_name),
            by_pci[0] if len(by_pci) == 1 else None,
        )
    return next(iter(by_name), None)


def candidates(*names: str) -> tuple[Device, ...]:
    """Return the devices the first known one of ``names`` may mean, the usual one first.

    Empty if no name is known.
    """
    by_name = _index()[0]
    return next((by_name[key] for name in names if (key := normalized(name)) in by_name), ())


def slices(*names: str, pci_id: str | None = None) -> tuple[Device, ...]:
    """Return the MIG slices that names and PCI id of an entry may mean.

    One name gives the profile; that or another name, or the PCI id, gives the GPU. Where none does
    (``nvidia.com/mig-3g.40gb``), slices of all GPUs that are cut so are returned.
    """
    profile = next(filter(None, map(mig_profile, names)), "")
    by_pci = candidates_by_pci(pci_id) if pci_id else ()
    by_name = candidates(*map(without_profile, names))
    agreed = tuple(device for device in by_pci if device in by_name)
    wholes = agreed or by_name or by_pci or tuple(devices().values())
    parts = (mig_slice(device, profile) for device in wholes)
    return tuple(part for part in parts if part is not None)


def _are_of_one_name(parts: Sequence[Device], names: Sequence[str]) -> bool:
    """Return whether there is a slice, and a name says of which GPU or only one has it."""
    return len(parts) == 1 or (bool(parts) and bool(candidates(*map(without_profile, names))))


def close_names(name: str) -> list[str]:
    """Return up to three names of the catalog that are spelled like ``name``."""
    by_key = {device.lower(): device for device in devices()}
    return [by_key[key] for key in difflib.get_close_matches(name.lower(), by_key, n=3)]


def close_text(name: str) -> str:
    """Return names that are spelled like ``name`` as a hint, "" where there are none."""
    names = close_names(name)
    return f"close to it: {', '.join(names)}" if names else ""


def candidates_by_pci(pci_id: str) -> tuple[Device, ...]:
    """Return the devices that carry a PCI id (``10de:2330``, ``0x10de:0x2330``); empty if unknown.

    Boards of one chip that differ in memory or in the units enabled may share an id.
    """
    parts = [part.strip().lower().removeprefix("0x").zfill(4) for part in pci_id.split(":")]
    return _index()[1].get(":".join(parts), ())


def is_slice(name: str) -> bool:
    """Return whether a name is that of a MIG slice (``NVIDIA-A100-SXM4-80GB-MIG-1g.10gb``)."""
    return bool(_SLICE.search(name))


def is_time_sliced(name: str) -> bool:
    """Return whether a label says that containers share the GPU (``Tesla-T4-SHARED``).

    NVIDIA's GPU feature discovery appends the suffix where time-slicing or MPS is on.
    """
    return bool(_SHARED.search(name.strip()))


def normalized(name: str) -> str:
    """Return the form names are compared in: no case, punctuation, maker, core count or clock."""
    bare = _SHARED.sub("", name.strip().lower())
    words = re.findall(r"[a-z0-9+]+", _NOISE.sub(" ", bare))
    return "".join(word for word in words if word not in _MAKERS)


@lru_cache(maxsize=1)
def _index() -> tuple[Mapping[str, tuple[Device, ...]], Mapping[str, tuple[Device, ...]]]:
    by_name: dict[str, tuple[Device, ...]] = {}
    by_pci: dict[str, tuple[Device, ...]] = {}
    for device in devices().values():
        # Aliases may be equal once normalized; each counts once.
        for name in dict.fromkeys(map(normalized, (device.name, *device.aliases))):
            by_name[name] = (*by_name.get(name, ()), device)
        for pci_id in device.pci_ids:
            by_pci[pci_id] = (*by_pci.get(pci_id, ()), device)
    return by_name, by_pci
