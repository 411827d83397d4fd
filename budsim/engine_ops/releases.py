"""When versions of engines came out: an engine's age says more of its speed than its number does."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from math import nan

from budsim.commons.catalog import load_catalog

_VERSION = re.compile(r"(\d+\.\d+)\.\d+")


@lru_cache(maxsize=8192)
def release_year(engine: str, version: str) -> float:
    """Return the calendar year, with its fraction, in which a version came out; nan where that is not known.

    ``version`` may be an image tag or a candidate of a release (``v0.18.0-cu130``, ``1.2.0rc6.post2``): the release it belongs
    to counts.
    """
    found = _VERSION.search(version)
    if not found:
        return nan
    releases = _releases()
    return releases.get((engine, found.group(0)), releases.get((engine, found.group(1)), nan))


def calendar_year(day: date) -> float:
    """Return a day as a year with its fraction."""
    return day.year + (day.timetuple().tm_yday - 1) / 365.25


@lru_cache(maxsize=1)
def _releases() -> dict[tuple[str, str], float]:
    """Return the year of every release by engine and version, minor (``0.18``) or whole (``0.5.9``)."""
    entries = load_catalog("budsim.engine_ops", "catalog/releases.json")
    return {
        (entry["engine"], entry["version"]): calendar_year(date.fromisoformat(entry["released"]))
        for entry in entries
    }
