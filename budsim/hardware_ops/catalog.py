"""The device catalog: every accelerator and CPU socket we have figures for, and how a name or PCI id finds one.

Figures lie in ``catalog/accelerators.json`` and, one line a processor, ``catalog/processors.json``, in the units of data sheets
(GB/s, TFLOPS, W, USD), each with its source; one under ``*`` holds for every figure without one of its own. What the processors
of a platform share is in ``catalog/platforms.json``. Links, networks and rents of the usual kind are derived here, and say so.
They are read once, when first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from budsim.commons.catalog import Entry, load_catalog
from budsim.commons.errors import CatalogError
from budsim.commons.precision import Precision
from budsim.commons.units import GIB, GIGA, MEGA, MIB, TERA
from budsim.hardware_ops.device import Device, DeviceKind, Link

PACKAGE = "budsim.hardware_ops"

FIGURES = (
    "memory_bytes memory_bandwidth_bytes_per_s flops_per_s compute_units scale_up scale_out tdp_w price_usd price_usd_per_h"
).split()
"""Attributes of `Device` that must name a source."""

SCALE_OUT_DEVICES = 1024
"""Devices a scale-out network is taken to hold; no catalog network is smaller."""

PCIE_GB_PER_S: Mapping[str, float] = {
    "PCIe 3.0 x16": 15.75,
    "PCIe 4.0 x8": 15.75,
    "PCIe 4.0 x16": 31.5,
    "PCIe 5.0 x8": 31.5,
    "PCIe 5.0 x16": 63.0,
}
"""One direction of a slot: 8, 16 or 32 GT/s a lane, 128 bits of data in 130 (PCI-SIG base specifications)."""
PCIE_DEVICES = 8
"""Cards a server of PCIe cards usually holds."""

HOURS_OF_USE = 3 * 8760
USD_PER_WH = 0.12 / 1000
COOLING = 1.3
WITH_BOARD = 1.5
OWNING = "over 3 years of 8760 h plus TDP x 1.3 (cooling) at 0.12 USD/kWh"

OPS_PER_CYCLE: Mapping[str, Mapping[Precision, int]] = {
    # Intel Optimization Manual: two 512 bit FMA ports (one in some Gold and Silver parts: ARK); VNNI 64 multiply-adds a port.
    "avx512": {Precision.FP32: 64},
    "avx512_1fma": {Precision.FP32: 32},
    "avx512_vnni_1fma": {Precision.FP32: 32, Precision.INT8: 128},
    "avx512_vnni": {Precision.FP32: 64, Precision.INT8: 256},
    # Intel Optimization Manual, chapter AMX: TDPBF16PS 16x16x32 in 16 cycles = 1024, TDPBSSD 16x16x64 = 2048.
    "amx": {Precision.FP32: 64, Precision.BF16: 1024, Precision.INT8: 2048},
    # Intel Optimization Manual, Crestmont: two 128 bit FMA pipes, with VNNI.
    "avx2_crestmont": {Precision.FP32: 16, Precision.INT8: 64},
    # AMD Software Optimization Guides, families 17h model 30h (Zen 2) and 19h (Zen 3): two 256 bit FMA pipes; no bf16, no VNNI.
    "avx2": {Precision.FP32: 32},
    # The same, Zen 4: 512 bit in two halves; VDPBF16PS one a cycle = 64 (measured 200-216 GFLOP/s at 3.3 GHz), VPDPBUSD 128.
    "avx512_zen4": {Precision.FP32: 32, Precision.BF16: 64, Precision.INT8: 128},
    # AMD Software Optimization Guide, family 1Ah (Zen 5): full 512 bit pipes.
    "avx512_zen5": {Precision.FP32: 64, Precision.BF16: 128, Precision.INT8: 256},
    # Arm Neoverse N1 Optimization Guide: two 128 bit pipes; fp16 FMLA 32 (no bf16: engines compute in fp16), SDOT 64.
    "neon_n1": {Precision.FP32: 16, Precision.BF16: 32, Precision.INT8: 64},
    # Ampere-1A/1B as LLVM's scheduling model has them: two 128 bit pipes with BFMMLA and SMMLA.
    "neon_ampere1": {Precision.FP32: 16, Precision.BF16: 64, Precision.INT8: 128},
    # Arm Neoverse V1 Optimization Guide: two 256 bit SVE pipes with BFMMLA and SMMLA.
    "sve_v1": {Precision.FP32: 32, Precision.BF16: 128, Precision.INT8: 256},
    # Arm Neoverse V2 Optimization Guide: four 128 bit pipes with BFMMLA and SMMLA.
    "sve_v2": {Precision.FP32: 32, Precision.BF16: 128, Precision.INT8: 256},
}
"""Dense operations (a multiply-add is two) per core and cycle by instruction set."""

INSTRUCTION_SETS: Mapping[str, frozenset[str]] = {
    "avx512": frozenset({"avx2", "avx512f"}),
    "avx512_1fma": frozenset({"avx2", "avx512f"}),
    "avx512_vnni_1fma": frozenset({"avx2", "avx512f", "avx512_vnni"}),
    "avx512_vnni": frozenset({"avx2", "avx512f", "avx512_vnni"}),
    "amx": frozenset(
        {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"}
    ),
    "avx2_crestmont": frozenset({"avx2", "avx_vnni"}),
    "avx2": frozenset({"avx2"}),
    "avx512_zen4": frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
    "avx512_zen5": frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
    "neon_n1": frozenset({"neon", "asimddp", "fphp"}),
    "neon_ampere1": frozenset({"neon", "asimddp", "fphp", "bf16", "i8mm"}),
    "sve_v1": frozenset({"neon", "sve", "bf16", "i8mm"}),
    "sve_v2": frozenset({"neon", "sve", "sve2", "bf16", "i8mm"}),
}

_NOISE = re.compile(r"\((?:r|tm|c)\)|\bcpu\s*@.*|@\s*[\d.]+\s*ghz|\b\d+-core\b")
_SLICE = re.compile(r"(?:\b|_)mig(?:\b|_)|\b\d+g\.\d+gb\b", re.IGNORECASE)
_COUNT = re.compile(r"^\s*\d+\s*x[\s_-]*(?=[a-z])", re.IGNORECASE)
_MAKERS = frozenset(
    "nvidia amd intel corporation corp inc tesla geforce instinct processor cpu gpu graphics accelerator habana".split()
)


@lru_cache(maxsize=1)
def devices() -> Mapping[str, Device]:
    """Return every device of the catalog by its canonical name, accelerators first.

    Raises
    ------
    CatalogError
        When a shipped entry lacks a figure or a source, or two devices share a name.
    """
    found: dict[str, Device] = {}
    for name, build in (
        ("catalog/accelerators.json", _accelerator),
        ("catalog/processors.json", _processor),
    ):
        for index, entry in enumerate(load_catalog(PACKAGE, name)):
            device = _checked(
                build, entry, f"{name}[{index}] ({entry.get('name', 'without a name')})"
            )
            if device.name in found:
                raise CatalogError(f"{name}[{index}]: a second device is named {device.name!r}")
            found[device.name] = device
    return MappingProxyType(found)


def find_device(*names: str, pci_id: str | None = None) -> Device | None:
    """Return the device a PCI id or a name means, or None when the catalog does not know it.

    The PCI id (``10de:2330``) decides where it is one device's; where several carry it (``1002:740c``: MI250 and MI250X) the
    names choose among them. Else the names in the order given, compared without case, punctuation, maker and clock (``Intel(R)
    Xeon(R) Platinum 8380 CPU @ 2.30GHz`` is ``Xeon Platinum 8380``) and without a count before them (``8xH100``). Nothing is
    compared by likeness. Where several devices share a name (``A100``) the first in the catalog is meant; `candidates` gives
    them all. A slice of a device is none of them, whatever its PCI id.
    """
    if any(map(is_slice, names)):
        return None
    by_pci = candidates_by_pci(pci_id) if pci_id else ()
    by_name = candidates(*names) or candidates(*(_COUNT.sub("", name) for name in names))
    if by_pci:
        return next(
            (device for device in by_pci if device in by_name),
            by_pci[0] if len(by_pci) == 1 else None,
        )
    return next(iter(by_name), None)


def candidates(*names: str) -> tuple[Device, ...]:
    """Return the devices the first known one of ``names`` may mean, the usual one first; empty when none is known."""
    by_name = _index()[0]
    return next((by_name[key] for name in names if (key := normalized(name)) in by_name), ())


def candidates_by_pci(pci_id: str) -> tuple[Device, ...]:
    """Return the devices that carry a PCI id written ``vendor:device`` in hexadecimal, with or without 0x; empty when unknown.

    Several do where pci.ids names them in one line: boards of one chip that differ in memory or in what is enabled.
    """
    parts = [part.strip().lower().removeprefix("0x").zfill(4) for part in pci_id.split(":")]
    return _index()[1].get(":".join(parts), ())


def is_slice(name: str) -> bool:
    """Return whether a name is that of a MIG slice (``NVIDIA-A100-SXM4-80GB-MIG-1g.10gb``): a part of what its PCI id says."""
    return bool(_SLICE.search(name))


def normalized(name: str) -> str:
    """Return a name without case, punctuation, maker, core count and clock: what names are compared by."""
    words = re.findall(r"[a-z0-9+]+", _NOISE.sub(" ", name.lower()))
    return "".join(word for word in words if word not in _MAKERS)


@lru_cache(maxsize=1)
def _index() -> tuple[Mapping[str, tuple[Device, ...]], Mapping[str, tuple[Device, ...]]]:
    by_name: dict[str, tuple[Device, ...]] = {}
    by_pci: dict[str, tuple[Device, ...]] = {}
    for device in devices().values():
        for name in dict.fromkeys(map(normalized, (device.name, *device.aliases))):
            by_name[name] = (*by_name.get(name, ()), device)
        for pci_id in device.pci_ids:
            by_pci[pci_id] = (*by_pci.get(pci_id, ()), device)
    return by_name, by_pci


def _checked(build: Callable[[Entry], Device], entry: Entry, where: str) -> Device:
    try:
        device = build(entry)
    except KeyError as error:
        raise CatalogError(f"{where}: {error} is missing or unknown") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CatalogError(f"{where}: {error}") from error
    if unsourced := [figure for figure in FIGURES if not device.sources.get(figure)]:
        raise CatalogError(f"{where}: no source for {', '.join(unsourced)}")
    return device


def _accelerator(entry: Entry) -> Device:
    return _device(
        {**entry, **_card_links(entry)},
        sources=_accelerator_sources(entry),
        memory_bytes=entry["memory_mib"] * MIB,
        bandwidth=entry["memory_bandwidth_gb_per_s"] * GIGA,
        peaks={Precision(name): tflops * TERA for name, tflops in entry["tflops"].items()},
        units=entry["compute_units"],
        owned=entry["price_usd"],
    )


def _card_links(entry: Entry) -> Entry:
    """Return both links in full: a PCIe slot may be named alone, a network be given by its rate."""
    up, links = entry["scale_up"], {}
    if isinstance(up, str):
        links["scale_up"] = {"name": up, "gb_per_s": PCIE_GB_PER_S[up], "devices": PCIE_DEVICES}
    if rate := entry.get("network_gbit_per_s"):
        links["scale_out"] = {"name": f"RoCE/InfiniBand {rate} Gb/s", "gb_per_s": rate / 8}
    return links


def _accelerator_sources(entry: Entry) -> Mapping[str, str]:
    sheet = entry["sources"].get("*", "")
    derived = {
        "memory_bytes": f"{sheet}; usable size as the driver reports it (MiB)" if sheet else "",
        "pci_ids": "pci.ids 2026.08.22 (pciutils)",
    }
    if rate := entry.get("network_gbit_per_s"):
        derived["scale_out"] = f"usual server design: RoCE/InfiniBand {rate} Gb/s for each device"
    if "price_usd_per_h" not in entry:
        derived["price_usd_per_h"] = f"derived: no common rental; purchase price {OWNING}"
    return _sources(sheet, derived, entry["sources"])


def _processor(line: Entry) -> Device:
    entry = {**_platforms()[line["platform"]], **line}
    per_cycle, cores = OPS_PER_CYCLE[entry["isa"]], entry["cores"]
    clock = {precision: _clock_hz(entry, precision) for precision in per_cycle}
    return _device(
        {
            **entry,
            **_socket_links(entry),
            "kind": DeviceKind.CPU,
            "aliases": _processor_aliases(entry),
            "pci_ids": (),
        },
        sources=_processor_sources(entry),
        memory_bytes=entry.get("memory_gb", 64 * entry["channels"]) * GIB,
        bandwidth=entry["channels"] * entry["mt_per_s"] * MEGA * 8,
        peaks={
            precision: cores * clock[precision] * operations
            for precision, operations in per_cycle.items()
        },
        units=cores,
        owned=entry["price_usd"] * WITH_BOARD,
        instruction_sets=INSTRUCTION_SETS[entry["isa"]],
        l3_bytes=entry["l3_mb"] * MIB,
        clock_hz=_clock_hz(entry, Precision.FP32),
    )


@lru_cache(maxsize=1)
def _platforms() -> Mapping[str, Entry]:
    return {entry["platform"]: entry for entry in load_catalog(PACKAGE, "catalog/platforms.json")}


def _socket_links(entry: Entry) -> Entry:
    """Return how the sockets of a server reach each other (no links: there is one), and its network: 25 Gb/s unless stated."""
    links, rate = entry.get("links", 0), entry.get("network_gbit_per_s", 25)
    many = {"name": f"{entry['link']}, {links} links", "gb_per_s": links * entry["link_gb_per_s"]}
    single = {"name": "one socket", "gb_per_s": 1.0, "devices": 1}
    up = entry.get("scale_up") or (
        {**many, "devices": entry.get("sockets", 2)} if links else single
    )
    return {"scale_up": up, "scale_out": {"name": f"Ethernet {rate:g} Gb/s", "gb_per_s": rate / 8}}


def _processor_aliases(entry: Entry) -> tuple[str, ...]:
    """Return the aliases of a line and, for a Xeon, its number without the tier, with ``Xeon 6`` and without a plus sign."""
    family, _, number = entry["name"].rpartition(" ")
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


def _processor_sources(entry: Entry) -> Mapping[str, str]:
    clock = entry.get("estimate" if entry.get("estimated") else "clock", "")
    sheet = "; ".join(filter(None, (entry["source"].format(name=entry["name"]), clock)))
    sheet = entry.get("sources", {}).get("*", sheet)
    derived = {
        "memory_bytes": "assumed where the inventory states none: one 64 GB module for each channel",
        "memory_bandwidth_bytes_per_s": f"derived: {entry['channels']} channels x {entry['mt_per_s']} MT/s x 8 bytes; {sheet}",
        "flops_per_s": f"derived: cores x clock x operations per cycle of {entry['isa']} (see OPS_PER_CYCLE); clock: all-core "
        f"turbo, for AMX the base clock; {sheet}",
        "scale_up": "derived: transfers/s x payload bytes x links, one direction"
        if entry.get("links")
        else "single socket; a nominal 1 GB/s",
        "scale_out": f"usual server design: {entry.get('network_gbit_per_s', 25):g} Gb/s Ethernet",
        "price_usd": entry["price_source"],
        "price_usd_per_h": f"derived: purchase price x 1.5 (memory, board) {OWNING}",
    }
    return _sources(sheet, derived, entry.get("sources", {}))


def _clock_hz(entry: Entry, precision: Precision) -> float:
    """Return the clock all cores hold: AMX pulls it down to about the base clock, vector units run at the all-core turbo."""
    uses_tiles = entry["isa"] == "amx" and precision is not Precision.FP32
    return float(entry["base_ghz" if uses_tiles else "all_core_ghz"]) * GIGA


def _device(
    entry: Entry,
    *,
    sources: Mapping[str, str],
    memory_bytes: float,
    bandwidth: float,
    peaks: Mapping[Precision, float],
    units: int,
    owned: float,
    instruction_sets: Iterable[str] = (),
    l3_bytes: float = 0.0,
    clock_hz: float = 0.0,
) -> Device:
    """Return a device; ``owned`` is what is paid to own one (USD), from which its rent follows where nobody lets it."""
    up, out = entry["scale_up"], entry["scale_out"]
    rent = owned / HOURS_OF_USE + entry["tdp_w"] * COOLING * USD_PER_WH
    return Device(
        name=entry["name"],
        kind=DeviceKind(entry["kind"]),
        vendor=entry["vendor"],
        generation=entry["generation"],
        memory_bytes=float(memory_bytes),
        memory_bandwidth_bytes_per_s=float(bandwidth),
        flops_per_s=dict(peaks),
        compute_units=units,
        scale_up=Link(
            name=up["name"],
            bandwidth_bytes_per_s=up["gb_per_s"] * GIGA,
            domain_devices=up["devices"],
            meshed=up.get("meshed", False),
        ),
        scale_out=Link(
            name=out["name"],
            bandwidth_bytes_per_s=out["gb_per_s"] * GIGA,
            domain_devices=SCALE_OUT_DEVICES,
        ),
        tdp_w=float(entry["tdp_w"]),
        price_usd=float(entry["price_usd"]),
        price_usd_per_h=float(entry.get("price_usd_per_h", round(rent, 3))),
        aliases=tuple(entry["aliases"]),
        pci_ids=tuple(entry["pci_ids"]),
        instruction_sets=frozenset(instruction_sets),
        l3_bytes=float(l3_bytes),
        clock_hz=float(clock_hz),
        numa_nodes=int(entry.get("numa_nodes", 1)),
        sources=sources,
    )


def _sources(
    sheet: str, derived: Mapping[str, str], stated: Mapping[str, str]
) -> Mapping[str, str]:
    return {
        **dict.fromkeys(FIGURES, sheet),
        **derived,
        **{figure: source for figure, source in stated.items() if figure != "*"},
    }
