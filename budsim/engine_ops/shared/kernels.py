"""Which stored formats an engine multiplies on which hardware, natively or after unpacking."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

from budsim.commons.precision import Precision
from budsim.engine_ops.shared.tables import load_table
from budsim.hardware_ops.device import Device, DeviceKind

_NO_UPPER_BOUND: Final = 10_000


class Mode(StrEnum):
    """Whether arithmetic runs in the stored format, or in 16 bit after weights are unpacked."""

    NATIVE = "native"
    WEIGHT_ONLY = "weight_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a device must have for a build or a kernel; an empty field requires nothing.

    ``min_sm`` and ``max_sm`` are CUDA compute capabilities times ten, both included.
    """

    min_sm: int = 0
    max_sm: int = _NO_UPPER_BOUND
    generations: frozenset[str] = frozenset()
    instruction_sets: frozenset[str] = frozenset()

    def met_by(self, device: Device) -> bool:
        """Return whether ``device`` has what is required."""
        capability = compute_capability(device)
        if device.kind is DeviceKind.CUDA and not self.min_sm <= capability <= self.max_sm:
            return False
        if self.generations and device.generation.lower() not in self.generations:
            return False
        has = {name.lower() for name in device.instruction_sets}
        return not self.instruction_sets or bool(self.instruction_sets & has)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One format an engine runs on a kind of device.

    ``value`` is how the engine spells the format where it must be named (KV cache), ``stated_by``
    the quantization methods of checkpoints whose own statement of it the engine follows, and
    ``unread`` those of checkpoints whose weights it refuses to read there.
    """

    precision: Precision
    mode: Mode
    requirement: Requirement
    value: str = "auto"
    stated_by: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()


def compute_capability(device: Device) -> int:
    """Return the CUDA compute capability times ten (H100: 90); 0 where there is none."""
    match = re.match(r"sm_?(\d+)", device.generation.lower())
    return int(match.group(1)) if match else 0


def weight_mode(engine: str, device: Device, precision: Precision) -> Mode | None:
    """Return how ``engine`` runs weights of ``precision`` on ``device``; None: it cannot."""
    found = _usable(engine, "kernels", device)
    modes = [kernel.mode for kernel in found if kernel.precision is precision]
    # A format may be listed twice, for older and newer devices: native arithmetic wins.
    return Mode.NATIVE if Mode.NATIVE in modes else (modes[0] if modes else None)


def native_precisions(engine: str, device: Device) -> tuple[Precision, ...]:
    """Return the formats ``engine`` multiplies natively on ``device``, widest first."""
    found = _usable(engine, "kernels", device)
    return tuple(kernel.precision for kernel in found if kernel.mode is Mode.NATIVE)


def kv_formats(engine: str, device: Device) -> Mapping[Precision, str]:
    """Return the KV cache formats beyond the model's own, and how ``engine`` spells them."""
    return {kernel.precision: kernel.value for kernel in _usable(engine, "kv_formats", device)}


def follows_checkpoint(engine: str, device: Device, precision: Precision, method: str) -> bool:
    """Return whether ``engine`` keeps its cache as a checkpoint of that method states."""
    found = _usable(engine, "kv_formats", device)
    return any(each.precision is precision and method in each.stated_by for each in found)


def reads_checkpoint(engine: str, device: Device, precision: Precision, method: str) -> bool:
    """Return whether ``engine`` reads weights that a checkpoint of that method stores so."""
    found = _usable(engine, "kernels", device)
    return not any(each.precision is precision and method in each.unread for each in found)


def requirement_from(entry: Mapping[str, Any]) -> Requirement:
    """Read what a table's entry requires of a device."""
    return Requirement(
        min_sm=entry.get("min_sm", 0),
        max_sm=entry.get("max_sm", _NO_UPPER_BOUND),
        generations=frozenset(entry.get("generations", ())),
        instruction_sets=frozenset(entry.get("instruction_sets", ())),
    )


def _usable(engine: str, table: str, device: Device) -> tuple[Kernel, ...]:
    kernels = _kernels(engine, table, device.kind)
    return tuple(kernel for kernel in kernels if kernel.requirement.met_by(device))


@cache
def _kernels(engine: str, table: str, kind: DeviceKind) -> tuple[Kernel, ...]:
    return tuple(
        Kernel(
            precision=Precision(entry["precision"]),
            mode=Mode(entry.get("mode", Mode.NATIVE)),
            requirement=requirement_from(entry),
            value=entry.get("value", "auto"),
            stated_by=frozenset(entry.get("stated_by", ())),
            unread=frozenset(entry.get("unread", ())),
        )
        for entry in load_table(engine, table)
        if entry["kind"] == kind
    )
