"""How the servers behind published measurements were started, where their tables do not say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from budsim.commons.catalog import Entry, load_catalog
from budsim.performance.candidates import Booleans, Floats

SOURCES = ("inferencex", "aiconfigurator_silicon")
"""Both stem from runs of the same public benchmark."""

_CONDITIONS: Mapping[str, Callable[[pd.DataFrame, Any], pd.Series]] = {
    "engine": lambda rows, name: rows.engine == name,
    "model": lambda rows, part: rows.model.str.contains(part, regex=False),
    "device": lambda rows, part: rows.device_name.str.contains(part, regex=False),
    "precision": lambda rows, part: rows.precision.str.contains(part, regex=False),
    "since": lambda rows, date: rows.date >= date,
    "until": lambda rows, date: (rows.date != "") & (rows.date <= date),
    "input_tokens": lambda rows, tokens: rows.input_tokens == tokens,
    "output_tokens": lambda rows, tokens: rows.output_tokens == tokens,
    "from_concurrency": lambda rows, load: rows.concurrency >= load,
    "below_tp": lambda rows, tp: rows.tp < tp,
}

SETTINGS = {
    "kv_cache_dtype": frozenset({*_CONDITIONS, "dtype"}),
    "token_budget": frozenset({*_CONDITIONS, "tokens", "prompts"}),
    "admission_steps": frozenset({*_CONDITIONS, "steps"}),
    "memory_fraction": frozenset({*_CONDITIONS, "share"}),
}
"""What the catalog settles, and the keys its entries may have."""


def cache_formats(rows: pd.DataFrame) -> pd.Series:
    """Return the format of the KV cache of each row, "" where it is the engine's default or unknown.

    ``rows`` has the columns of ``measurements.csv`` as text, numbers as numbers.
    """
    formats = pd.Series("", index=rows.index)
    for entry, at in _matches("kv_cache_dtype", rows):
        formats[at] = entry.get("dtype", "")
    return formats


def token_budgets(rows: pd.DataFrame, default: Floats) -> Floats:
    """Return the prompt tokens one step may take in each row, ``default`` (n,) where no protocol says it."""
    budgets = default.copy()
    prompts = rows.input_tokens.to_numpy(dtype=np.float64)
    for entry, at in _matches("token_budget", rows):
        budgets[at] = np.maximum(entry["tokens"], entry.get("prompts", 0) * prompts[at])
    return budgets


def admission_steps(rows: pd.DataFrame) -> Floats:
    """Return the mean engine steps a newcomer of each row waits for the scheduler to look, 0 where it looks at every step."""
    return _stated("admission_steps", "steps", rows, np.zeros(len(rows)))


def memory_fractions(rows: pd.DataFrame, default: Floats) -> Floats:
    """Return the share of device memory (0..1) the engine of each row takes, ``default`` (n,) where no protocol says it."""
    return _stated("memory_fraction", "share", rows, default)


def _stated(setting: str, key: str, rows: pd.DataFrame, default: Floats) -> Floats:
    values = default.copy()
    for entry, at in _matches(setting, rows):
        values[at] = entry[key]
    return values


def _matches(setting: str, rows: pd.DataFrame) -> Iterator[tuple[Entry, Booleans]]:
    """Yield the entries of a setting with the rows each is the first to match."""
    free = np.array(rows.source.isin(SOURCES), dtype=bool)
    for entry in _protocols():
        if entry["setting"] != setting:
            continue
        fits = free.copy()
        for name in _CONDITIONS.keys() & entry.keys():
            fits &= _CONDITIONS[name](rows, entry[name]).to_numpy(dtype=bool)
        free &= ~fits
        yield entry, fits


@lru_cache(maxsize=1)
def _protocols() -> list[Entry]:
    return load_catalog("budsim.performance", "catalog/protocols.yaml")
