"""Which stored formats an engine multiplies on which hardware, natively or after converting the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from budsim.commons.catalog import load_catalog
from budsim.commons.precision import Precision
from budsim.hardware_ops.device import Device, DeviceKind


class Mode(StrEnum):
    """Whether the arithmetic runs in the stored format, or in 16 bit after the weights are unpacked."""

    NATIVE = "native"
    WEIGHT_ONLY = "weight_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a device must have for a build or a kernel: CUDA compute capability, generation, instruction set. Empty: nothing."""

    min_sm: int = 0
    max_sm: int = 10_000
    generations: frozenset[str] = frozenset()
    instruction_sets: frozenset[str] = frozenset()

    def met_by(self, device: Device) -> bool:
        """Return whether ``device`` has what is required."""
        if (
            device.kind is DeviceKind.CUDA
            and not self.min_sm <= compute_capability(device) <= self.max_sm
        ):
            return False
        if self.generations and device.generation.lower() not in self.generations:
            return False
        return not self.instruction_sets or bool(
            self.instruction_sets & {name.lower() for name in device.instruction_sets}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One format an engine runs on a kind of device; ``value`` is how the engine spells it where it must be said (KV cache)."""

    precision: Precision
    mode: Mode
    requirement: Requirement
    value: str = "auto"


def compute_capability(device: Device) -> int:
    """Return the CUDA compute capability times ten (H100: 90) from ``generation`` ``sm90``; 0 where there is none."""
    match = re.match(r"sm_?(\d+)", device.generation.lower())
    return int(match.group(1)) if match else 0


def weight_mode(engine: str, device: Device, precision: Precision) -> Mode | None:
    """Return how ``engine`` runs weights stored as ``precision`` on ``device``; None when it cannot."""
    modes = [
        kernel.mode
        for kernel in _weight_kernels(engine, device.kind)
        if kernel.precision is precision and _runs(kernel, device)
    ]
    return Mode.NATIVE if Mode.NATIVE in modes else (modes[0] if modes else None)


def native_precisions(engine: str, device: Device) -> tuple[Precision, ...]:
    """Return the formats ``engine`` multiplies natively on ``device``, in catalog order (widest first)."""
    return tuple(
        kernel.precision
        for kernel in _weight_kernels(engine, device.kind)
        if kernel.mode is Mode.NATIVE and _runs(kernel, device)
    )


def kv_formats(engine: str, device: Device) -> Mapping[Precision, str]:
    """Return the KV cache formats beyond the model's own that ``engine`` offers on ``device``, and how it spells them."""
    return {
        kernel.precision: kernel.value
        for kernel in _kv_kernels(engine, device.kind)
        if _runs(kernel, device)
    }


def _runs(kernel: Kernel, device: Device) -> bool:
    return kernel.requirement.met_by(device)


@cache
def _weight_kernels(engine: str, kind: DeviceKind) -> tuple[Kernel, ...]:
    return _kernels("catalog/kernels.json", engine, kind)


@cache
def _kv_kernels(engine: str, kind: DeviceKind) -> tuple[Kernel, ...]:
    return _kernels("catalog/kv_formats.json", engine, kind)


def _kernels(name: str, engine: str, kind: DeviceKind) -> tuple[Kernel, ...]:
    entries = load_catalog("budsim.engine_ops", name)
    return tuple(
        Kernel(
            precision=Precision(entry["precision"]),
            mode=Mode(entry.get("mode", Mode.NATIVE)),
            requirement=requirement_from(entry),
            value=entry.get("value", "auto"),
        )
        for entry in entries
        if (entry["engine"], entry["kind"]) == (engine, kind)
    )


def requirement_from(entry: Mapping[str, Any]) -> Requirement:
    """Read what a catalog entry requires of a device."""
    return Requirement(
        min_sm=entry.get("min_sm", 0),
        max_sm=entry.get("max_sm", 10_000),
        generations=frozenset(entry.get("generations", ())),
        instruction_sets=frozenset(entry.get("instruction_sets", ())),
    )
