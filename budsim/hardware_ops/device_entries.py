"""One device entry of an inventory becomes a pool: what the catalog calls it, how many there are, and what of them is free.

What is believed
----------------
Performance figures come from the catalog only. The entry gives names, PCI id, counts, load, cores and memory. The PCI id is
asked first, then ``raw_name``, ``device_model``, ``model`` and ``name``. The stated memory picks among devices of one name
(``A100`` with 40 or 80 GB) and is a check on the rest: more than 25 % away from the catalog, the entry contradicts itself and
is not used. A PCI id and names that mean different devices: the one whose memory fits is meant; when memory cannot tell, the
entry contradicts itself. Names the catalog does not know do not contradict a PCI id it knows, but where several devices carry
the id, a name or the memory must tell which. An entry that is unknown or
contradicts itself stays in the inventory with ``device=None`` and the reason, so that counts add up. So does one that cannot be
read, with the path of its bad field: a mistake of the writer's in one entry must not take the others' answers away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.hardware_ops.catalog import candidates, candidates_by_pci, is_slice
from budsim.hardware_ops.cluster import DeviceLabel, DevicePool, HardwareMode
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.inventory_reader import InventoryReader

MOST_DEVICES = 10_000
MOST_CORES = 10_000
MOST_GB = 1e6
MOST_PERCENT = 1e4  # time-sliced cores are handed out more than once
MEMORY_TOLERANCE = 0.25

KINDS_ON_THE_WIRE = {
    "cuda": DeviceKind.CUDA,
    "rocm": DeviceKind.ROCM,
    "hpu": DeviceKind.HPU,
    "xpu": DeviceKind.XPU,
    "cpu": DeviceKind.CPU,
    "cpu_high": DeviceKind.CPU,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The device an entry means, or why none can be named."""

    device: Device | None = None
    reason: str = ""


def read_pool(entry: InventoryReader, *, node_is_up: bool) -> DevicePool:
    """Return the pool one device entry describes.

    Raises
    ------
    InvalidInput
        When a field has the wrong type or range, no name is given, or more is available than there is.
    """
    found, label, (total, available) = _identified(entry), _label(entry), _counts(entry)
    pool = DevicePool(
        device=found.device,
        label=replace(label, wire_type=label.wire_type or str(found.device.kind))
        if found.device
        else label,
        total=total,
        available=available,
        memory_free_bytes=found.device.memory_bytes if found.device else 0.0,
        device_uuid=entry.text("device_uuid"),
        unavailable_reason=f"{total - available} of {total} in use by others"
        if available < total
        else "",
    )
    mode = hardware_mode(entry)
    load = (
        _cpu_load
        if _is_cpu(found.device, label)
        else _shared_load
        if mode is HardwareMode.SHARED
        else _own_load
    )
    pool = load(pool, entry)
    if found.device is None:
        return unusable(pool, found.reason)
    return pool if node_is_up else unusable(pool, "node is down")


def unreadable(name: object, error: InvalidInput) -> DevicePool:
    """Return a pool that stands for what could not be read, of no devices, with the reason."""
    shown = name.strip()[:60] if isinstance(name, str) and name.strip() else error.field
    label = DeviceLabel(name=shown, raw_name=shown, device_model=shown, wire_type="")
    return DevicePool(
        device=None,
        label=label,
        total=0,
        available=0,
        memory_free_bytes=0.0,
        unavailable_reason=str(error),
    )


def unusable(pool: DevicePool, reason: str) -> DevicePool:
    """Return a pool of which nothing may be used, for a reason."""
    return replace(pool, available=0, memory_free_bytes=0.0, unavailable_reason=reason)


def hardware_mode(entry: InventoryReader) -> HardwareMode:
    """Return whether an entry is time-sliced: it says so, or names one physical GPU and what others allocated on it."""
    stated = entry.text("hardware_mode").lower()
    if not stated:
        sliced = bool(entry.text("device_uuid")) and entry.has("memory_allocated_gb")
        return HardwareMode.SHARED if sliced else HardwareMode.DEDICATED
    try:
        return HardwareMode(stated)
    except ValueError as error:
        raise InvalidInput(
            entry.at("hardware_mode"), f"is {stated[:60]!r}", "dedicated or shared"
        ) from error


def _label(entry: InventoryReader) -> DeviceLabel:
    name, raw_name = entry.text("name"), entry.text("raw_name")
    model = entry.text("device_model") or entry.text("model")
    shown = name or raw_name or model
    if not shown and not _pci_id(entry):
        raise InvalidInput(entry.at("name"), "is missing", "the device's name, as text")
    shown = shown or _pci_id(entry)
    return DeviceLabel(
        name=shown, raw_name=raw_name or shown, device_model=model or shown, wire_type=entry.text("type").lower()
    )  # fmt: skip


def _counts(entry: InventoryReader) -> tuple[int, int]:
    available = entry.count("available_count", most=MOST_DEVICES)
    total = entry.count("total_count", most=MOST_DEVICES)
    total = entry.count("count", most=MOST_DEVICES) if total is None else total
    if available is None:
        raise InvalidInput(
            entry.at("available_count"), "is missing", f"a whole number from 0 to {MOST_DEVICES}"
        )
    total = available if total is None else total
    if available > total:
        raise InvalidInput(
            entry.at("available_count"), f"is {available}", f"at most the {total} devices there are"
        )
    return total, available


def _pci_id(entry: InventoryReader) -> str:
    vendor, device = entry.text("pci_vendor"), entry.text("pci_device")
    return f"{vendor}:{device}" if vendor and device else ""


def _identified(entry: InventoryReader) -> _Found:
    names = [
        text for key in ("raw_name", "device_model", "model", "name") if (text := entry.text(key))
    ]
    if part := next(filter(is_slice, names), None):
        return _Found(reason=f"unknown device {part!r}: a slice of a device, not a whole one")
    by_pci, by_name = candidates_by_pci(_pci_id(entry)), candidates(*names)
    agreed = tuple(device for device in by_pci if device in by_name)
    possible = agreed or (*by_pci, *by_name)
    shown = names[-1] if names else _pci_id(entry)
    if not possible:
        return _Found(reason=f"unknown device {shown!r}")
    if possible[0].kind is DeviceKind.CPU:
        return _of_stated_kind(possible[0], entry)
    stated_gb = _stated_memory_gb(entry)
    fitting = [device for device in possible if _fits(device, stated_gb)]
    if not fitting:
        sizes = " or ".join(sorted({f"{device.memory_bytes / GIB:.0f}" for device in possible}))
        return _Found(
            reason=f"contradictory entry: {shown!r} has {sizes} GB, the inventory says {stated_gb:g} GB"
        )
    if by_pci and by_name and not agreed and len(fitting) > 1:
        return _Found(
            reason=f"contradictory entry: PCI id {_pci_id(entry)} is {by_pci[0].name}, the name says {by_name[0].name}"
        )
    if not by_name and len(fitting) > 1:
        shared = " or ".join(device.name for device in fitting)
        return _Found(
            reason=f"unknown device {shown!r}: PCI id {_pci_id(entry)} is {shared}; expected its name or memory"
        )
    return _of_stated_kind(fitting[0], entry)


def _fits(device: Device, stated_gb: float | None) -> bool:
    return (
        stated_gb is None
        or abs(device.memory_bytes / GIB - stated_gb)
        <= MEMORY_TOLERANCE * device.memory_bytes / GIB
    )


def _stated_memory_gb(entry: InventoryReader) -> float | None:
    for key in ("mem_per_GPU_in_GB", "memory_gb"):
        if stated := entry.number(key, most=MOST_GB, unit="GB"):
            return stated
    return None


def _of_stated_kind(device: Device, entry: InventoryReader) -> _Found:
    stated = entry.text("type").lower()
    if stated and stated not in KINDS_ON_THE_WIRE:
        return _Found(
            reason=f"contradictory entry: type {stated[:60]!r} is none of {', '.join(KINDS_ON_THE_WIRE)}"
        )
    if stated and KINDS_ON_THE_WIRE[stated] is not device.kind:
        return _Found(
            reason=f"contradictory entry: {device.name} is of type {device.kind}, the inventory says {stated}"
        )
    return _Found(device=device)


def _is_cpu(device: Device | None, label: DeviceLabel) -> bool:
    kind = device.kind if device else KINDS_ON_THE_WIRE.get(label.wire_type)
    return kind is DeviceKind.CPU


def _own_load(pool: DevicePool, entry: InventoryReader) -> DevicePool:
    """Return the pool as it is: whole devices are free or they are not."""
    del entry
    return pool


def _shared_load(pool: DevicePool, entry: InventoryReader) -> DevicePool:
    """Return the pool with what other containers leave on its time-sliced device."""
    device = pool.device
    allocated = entry.number("memory_allocated_gb", most=MOST_GB, unit="GB")
    used_percent = entry.number("memory_utilization_percent", most=100, unit="%")
    busy = [
        entry.number(key, most=MOST_PERCENT, unit="%")
        for key in ("core_utilization_percent", "cores_allocated_percent")
    ]
    stated_busy = [percent for percent in busy if percent is not None]
    if device is None:
        return pool
    if allocated is None and used_percent is None:
        return unusable(
            pool, "time-sliced device without memory_allocated_gb: its free memory is not known"
        )
    if not stated_busy:
        return unusable(
            pool,
            "time-sliced device without cores_allocated_percent: its free compute is not known",
        )
    taken = (
        allocated * GIB
        if allocated is not None
        else (used_percent or 0.0) / 100 * device.memory_bytes
    )
    free, share = device.memory_bytes - taken, 1 - max(stated_busy) / 100
    if free <= 0 or share <= 0:
        return unusable(
            replace(pool, compute_free_share=max(0.0, share)),
            "other containers hold all of its memory or compute",
        )
    return replace(pool, memory_free_bytes=free, compute_free_share=share)


def _cpu_load(pool: DevicePool, entry: InventoryReader) -> DevicePool:
    """Return one device per socket, sized by the node's memory and cores, with what its other work leaves.

    Missing sockets follow from the cores, missing cores from the catalog. More cores than the catalog's sockets have are
    threads and are not counted. A virtual machine with fewer gets their share of the arithmetic and all of the bandwidth.
    """
    cores = next(
        (c for key in ("physical_cores", "cores") if (c := entry.count(key, most=MOST_CORES))), None
    )
    stated_sockets = entry.count("socket_count", most=64) or None
    memory_gb = _stated_cpu_memory_gb(entry)
    used_cores = entry.number("utilized_cores", most=MOST_CORES, unit="cores") or 0.0
    used_gb = entry.number("utilized_memory_gb", most=MOST_GB, unit="GB") or 0.0
    for key in ("threads", "frequency_ghz"):
        entry.number(key, most=2 * MOST_CORES, unit=key)
    device = pool.device
    if device is None:
        return _per_socket(pool, stated_sockets or 1)
    if not memory_gb:
        return unusable(
            _per_socket(pool, stated_sockets or 1), "the node's memory is not stated (memory_gb)"
        )
    counted = pool.total if pool.total > 1 else None
    sockets = counted or stated_sockets or max(1, round((cores or 0) / device.compute_units))
    cores_per_socket = (
        min(device.compute_units, max(1, round(cores / sockets))) if cores else device.compute_units
    )
    pool = _per_socket(
        replace(pool, device=_socket(device, cores_per_socket, memory_gb * GIB / sockets)), sockets
    )
    free, share = (
        (memory_gb - used_gb) * GIB / sockets,
        1 - used_cores / (cores_per_socket * sockets),
    )
    if free <= 0 or share <= 0:
        return unusable(
            replace(pool, compute_free_share=max(0.0, share)),
            "the node's other work holds all its memory or cores",
        )
    return replace(pool, memory_free_bytes=free, compute_free_share=share)


def _stated_cpu_memory_gb(entry: InventoryReader) -> float | None:
    return entry.number("memory_gb", most=MOST_GB, unit="GB") or entry.number(
        "mem_per_GPU_in_GB", most=MOST_GB, unit="GB"
    )


def _per_socket(pool: DevicePool, sockets: int) -> DevicePool:
    """Count sockets where the inventory counts the node's CPUs as one."""
    if pool.total > 1:  # already counted by socket
        return pool
    return replace(pool, total=pool.total * sockets, available=pool.available * sockets)


def _socket(device: Device, cores: int, memory_bytes: float) -> Device:
    share = cores / device.compute_units
    peaks = {precision: flops * share for precision, flops in device.flops_per_s.items()}
    return replace(device, compute_units=cores, memory_bytes=memory_bytes, flops_per_s=peaks)
