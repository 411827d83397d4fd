"""The device catalog: every accelerator and CPU socket we have figures for, and how a name or PCI id finds one.

Figures lie in ``catalog/accelerators.json`` and ``catalog/processors.json`` in the units of data sheets (GB/s, TFLOPS, W, USD),
each with its source; one under ``*`` holds for every figure without one of its own. They are read once, when first asked for.
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

OPS_PER_CYCLE: Mapping[str, Mapping[Precision, int]] = {
    # Intel Optimization Manual: two 512 bit FMA ports; VNNI 64 multiply-adds a port.
    "avx512_vnni": {Precision.FP32: 64, Precision.INT8: 256},
    # Intel Optimization Manual, chapter AMX: TDPBF16PS 16x16x32 in 16 cycles = 1024, TDPBSSD 16x16x64 = 2048.
    "amx": {Precision.FP32: 64, Precision.BF16: 1024, Precision.INT8: 2048},
    # AMD Software Optimization Guide, family 19h (Zen 3): two 256 bit FMA pipes; no bf16, no VNNI.
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
    "avx512_vnni": frozenset({"avx2", "avx512f", "avx512_vnni"}),
    "amx": frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"}),
    "avx2": frozenset({"avx2"}),
    "avx512_zen4": frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
    "avx512_zen5": frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
    "neon_n1": frozenset({"neon", "asimddp", "fphp"}),
    "neon_ampere1": frozenset({"neon", "asimddp", "fphp", "bf16", "i8mm"}),
    "sve_v1": frozenset({"neon", "sve", "bf16", "i8mm"}),
    "sve_v2": frozenset({"neon", "sve", "sve2", "bf16", "i8mm"}),
}

_NOISE = re.compile(r"\((?:r|tm|c)\)|\bcpu\s*@.*|@\s*[\d.]+\s*ghz|\b\d+-core\b")
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
    for name, build in (("catalog/accelerators.json", _accelerator), ("catalog/processors.json", _processor)):
        for index, entry in enumerate(load_catalog(PACKAGE, name)):
            device = _checked(build, entry, f"{name}[{index}] ({entry.get('name', 'without a name')})")
            if device.name in found:
                raise CatalogError(f"{name}[{index}]: a second device is named {device.name!r}")
            found[device.name] = device
    return MappingProxyType(found)


def find_device(*names: str, pci_id: str | None = None) -> Device | None:
    """Return the device a PCI id or a name means, or None when the catalog does not know it.

    The PCI id (``10de:2330``) decides where it is known; else the names in the order given, compared without case, punctuation,
    maker and clock (``Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz`` is ``Xeon Platinum 8380``). Nothing is compared by likeness.
    Where several devices share a name (``A100``) the first in the catalog is meant; `candidates` gives them all.
    """
    found = candidates_by_pci(pci_id) if pci_id else ()
    return next(iter(found or candidates(*names)), None)


def candidates(*names: str) -> tuple[Device, ...]:
    """Return the devices the first known one of ``names`` may mean, the usual one first; empty when none is known."""
    by_name = _index()[0]
    return next((by_name[key] for name in names if (key := normalized(name)) in by_name), ())


def candidates_by_pci(pci_id: str) -> tuple[Device, ...]:
    """Return the devices that carry a PCI id written ``vendor:device`` in hexadecimal, with or without 0x; empty when unknown."""
    parts = [part.strip().lower().removeprefix("0x").zfill(4) for part in pci_id.split(":")]
    return _index()[1].get(":".join(parts), ())


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
    peaks = {Precision(name): tflops * TERA for name, tflops in entry["tflops"].items()}
    return _device(
        entry, memory_bytes=entry["memory_mib"] * MIB, bandwidth=entry["memory_bandwidth_gb_per_s"] * GIGA, peaks=peaks,
        units=entry["compute_units"],
    )  # fmt: skip


def _processor(entry: Entry) -> Device:
    per_cycle, cores = OPS_PER_CYCLE[entry["isa"]], entry["cores"]
    clock = {precision: _clock_hz(entry, precision) for precision in per_cycle}
    return _device(
        entry,
        memory_bytes=entry["memory_gb"] * GIB,
        bandwidth=entry["channels"] * entry["mt_per_s"] * MEGA * 8,
        peaks={precision: cores * clock[precision] * operations for precision, operations in per_cycle.items()},
        units=cores,
        instruction_sets=INSTRUCTION_SETS[entry["isa"]],
        l3_bytes=entry["l3_mb"] * MIB,
        clock_hz=_clock_hz(entry, Precision.FP32),
    )


def _clock_hz(entry: Entry, precision: Precision) -> float:
    """Return the clock all cores hold: AMX pulls it down to about the base clock, vector units run at the all-core turbo."""
    uses_tiles = entry["isa"] == "amx" and precision is not Precision.FP32
    return float(entry["base_ghz" if uses_tiles else "all_core_ghz"]) * GIGA


def _device(
    entry: Entry,
    *,
    memory_bytes: float,
    bandwidth: float,
    peaks: Mapping[Precision, float],
    units: int,
    instruction_sets: Iterable[str] = (),
    l3_bytes: float = 0.0,
    clock_hz: float = 0.0,
) -> Device:
    up, out = entry["scale_up"], entry["scale_out"]
    return Device(
        name=entry["name"],
        kind=DeviceKind(entry["kind"]),
        vendor=entry["vendor"],
        generation=entry["generation"],
        memory_bytes=float(memory_bytes),
        memory_bandwidth_bytes_per_s=float(bandwidth),
        flops_per_s=dict(peaks),
        compute_units=units,
        scale_up=Link(name=up["name"], bandwidth_bytes_per_s=up["gb_per_s"] * GIGA, domain_devices=up["devices"]),
        scale_out=Link(name=out["name"], bandwidth_bytes_per_s=out["gb_per_s"] * GIGA, domain_devices=SCALE_OUT_DEVICES),
        tdp_w=float(entry["tdp_w"]),
        price_usd=float(entry["price_usd"]),
        price_usd_per_h=float(entry["price_usd_per_h"]),
        aliases=tuple(entry["aliases"]),
        pci_ids=tuple(entry["pci_ids"]),
        instruction_sets=frozenset(instruction_sets),
        l3_bytes=float(l3_bytes),
        clock_hz=float(clock_hz),
        sources=_sources(entry["sources"]),
    )


def _sources(stated: Mapping[str, str]) -> Mapping[str, str]:
    default = stated.get("*", "")
    return {**dict.fromkeys(FIGURES, default), **{figure: source for figure, source in stated.items() if figure != "*"}}
