"""Reads one device entry of an inventory into a pool: which device, how many, and what is free.

Rules
-----
* Performance figures come from the catalog only. The entry gives names, PCI id, counts, load, cores
  and memory; `device_identity` says which device it means.
* An entry that is unknown, contradicts itself or cannot be read stays in the inventory with
  ``device=None`` and the reason, so that counts add up and other entries are still answered.
"""

from __future__ import annotations

from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.hardware_ops.cluster import DeviceLabel, DevicePool, HardwareMode
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.device_identity import (
    KINDS_ON_THE_WIRE,
    MOST_GB,
    NAME_FIELDS,
    identify_device,
    pci_id,
)
from budsim.hardware_ops.device_names import is_time_sliced
from budsim.hardware_ops.inventory_reader import InventoryReader

MOST_DEVICES = 10_000
MOST_CORES = 10_000
MOST_PERCENT = 1e4  # time-sliced cores are handed out more than once


def read_pool(entry: InventoryReader, *, node_is_up: bool) -> DevicePool:
    """Return the pool one device entry describes.

    Raises
    ------
    InvalidInput
        When a field has the wrong type or range, no name is given, or more devices are available
        than there are.
    """
    found, label, (total, available) = identify_device(entry), _label(entry), _counts(entry)
    pool = DevicePool(
        device=found.device,
        label=replace(label, wire_type=label.wire_type or str(found.device.kind))
        if found.device
        else label,
        total=total,
        available=available,
        memory_free_bytes=found.device.memory_at_start_bytes if found.device else 0.0,
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
    """Return whether an entry is time-sliced.

    Either it says so, or its label does (``NVIDIA-H100-80GB-HBM3-SHARED``), or it names one
    physical GPU and what others allocated on it.
    """
    stated = entry.text("hardware_mode").lower()
    if not stated and any(is_time_sliced(entry.text(key)) for key in NAME_FIELDS):
        return HardwareMode.SHARED
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
    if not shown and not pci_id(entry):
        raise InvalidInput(entry.at("name"), "is missing", "the device's name, as text")
    shown = shown or pci_id(entry)
    return DeviceLabel(
        name=shown,
        raw_name=raw_name or shown,
        device_model=model or shown,
        wire_type=entry.text("type").lower(),
    )


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
    """Return one device for each socket, with what the node's other work leaves of it.

    Missing sockets follow from the cores; without cores the CPU cannot be used. More cores than
    the catalog's sockets have are threads and are not counted. A virtual machine with fewer cores gets
    their share of the arithmetic and all of the bandwidth.
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
    if not cores:
        # The callers' own rule: they do not place a replica on a CPU whose cores they do not know.
        return unusable(pool, "the node's cores are not stated (cores)")
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
