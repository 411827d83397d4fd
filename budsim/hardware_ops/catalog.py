"""The device catalog: every accelerator and processor socket with known figures.

Figures are in ``catalog/accelerators.json`` and, one line for each processor, in
``catalog/processors.json``. They are in the units of data sheets (GB/s, TFLOPS, W, USD), each with
its source; a source under ``*`` holds for every figure without one of its own. What the processors
of one platform share is in ``catalog/platforms.json``. Usual links and networks are derived, and
their sources say so. Prices of an hour are rents (``catalog/rents.json``). The files are read once,
when first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from budsim.commons.catalog import Entry, load_catalog
from budsim.commons.errors import CatalogError
from budsim.hardware_ops.accelerators import read_accelerator
from budsim.hardware_ops.device import Device
from budsim.hardware_ops.device_builder import FIGURES
from budsim.hardware_ops.processors import read_processor
from budsim.hardware_ops.rents import RentRatios, published_rents, rent_of, with_price

PACKAGE = "budsim.hardware_ops"


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
        ("catalog/accelerators.json", read_accelerator),
        ("catalog/processors.json", read_processor),
    ):
        for index, entry in enumerate(load_catalog(PACKAGE, name)):
            device = _checked(
                build, entry, f"{name}[{index}] ({entry.get('name', 'without a name')})"
            )
            if device.name in found:
                raise CatalogError(f"{name}[{index}]: a second device is named {device.name!r}")
            found[device.name] = device
    return MappingProxyType(_with_rents(found))


@lru_cache(maxsize=1)
def rent_ratios() -> RentRatios:
    """Return the ratios of rent to purchase price of the catalog's devices."""
    return RentRatios.of(devices().values())


def _with_rents(found: Mapping[str, Device]) -> dict[str, Device]:
    """Return the devices with what renting each of them on demand costs."""
    unknown = sorted(published_rents().keys() - found.keys())
    if unknown:
        raise CatalogError(f"catalog/rents.json: no device is named {unknown[0]!r}")
    ratios = RentRatios.of(found.values())
    return {name: with_price(device, rent_of(device, ratios)) for name, device in found.items()}


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
