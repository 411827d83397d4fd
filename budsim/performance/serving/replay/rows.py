"""Tables in which some candidates are replayed and others are static batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from budsim.performance.candidates import Candidates, Floats, Integers, rows_of
from budsim.performance.predictions import MemoryUse
from budsim.performance.serving.replay.answers import Limits, Percentiles, ReplayedService
from budsim.performance.serving.replay.replay import Factors, replay
from budsim.performance.traffic import Traffic

# The cache of a measured server holds its longest request. Where memory rules leave less they are
# wrong, and the cache is assumed to hold that request this many times.
ROOM_FOR_LONGEST = 2.0


def replay_served(
    candidates: Candidates,
    memory: MemoryUse,
    traffic: Sequence[Traffic | None],
    *,
    limits: Limits | None = None,
    factors: Factors | None = None,
    seed: int = 0,
) -> ReplayedService:
    """Replay each candidate that has traffic; arrays of shape (n,), nan and not stable elsewhere.

    A run whose number of requests is given ends with the last of them, however fast they come.
    """
    empty = _nothing(len(candidates))
    # `replay` takes one value of `finite` for all its rows.
    for finite in (False, True):
        at = np.array(
            [
                row
                for row, each in enumerate(traffic)
                if each is not None and (each.requests is not None) == finite
            ],
            dtype=np.int64,
        )
        if len(at):
            asked = [each for row in at if (each := traffic[row]) is not None]
            found = replay(
                rows_of(candidates, at),
                rows_of_memory(memory, at),
                asked,
                limits=limits,
                factors=factors and factors.rows(at),
                seed=seed,
                finite=finite,
            )
            empty = _placed(empty, at, found)
    return empty


def with_room(
    memory: MemoryUse, candidates: Candidates, traffic: Sequence[Traffic | None]
) -> MemoryUse:
    """Return memory in which the longest request of every row fits, as it did when measured."""
    longest = np.array([0.0 if each is None else each.context_tokens for each in traffic])
    # Each attention rank has a pool of its own, and any of them may get the longest request, which
    # may take the parts of all lanes.
    least = longest * candidates.dp

    def roomy(tokens: Floats) -> Floats:
        """Return the tokens, more where not one request fits."""
        return np.where(tokens < least, ROOM_FOR_LONGEST * least, tokens)

    return replace(
        memory,
        kv_capacity_tokens=roomy(memory.kv_capacity_tokens),
        kv_running_tokens=roomy(memory.kv_running_tokens),
    )


def rows_of_memory(memory: MemoryUse, at: Integers) -> MemoryUse:
    """Return some rows of a table of memory."""
    return MemoryUse(**{field.name: getattr(memory, field.name)[at] for field in fields(memory)})


def _nothing(rows: int) -> ReplayedService:
    unknown = np.full(rows, np.nan)
    columns: dict[str, Any] = {field.name: unknown for field in fields(ReplayedService)}
    spreads = Percentiles(**{field.name: unknown for field in fields(Percentiles)})
    columns |= dict.fromkeys(("ttft_s", "itl_s", "tpot_s", "e2e_s"), spreads)
    return ReplayedService(
        **{**columns, "stable": np.zeros(rows, dtype=bool), "timelines": (None,) * rows}
    )


def _placed(table: ReplayedService, at: Integers, found: ReplayedService) -> ReplayedService:
    """Return the table with the rows ``at`` taken from ``found``."""
    columns: dict[str, Any] = {}
    for field in fields(ReplayedService):
        old, new = getattr(table, field.name), getattr(found, field.name)
        if isinstance(old, Percentiles):
            columns[field.name] = Percentiles(
                **{
                    each.name: _scattered(getattr(old, each.name), at, getattr(new, each.name))
                    for each in fields(Percentiles)
                }
            )
        elif isinstance(old, tuple):
            lines = list(old)
            for row, line in zip(at, new, strict=True):
                lines[row] = line
            columns[field.name] = tuple(lines)
        else:
            columns[field.name] = _scattered(old, at, new)
    return ReplayedService(**columns)


def _scattered(old: Floats, at: Integers, new: Floats) -> Floats:
    values = old.copy()
    values[at] = new
    return values
