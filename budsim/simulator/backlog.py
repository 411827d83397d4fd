"""How many runs wait, and how long a new one will take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# Seconds a run is taken to last before one has ended; only its ETA depends on it.
FIRST_GUESS_S = 3.0
# Share of the latest run in the moving mean of run times: chosen, about ten runs of memory.
WEIGHT_OF_LATEST = 0.1
# Seconds one count of waiting runs is used again: counting costs a query.
COUNTED_EVERY_S = 0.2

SECONDS_PER_MINUTE = 60.0


class Backlog:
    """How many runs wait, and how long a new one will take.

    The count is read at most every `COUNTED_EVERY_S`; runs accepted since then are added.
    """

    def __init__(
        self,
        count_waiting: Callable[[], int],
        *,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count_waiting, self._workers, self._clock = count_waiting, workers, clock
        self._counted_s = -math.inf
        self._count = 0
        self._mean_run_s = FIRST_GUESS_S

    def count(self) -> int:
        """Return how many runs wait; runs that ended since the last reading still count."""
        now_s = self._clock()
        if now_s - self._counted_s >= COUNTED_EVERY_S:
            self._count, self._counted_s = self._count_waiting(), now_s
        return self._count

    def grow(self, runs: int) -> None:
        """Add runs that were just accepted."""
        self._count += runs

    def ended(self, run_s: float) -> None:
        """Learn from a run that took ``run_s`` seconds."""
        self._mean_run_s += WEIGHT_OF_LATEST * (run_s - self._mean_run_s)

    def eta_minutes(self, ahead: int) -> int:
        """Return when a run with so many ahead of it ends, whole minutes from now, at least 1."""
        minutes = (ahead + 1) * self._mean_run_s / self._workers / SECONDS_PER_MINUTE
        return max(1, math.ceil(minutes))
