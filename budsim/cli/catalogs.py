"""`budsim devices`, `models` and `engines`: what is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budsim.cli import tables
from budsim.commons.constants import ENGINE_COMPATIBILITY_MAPPING
from budsim.commons.units import GIB, GIGA, TERA
from budsim.engine_ops import compressors, routers, serving_engines
from budsim.hardware_ops.device import DeviceKind

if TYPE_CHECKING:
    from budsim.hardware_ops.device import Device


def devices() -> None:
    """List the devices of the catalog."""
    from budsim.hardware_ops.catalog import devices as known

    headings = ("device", "kind", "memory GiB>", "GB/s>", "bf16 TFLOPS>", "link GB/s>", "USD/h>")
    rows = [_device_cells(device) for device in known().values()]
    tables.show(tables.fitted_table(headings, rows, ("link GB/s>", "kind", "bf16 TFLOPS>")))


def _device_cells(device: Device) -> tuple[str, ...]:
    flops_per_s = {str(precision): flops for precision, flops in device.flops_per_s.items()}
    bf16 = flops_per_s.get("bf16")
    return (
        device.name,
        str(device.kind),
        f"{device.memory_bytes / GIB:.0f}",
        f"{device.memory_bandwidth_bytes_per_s / GIGA:.0f}",
        f"{bf16 / TERA:.0f}" if bf16 else "-",
        f"{device.scale_up.bandwidth_bytes_per_s / GIGA:.0f}",
        f"{device.price_usd_per_h:.2f}",
    )


def models() -> None:
    """List the models that are known without a network, with their published sizes."""
    from budsim.model_ops.registry import known_models, published_parameters

    table = tables.table("model", "parameters>")
    for model_id in known_models():
        published = published_parameters(model_id)
        table.add_row(model_id, f"{published[0] / GIGA:.2f} B" if published else "-")
    tables.show(table)


def engines() -> None:
    """List the engines: their stage, their hardware, and the settings the search changes."""
    table = tables.table("engine", "version", "stage", "hardware", "settings searched")
    for engine in (*serving_engines.values(), *routers.values(), *compressors.values()):
        kinds = tuple(ENGINE_COMPATIBILITY_MAPPING.get(engine.name, ()))
        serving = serving_engines.get(engine.name)
        flags = dict.fromkeys(
            knob.flag
            for kind in kinds
            for knob in (serving.knobs(DeviceKind(kind)) if serving else ())
        )
        hardware, settings = ", ".join(kinds) or "any", ", ".join(flags) or "-"
        table.add_row(engine.name, engine.version, str(engine.stage), hardware, settings)
    tables.show(table)
