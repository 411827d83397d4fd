"""The largest load that any of several ways carries, with many loads tried at once.

Percentiles of a replay do not grow evenly with the load. So the largest load that was tried and is
carried counts, whatever misses below it, and the next larger one that was tried is too much for
every way that carries it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from budsim.performance.candidates import Floats, Integers

# Loads are sought to 1 %, or to 1.
CLOSE: Final = 1.01
# Ways times loads tried at once: so many replays take about three times as long as one alone.
AT_ONCE: Final = 12
# Most loads tried at once, and times that some are tried before a search ends as it is.
MOST_LOADS: Final = 6
MOST_ROUNDS: Final = 16
# Loads tried next, relative to the largest one carried where none is too much, and to the least
# that is too much where none is carried.
UP: Final = (1.04, 1.2, 1.6, 3.0)
DOWN: Final = (0.03, 0.1, 0.3, 0.6)
# Loads tried around the one where ways are taken to miss lie so many times closer than even ones.
CLOSER: Final = 4
# Ways that are taken to miss at a load so far below the best's, relative to the loads between what
# is carried and what is not, are left out.
NEARLY: Final = 0.4
# What misses by more than twice as much as the best, and by 0.15 more, is not tried again where
# nothing is carried. Misses of 1 and more tell of queues, not of that.
FAR_TIMES: Final = 2.0
FAR_MORE: Final = 0.15
NEAR: Final = 1.0

# Tells how far some ways (rows) are within the targets under some loads (columns): a number below
# 0 is a miss, minus infinity one that tells nothing more.
Rooms = Callable[[Integers, Integers], Floats]


def above(load: int, close: float = CLOSE) -> int:
    """Return the least load that is tried above one that is carried."""
    return max(load + 1, int(close * load))


class LargestLoad:
    """The largest load of at most ``most`` that any of some ``ways`` carries, as far as is known.

    ``low`` is carried by all ``ways`` that are left (0: nothing is known to be), and ``high`` was
    tried and is too much for them. Ways that do not carry a load that others do are left out. Loads
    above ``low`` are sought from the start; of what carries less than ``least`` nothing is asked.
    """

    def __init__(
        self, rooms: Rooms, ways: Integers, most: int, *, low: int = 0, least: int = 1
    ) -> None:
        self.ways, self.low, self.high = ways, low, most + 1
        self._rooms, self._most, self._least = rooms, most, least
        self._at_low, self._at_high = (np.full(len(ways), -np.inf) for _ in range(2))

    def seek(self, first: Floats, close: float = CLOSE) -> None:
        """Try loads, the ``first`` ones first, until it is known to a factor of ``close``."""
        loads = self._inside(first)
        for _ in range(MOST_ROUNDS):
            if not len(loads):
                break
            self._learn(loads, self._rooms(self.ways, loads))
            loads = self._next_loads(close)

    def go_on_with(self, ways: Integers, close: float = CLOSE) -> None:
        """Go on with other ways, about as good as those that are left or better."""
        count, room = self._at_once(ways), self._at_low.max()
        first = self.low * np.array(UP)
        if self.low and self.high <= self._most:
            further = [self.high, UP[0] ** 2 * self.high]
            first = np.concatenate([self._between(count, close), further])
        self.ways, self.high = ways, self._most + 1
        self._at_low, self._at_high = (np.full(len(ways), each) for each in (room, -np.inf))
        self.seek(first, close)

    def _learn(self, loads: Integers, rooms: Floats) -> None:
        """Take in the rooms (ways, loads) of loads between ``low`` and ``high``."""
        carried = np.flatnonzero((rooms >= 0.0).any(axis=0))
        if not len(carried):
            self.high, self._at_high = int(loads[0]), rooms[:, 0]
            self._keep(self._near())
            return
        last = int(carried[-1])
        self.low, self._at_low = int(loads[last]), rooms[:, last]
        if last + 1 < len(loads):
            self.high, self._at_high = int(loads[last + 1]), rooms[:, last + 1]
        self._keep(np.flatnonzero(self._at_low >= 0.0))

    def _next_loads(self, close: float) -> Integers:
        """Return the loads to try next, ascending; none where enough is known."""
        if self.high <= max(above(self.low, close), self._least):
            return np.zeros(0, dtype=np.int64)
        if self.high - self.low <= MOST_LOADS + 1:
            return np.arange(self.low + 1, self.high)
        count = max(self._at_once(self.ways), 2)
        if self.high > self._most and self.low:
            return self._inside(self.low * np.array(UP[:count]))
        if not self.low:
            return self._inside(self.high * np.array(DOWN[-count:]))
        shares = self._shares()
        if np.isfinite(shares).any():
            self._keep(np.flatnonzero(shares >= shares.max() - NEARLY))
        return self._inside(self._between(self._at_once(self.ways), close))

    @staticmethod
    def _at_once(ways: Integers) -> int:
        """Return how many loads are tried at once of so many ways."""
        return int(np.clip(AT_ONCE // len(ways), 1, MOST_LOADS))

    def _shares(self) -> Floats:
        """Return where ways are taken to miss, from ``low`` (0) to ``high`` (1); -inf: unknown."""
        with np.errstate(invalid="ignore"):
            shares = self._at_low / (self._at_low - self._at_high)
        return np.where(np.isfinite(self._at_low + self._at_high), shares, -np.inf)

    def _inside(self, loads: Floats) -> Integers:
        """Return loads as whole numbers between ``low`` and ``high``, ascending."""
        whole = np.rint(loads).astype(np.int64)
        return np.unique(np.clip(whole, self.low + 1, self.high - 1))

    def _between(self, count: int, close: float) -> Floats:
        """Return so many loads around the one where the ways are taken to miss, or even ones."""
        width, share = math.log(self.high / self.low), float(self._shares().max())
        if not math.isfinite(share):
            return np.geomspace(self.low, self.high, count + 2)[1:-1]
        middle = math.log(self.low) + width * share
        step = max(width / (CLOSER * count), math.log(close) / 2)
        return np.asarray(np.exp(middle + step * (np.arange(count) - (count - 1) / 2)))

    def _near(self) -> Integers:
        """Return the ways that may still be the best where none carries the least load tried."""
        missed = -self._at_high
        if self.low or missed.min() >= NEAR:
            return np.arange(len(missed))
        return np.flatnonzero(missed <= FAR_TIMES * missed.min() + FAR_MORE)

    def _keep(self, rows: Integers) -> None:
        self.ways = self.ways[rows]
        self._at_low, self._at_high = self._at_low[rows], self._at_high[rows]
