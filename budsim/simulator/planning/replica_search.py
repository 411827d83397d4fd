"""How many replicas of each layout carry traffic whose requests are replayed one by one.

Means tell neither percentiles nor where a queue starts to grow, so that a search by means ends with
too many replicas or too few. More replicas of one layout never serve worse, as some may be left
idle. So the fewest that meet the targets are found by bisection, from the fewest that are stable:
they do not depend on how many more devices a cluster has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.genome import BUDGET, FRACTION, REPLICAS, SEQS, SearchSpace
from budsim.simulator.planning.plain_variants import (
    PlainRows,
    with_default_knobs,
    with_default_sequences,
    with_replicas,
    with_smaller_budget,
)
from budsim.simulator.planning.replica_groups import judge_rows

# Layouts, cheapest first, of which deployments of fewer and of more replicas are shown too.
WITH_NEIGHBOURS: Final = 6
# Replicas shown of these, relative to the place of the fewest that meet the targets.
NEIGHBOURS: Final = (-1, 0, 1, 3)

# Layouts, cheapest first, that are also tried with the knobs the search found.
OWN_KNOBS: Final = 3

# Smaller token budgets tried where gaps between tokens have a percentile target: a step of fewer
# prompt tokens ends sooner, and no token waits longer than a step.
SMALLER_BUDGETS: Final = 4

_KNOBS: Final = [SEQS, BUDGET, FRACTION]


def replayed_rows(
    space: SearchSpace, layouts: Integers, spare: Integers, predictor: Predictor
) -> PlainRows:
    """Return deployments of each layout around the fewest replicas that meet the targets.

    Parameters
    ----------
    space, predictor
        What may be chosen, and what predicts it.
    layouts : int array, shape (n, genes)
        One genome a layout; its number of replicas does not matter. Its own knobs and the engine's
        are tried, and the engine's kept where they need no more replicas. With a percentile target
        on gaps between tokens smaller token budgets are tried too.
    spare
        Genomes of further layouts, tried with the engine's knobs where no layout meets the targets.
    """
    trials = Trials(space, predictor)
    chosen, least = _with_best_knobs(trials, space, layouts)
    if len(spare) and not (least >= 0).any():
        others = trials.feasible(with_default_knobs(space, spare))
        chosen = np.concatenate([chosen, others])
        least = np.append(least, trials.fewest(others))
    genomes = _around(space, chosen, least, space.legal_counts(chosen))
    choices = with_default_sequences(space, space.decode(genomes))
    return PlainRows(genomes=genomes, choices=choices, evaluations=trials.evaluations)


def _with_best_knobs(
    trials: Trials, space: SearchSpace, layouts: Integers
) -> tuple[Integers, Integers]:
    """Return layouts with the knobs that need fewest replicas, and the gene of that number.

    It is -1 where none meets the targets.
    """
    usual = with_default_knobs(space, layouts)
    least, counts = trials.fewest(usual), space.legal_counts(usual)
    chosen = np.array(usual)
    # The knobs of the search are worth a replay where they may save the best deployment a replica.
    best = _cheapest(space, usual, least, counts)[:OWN_KNOBS]
    if space.scoring.question.targets.bound_gaps:
        for steps in range(1, SMALLER_BUDGETS + 1):
            smaller = with_smaller_budget(space, usual, steps)
            best = _cheapest(space, chosen, least, counts)[:OWN_KNOBS]
            tried = (least < 0) | np.isin(np.arange(len(usual)), best)
            rows = np.flatnonzero(tried & (smaller[:, BUDGET] != usual[:, BUDGET]))
            trials.adopt(smaller[rows], rows, chosen, least)
    differs = (usual[:, _KNOBS] != layouts[:, _KNOBS]).any(axis=1)
    own = np.flatnonzero(differs & (np.isin(np.arange(len(usual)), best) | (least < 0)))
    trials.adopt(layouts[own], own, chosen, least)
    return chosen, least


def more_replicas(space: SearchSpace, genomes: Integers, predictor: Predictor) -> PlainRows:
    """Return genomes with the fewest more replicas that meet the targets, where any number does.

    Of rows whose means met them by the closed form, and a replay does not.
    """
    trials = Trials(space, predictor)
    next_up = np.minimum(genomes[:, REPLICAS] + 1, space.legal_counts(genomes) - 1)
    least = trials.fewest_from(genomes, next_up)
    found = with_replicas(space, genomes[least >= 0], least[least >= 0])
    choices = with_default_sequences(space, space.decode(found))
    return PlainRows(genomes=found, choices=choices, evaluations=trials.evaluations)


def first_that_meets(
    counts: Integers, starts: Integers, meets: Callable[[Integers, Integers], Booleans]
) -> Integers:
    """Return for each row the first of its ``counts`` places that meets something; -1 for none.

    ``meets(rows, places)`` tells it for some rows at a place each, and stays true for later places.
    Places are tried from ``starts`` on, in steps of 1, 2, 4..., and then by bisection, so that the
    answer of a row with a longer list is the same. Counts of (8, 3), starts of (0, 0) and a test
    that is met from place 4 on give (4, -1).
    """
    low, high = starts - 1, np.asarray(counts).copy()
    found, step = np.zeros(len(counts), dtype=bool), np.ones(len(counts), dtype=np.int64)
    while len(rows := np.flatnonzero(high - low > 1)):
        middle = (low[rows] + high[rows]) // 2
        places = np.where(found[rows], middle, np.minimum(low[rows] + step[rows], high[rows] - 1))
        good = meets(rows, places)
        high[rows[good]], low[rows[~good]] = places[good], places[~good]
        found[rows[good]] = True
        step[rows[~good]] *= 2
    return np.where(found, high, -1)


class Trials:
    """Replays deployments and counts how many."""

    def __init__(self, space: SearchSpace, predictor: Predictor) -> None:
        self._space, self._predictor = space, predictor
        self.evaluations = 0

    def feasible(self, genomes: Integers) -> Integers:
        """Return the genomes that meet the targets with as many replicas as there is room for."""
        most = with_replicas(self._space, genomes, self._space.legal_counts(genomes) - 1)
        shortfall, _ = self.judged(most)
        return np.asarray(genomes[shortfall == 0.0])

    def fewest(self, genomes: Integers) -> Integers:
        """Return the gene of the fewest replicas that meet the targets; -1 where none do."""
        if not len(genomes):
            return np.zeros(0, dtype=np.int64)
        counts, stable = self._space.legal_counts(genomes), self._replicas_for_rate(genomes)
        starts = np.minimum(np.searchsorted(self._space.replicas, stable), counts - 1)
        return self.fewest_from(genomes, starts)

    def fewest_from(self, genomes: Integers, starts: Integers) -> Integers:
        """Return what `fewest` does, of no fewer replicas than those of the genes ``starts``."""

        def meets(rows: Integers, places: Integers) -> Booleans:
            """Return which rows meet the targets with the replicas of a place each."""
            shortfall, _ = self.judged(with_replicas(self._space, genomes[rows], places))
            return np.asarray(shortfall == 0.0)

        return first_that_meets(self._space.legal_counts(genomes), starts, meets)

    def adopt(self, tried: Integers, rows: Integers, chosen: Integers, least: Integers) -> None:
        """Put genomes in the place of ``rows`` of ``chosen`` where they need fewer replicas."""
        needed = self.fewest(tried)
        fewer = (needed >= 0) & ((least[rows] < 0) | (needed < least[rows]))
        chosen[rows[fewer]], least[rows[fewer]] = tried[fewer], needed[fewer]

    def _replicas_for_rate(self, genomes: Integers) -> Floats:
        """Return the replicas below which no queue of each row ends; 1 in a closed loop."""
        traffic = self._space.scoring.question.traffic
        if not traffic.is_open:
            return np.ones(len(genomes))
        first = with_replicas(self._space, genomes, np.zeros(len(genomes), dtype=np.int64))
        _, stable_rate = self.judged(first)
        return np.asarray(np.ceil(traffic.rate / np.maximum(stable_rate, 1e-9)))

    def judged(self, genomes: Integers) -> tuple[Floats, Floats]:
        """Return the shortfall of each row and the largest stable rate of one of its replicas."""
        space, choices = self._space, self._space.decode(genomes)
        choices = with_default_sequences(space, choices)
        rows = judge_rows(space.scoring, choices, self._predictor, np.ones(len(genomes)))
        self.evaluations += len(genomes)
        shortfall = np.where(space.scoring.violation(choices, rows.memory) > 0, np.inf, 1.0)
        shortfall = np.where(shortfall < np.inf, rows.judged.shortfall, np.inf)
        return shortfall, np.nan_to_num(rows.replayed.served.largest_stable_rate)


def _around(space: SearchSpace, genomes: Integers, least: Integers, counts: Integers) -> Integers:
    """Return genomes with the fewest replicas that meet the targets, or all there may be.

    The cheapest layouts also with one fewer and with more.
    """
    places = np.where(least >= 0, least, counts - 1)
    cheapest = _cheapest(space, genomes, least, counts)[:WITH_NEIGHBOURS]
    rows, at = list(range(len(genomes))), places.tolist()
    for row in cheapest.tolist():
        others = {int(np.clip(places[row] + step, 0, counts[row] - 1)) for step in NEIGHBOURS}
        others -= {int(places[row])}
        rows += [row] * len(others)
        at += sorted(others)
    return with_replicas(space, genomes[rows], np.array(at, dtype=np.int64))


def _cheapest(space: SearchSpace, genomes: Integers, least: Integers, counts: Integers) -> Integers:
    """Return the rows by the price of the fewest replicas that meet the targets.

    Last those that do not, with all replicas they may have.
    """
    places = np.where(least >= 0, least, counts - 1)
    chosen = space.decode(with_replicas(space, genomes, places))
    return np.lexsort((space.scoring.usd_per_h(chosen, chosen.devices), least < 0))
