"""Instance types of clouds: which devices a machine of that name has.

The table is ``catalog/instances.json``, one line for each provider's family, each with its source.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from budsim.commons.catalog import Entry, load_catalog
from budsim.commons.errors import CatalogError, InvalidInput
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import Device

PACKAGE = "budsim.hardware_ops"
# Azure's documentation names sizes with and without it.
AZURE_PREFIX = "standard_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance type.

    Attributes
    ----------
    name, provider : str
        As the provider names it (``p5.48xlarge``).
    device : Device
        The accelerator it is rented for, or its processor where it has none.
    count : int
        Number of accelerators, or of processor sockets.
    cores, memory_gb : int or None
        Of all sockets, for instances without accelerators.
    source : str
        Where the figures were read.
    """

    name: str
    provider: str
    device: Device
    count: int
    cores: int | None
    memory_gb: int | None
    source: str


def find_instance(name: str, path: str) -> Instance:
    """Return the instance type called ``name``, in any case.

    Raises
    ------
    InvalidInput
        A type the table does not know; ``path`` is the field it stands in.
    """
    known = instances()
    # Providers' tools print types in different cases, Azure with a prefix.
    key = _key(name)
    if key not in known:
        close = difflib.get_close_matches(key, known, n=3)
        names = ", ".join(known[one].name for one in close) or "p5.48xlarge, a3-highgpu-8g, ..."
        expected = f"a known instance type ({names}), or devices"
        raise InvalidInput(path, f"is {name[:60]!r}", expected)
    return known[key]


@lru_cache(maxsize=1)
def instances() -> Mapping[str, Instance]:
    """Return every instance type by its name in lower case.

    Raises
    ------
    CatalogError
        A line that names an unknown device, has no source, or repeats a name.
    """
    found: dict[str, Instance] = {}
    for index, family in enumerate(load_catalog(PACKAGE, "catalog/instances.json")):
        where = f"catalog/instances.json[{index}]"
        for name, entry in family["instances"].items():
            instance = _instance(name, entry, family, where)
            if found.setdefault(_key(name), instance) is not instance:
                raise CatalogError(f"{where}: a second instance is named {name!r}")
    return found


def _instance(name: str, entry: Entry, family: Entry, where: str) -> Instance:
    device = devices().get(entry["device"])
    if device is None or not family.get("source"):
        raise CatalogError(f"{where}: {name} names no known device or has no source")
    return Instance(
        name=name,
        provider=family["provider"],
        device=device,
        count=entry["count"] if "count" in entry else entry["sockets"],
        cores=entry.get("cores"),
        memory_gb=entry.get("memory_gb"),
        source=family["source"],
    )


def _key(name: str) -> str:
    return name.strip().lower().removeprefix(AZURE_PREFIX)
