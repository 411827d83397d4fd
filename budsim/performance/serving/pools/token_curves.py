"""Times between tokens of decode workers, tabulated over their load, for searches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from budsim.performance.candidates import Candidates, Floats, Integers, rows_of
from budsim.performance.serving.pools.pool_times import decode_ranks, token_time
from budsim.performance.serving.pools.queues import TokenTimes

# Loads tabulated each time the sequences double: a step's time bends where a limit takes over.
LOADS_PER_DOUBLING = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCurves:
    """Seconds between tokens (n, k) of n workers at ``loads`` (k,): sequences each one runs."""

    loads: Floats
    seconds: Floats

    def of(self, rows: Integers) -> TokenTimes:
        """Return the time between tokens of some workers, one a row, by their load.

        Between two loads it is a straight line: 10 ms at 8 and 12 ms at 16 make 11 ms at 12.
        """
        chosen, last = self.seconds[rows], len(self.loads) - 2

        def token_s(running: Floats) -> Floats:
            """Return seconds between tokens (n,) where each worker runs so many sequences."""
            above = np.searchsorted(self.loads, running, side="right")
            below = np.clip(above - 1, 0, last)
            width = self.loads[below + 1] - self.loads[below]
            share = np.clip((running - self.loads[below]) / width, 0.0, None)
            every = np.arange(len(chosen))
            low, high = chosen[every, below], chosen[every, below + 1]
            return np.asarray(low + share * (high - low), dtype=np.float64)

        return token_s


def token_curves(workers: Candidates, most: float) -> TokenCurves:
    """Return the curves of decode workers, one a row, to ``most`` sequences each or a little more.

    Loads are the same however many that is, so that a worker's times do not depend on the others.
    """
    intervals = max(math.ceil(LOADS_PER_DOUBLING * math.log2(max(most, 2.0))), 1)
    loads = 2.0 ** (np.arange(intervals + 1) / LOADS_PER_DOUBLING)
    rows, columns = len(workers), len(loads)
    repeated = rows_of(workers, np.repeat(np.arange(rows), columns))
    seconds = token_time(decode_ranks(repeated), np.tile(loads, rows))
    return TokenCurves(loads=loads, seconds=seconds.reshape(rows, columns))
