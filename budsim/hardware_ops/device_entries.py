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
from budsim.hardware_ops.cluster import DeviceLabel, DevicePool, HardwareMode
from budsim.hardware_ops.device import Device, DeviceKind, PriceBasis, PriceKind, PriceOrigin
from budsim.hardware_ops.device_identity import (
    KINDS_ON_THE_WIRE,
    NAME_FIELDS,
    identify_device,
    pci_id,
)
from budsim.hardware_ops.device_load import unusable, with_processor_load, with_time_sliced_load
from budsim.hardware_ops.device_names import is_time_sliced
from budsim.hardware_ops.inventory_reader import InventoryReader
from budsim.hardware_ops.rents import Rent, with_price

MOST_DEVICES = 10_000
MOST_USD_PER_H = 10_000.0


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
        device=_with_own_price(found.device, entry),
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
    # Processors of unknown name still count their sockets, so that totals add up.
    if _is_cpu(found.device, label):
        pool = with_processor_load(pool, entry)
    elif mode is HardwareMode.SHARED:
        pool = with_time_sliced_load(pool, entry)
    if found.device is None:
        return unusable(pool, found.reason)
    return pool if node_is_up else unusable(pool, "node is down")


def _with_own_price(device: Device | None, entry: InventoryReader) -> Device | None:
    """Return a device at the price of an hour that the entry states, if it states one."""
    price = entry.number("price_usd_per_h", most=MOST_USD_PER_H, unit="USD/h of one device")
    if device is None or not price:
        return device
    origin = PriceOrigin(
        basis=PriceBasis.RENT,
        kind=PriceKind.INVENTORY,
        date="",
        source=f"given: the inventory's own price ({entry.at('price_usd_per_h')})",
    )
    return with_price(device, Rent(usd_per_h=price, origin=origin))


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


def hardware_mode(entry: InventoryReader) -> HardwareMode:
    """Return whether an entry is time-sliced.

    Either it says so, or its label does (``NVIDIA-H100-80GB-HBM3-SHARED``), or it names one
    physical GPU and what others allocated on it.
    """
    stated = entry.text("hardware_mode").lower()
    if not stated and any(is_time_sliced(entry.text(key)) for key in NAME_FIELDS):
        return HardwareMode.SHARED
    # Some collectors state no mode, but list each GPU with what others hold of it.
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
    # Collectors that list only what is free state no total.
    total = available if total is None else total
    if available > total:
        raise InvalidInput(
            entry.at("available_count"), f"is {available}", f"at most the {total} devices there are"
        )
    return total, available


def _is_cpu(device: Device | None, label: DeviceLabel) -> bool:
    kind = device.kind if device else KINDS_ON_THE_WIRE.get(label.wire_type)
    return kind is DeviceKind.CPU
