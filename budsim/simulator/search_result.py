"""What a search evaluated, and which of it is best."""

from __future__ import annotations

from dataclasses import dataclass

import moocore  # type: ignore[import-untyped]
import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers

OBJECTIVES = ("target miss", "cost per million output tokens", "devices", "latency over target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Objectives of genomes, shape (n, 4), in the order of `OBJECTIVES` (less is better).

    ``violation`` > 0 is infeasible.
    """

    objectives: Floats
    violation: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Every genome that was evaluated, once each, in the order of evaluation."""

    genomes: Integers
    objectives: Floats
    violation: Floats

    @property
    def evaluations(self) -> int:
        """Number of distinct genomes evaluated."""
        return len(self.violation)

    @property
    def feasible(self) -> Booleans:
        """Which rows are feasible."""
        return np.asarray(self.violation <= 0.0)

    def front(self) -> Integers:
        """Return the feasible rows that no feasible row dominates, ascending.

        Of equal rows the first.
        """
        rows = np.flatnonzero(self.feasible)
        if not len(rows):
            return rows
        kept: Booleans = moocore.is_nondominated(self.objectives[rows])
        return np.asarray(rows[kept])

    def knee(self) -> int | None:
        """Return the row of the front that is the best compromise; None without a front.

        Only rows that miss the targets least are compared; see `best_compromise`.
        """
        rows = self.front()
        if not len(rows):
            return None
        rows = rows[self.objectives[rows, 0] == self.objectives[rows, 0].min()]
        return int(rows[best_compromise(self.objectives[rows])])

    def ranking(self) -> Integers:
        """Return all rows best first.

        Feasible, then least target miss, cheapest, fewest devices, fastest, and least genes.
        """
        return best_first(self.objectives, self.violation, self.genomes)


def best_compromise(figures: Floats) -> int:
    """Return the row of ``figures`` (n, objectives), less is better, that is the best compromise.

    Each figure is scaled from the best (0) to the worst (1); the row of the least sum lies farthest
    below the plane through the extremes (Das, On characterizing the "knee" of the Pareto curve,
    1999).
    """
    above, span = figures - figures.min(axis=0), np.ptp(figures, axis=0)
    return int(np.argmin((above / np.maximum(span, 1e-12)).sum(axis=1)))


def first_of_each(rows: Integers | Floats) -> Integers:
    """Return the place of the first of each distinct row (or value), ascending.

    (3, 1, 3, 2, 1) gives (0, 1, 3).
    """
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])


def best_first(objectives: Floats, violation: Floats, genomes: Integers) -> Integers:
    """Return all rows best first; see `SearchResult.ranking`."""
    order: Integers = np.lexsort(
        (*genomes.T[::-1], *objectives.T[::-1], np.maximum(violation, 0.0))
    )
    return order
