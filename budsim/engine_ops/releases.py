"""When versions of engines came out: an engine's age says more of its speed than its number."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from math import nan
from typing import Final

from budsim.engine_ops import serving_engines
from budsim.engine_ops.shared.tables import load_table

_VERSION: Final = re.compile(r"(\d+\.\d+)\.\d+")

_DAYS_PER_YEAR: Final = 365.25

# Folder whose table of releases names the engine in each row.
_MEASURED_ONLY: Final = "measured_only"


@lru_cache(maxsize=8192)
def release_year(engine: str, version: str) -> float:
    """Return the calendar year, with its fraction, in which a version came out; nan if unknown.

    ``version`` may be an image tag or a candidate of a release (``v0.18.0-cu130``,
    ``1.2.0rc6.post2``): the release it belongs to counts.
    """
    found = _VERSION.search(version)
    if not found:
        return nan
    releases = _releases()
    minor = releases.get((engine, found.group(1)), nan)
    return releases.get((engine, found.group(0)), minor)


def calendar_year(day: date) -> float:
    """Return a day as a year with its fraction."""
    return day.year + (day.timetuple().tm_yday - 1) / _DAYS_PER_YEAR


@lru_cache(maxsize=1)
def _releases() -> dict[tuple[str, str], float]:
    """Return the year of every release by engine and version, minor (``0.18``) or whole."""
    found: dict[tuple[str, str], float] = {}
    for folder in (*serving_engines, _MEASURED_ONLY):
        for entry in load_table(folder, "releases"):
            engine = entry.get("engine", folder)
            released = date.fromisoformat(entry["released"])
            found[engine, entry["version"]] = calendar_year(released)
    return found
