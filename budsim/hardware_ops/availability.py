"""Reads who can have which accelerator: segment and years of sale, from the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from budsim.commons.catalog import load_catalog
from budsim.hardware_ops.device import Availability, Segment

PACKAGE = "budsim.hardware_ops"


@lru_cache(maxsize=1)
def accelerator_availability() -> Mapping[str, Availability]:
    """Return the availability of accelerators by name.

    ``catalog/availability.json`` has one line for parts that were sold in the same years.
    """
    return {
        name: Availability(
            segment=Segment(line["segment"]),
            sold_from=line["sold_from"],
            sold_until=line["sold_until"],
            market=line.get("market", ""),
            source=line["source"],
        )
        for line in load_catalog(PACKAGE, "catalog/availability.json")
        for name in line["devices"]
    }
