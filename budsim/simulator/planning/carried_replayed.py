"""How much traffic all devices of a cluster carry, told by a few replays.

Means bound what a layout may carry. The layouts with the largest bounds are replayed, with as many
replicas as the devices hold, under several loads at once; see `largest_load`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from budsim.performance.candidates import Floats, Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.carried import (
    RATE_STEP,
    Ways,
    bounded,
    most_load,
    numbered,
    sums_of_groups,
    under,
)
from budsim.simulator.planning.genome import REPLICAS, SEQS, SearchSpace
from budsim.simulator.planning.largest_load import LargestLoad, Rooms, above
from budsim.simulator.planning.load_curves import LoadModel
from budsim.simulator.planning.mixed_deployments import find_mixed_deployments
from budsim.simulator.planning.plain_variants import (
    plain_mixes,
    with_default_knobs,
    with_default_sequences,
    with_smaller_budget,
)
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replica_groups import AskedRows, judge_loads, judge_rows, room_left
from budsim.simulator.planning.replica_search import SMALLER_BUDGETS
from budsim.simulator.search_result import SearchResult, first_of_each

# Layouts replayed: those of the largest bounds. As bounds say little of percentiles, where there
# are any also the best of each engine, group and TP. None with a small part of the largest bound.
LAYOUTS: Final = 3
MOST_LAYOUTS: Final = 12
LEAST_BOUND: Final = 0.1
# Layouts that carry most, to a factor of ROUGH, which are tried with all smaller token budgets.
OTHER_BUDGETS: Final = 3
ROUGH: Final = 1.25
# Loads tried first, relative to the largest bound: means are nearly what replays find, percentiles
# may be far less.
FIRST_OF_MEANS: Final = (0.87, 1.03)
FIRST_OF_REPLAYS: Final = (0.3, 0.75)
# Shares of what mixes may carry that are tried; the first has to be carried. Mixes are made of so
# many ways of each group.
SHARES_TRIED: Final = (0.75, 1.0, 0.87)
MIXED_WAYS: Final = 6
# Unlike replicas have to carry 5 % more than equal ones.
WORTH: Final = 1.05
# Loads are told to 2 %: so much is left to what a search finds, which the plan itself then tells.
CLOSE: Final = 1.02


def loads_replayed(question: Question, space: SearchSpace, predictor: Predictor) -> list[int]:
    """Return loads of the question that replays let its cluster carry, the largest first.

    By unlike replicas together where that is more, and by equal ones. Empty where nothing is
    carried.

    Parameters
    ----------
    question
        Its own load does not matter.
    space
        What may be chosen, of the question as a closed loop (`as_closed_loop`).
    """
    ways = bounded(space, predictor)
    if not len(ways.group):
        return []
    bounds = _bounds(question, space, ways, predictor)
    trials = _Trials(question, space, predictor)
    equal = trials.by_equal_replicas(
        ways.genomes[_worth_replaying(question, ways, bounds)], bounds.max()
    )
    # All types are taken to carry the share of their bounds that the best one does.
    together = int(max(sums_of_groups(space, ways, bounds)) * equal / bounds.max())
    types = ways.genomes[_best_of_groups(ways, bounds)]
    mixed = trials.by_mixes(types, equal, together) if equal else 0
    return sorted({equal, mixed} - {0}, reverse=True)


@dataclass(frozen=True, slots=True)
class _Trials:
    """Deployments under loads of a question.

    ``spaces`` are those of the loads that were tried.
    """

    question: Question
    space: SearchSpace
    predictor: Predictor
    spaces: dict[int, SearchSpace] = field(default_factory=dict)

    def by_equal_replicas(self, genomes: Integers, bound: int) -> int:
        """Return the largest load that one of some layouts carries, best bounds first.

        With as many replicas as there is room for. No mean lets one carry more than ``bound``.
        """
        usual, targets = with_default_knobs(self.space, genomes), self.question.targets
        if targets.bound_gaps:
            return self._with_budgets(usual, bound * np.array(FIRST_OF_REPLAYS))
        found = self._search(usual, np.arange(len(usual)))
        parts = FIRST_OF_REPLAYS if targets.need_replay else FIRST_OF_MEANS
        found.seek(bound * np.array(parts), CLOSE)
        return found.low

    def _with_budgets(self, usual: Integers, first: Floats) -> int:
        """Return the largest load that layouts carry with smaller token budgets, or the usual ones.

        A smaller budget may be what keeps gaps between tokens short; see `replica_search`. Layout i
        of n has rows i, n + i, 2 n + i.
        """
        steps = range(1, SMALLER_BUDGETS + 1)
        smaller = [with_smaller_budget(self.space, usual, step) for step in steps]
        tried, count = np.concatenate([usual, *smaller]), len(usual)
        found = self._search(tried, _rows(count, [0, SMALLER_BUDGETS // 2], np.arange(count)))
        found.seek(first, ROUGH)
        best = np.unique(found.ways % count)[:OTHER_BUDGETS]
        every = _rows(count, range(SMALLER_BUDGETS + 1), best)
        found.go_on_with(_first_alike(tried, every), CLOSE)
        return found.low

    def _search(self, genomes: Integers, rows: Integers) -> LargestLoad:
        """Return the search for the largest load that one of some rows of genomes carries."""
        rooms, most = self._rooms(genomes), most_load(self.question)
        return LargestLoad(rooms, _first_alike(genomes, rows), most)

    def _rooms(self, genomes: Integers) -> Rooms:
        """Return what replays some of the genomes under each of some loads."""

        def rooms(rows: Integers, loads: Integers) -> Floats:
            """Return how far rows are within the targets under loads."""
            asked = [self._asked(int(load), genomes[rows]) for load in loads]
            judged = judge_loads(asked, self.predictor)
            fits = asked[0].scoring.violation(judged.choices, judged.memory) <= 0.0
            room = np.where(fits, room_left(self.question, judged), -np.inf)
            return np.asarray(room.reshape(len(loads), len(rows)).T)

        return rooms

    def by_mixes(self, genomes: Integers, equal: int, together: int) -> int:
        """Return the largest load that unlike replicas carry in a few tries, or ``equal``.

        ``together`` is what they may carry; equal ones carry ``equal``.
        """
        low, high = equal, together + 1
        for share in SHARES_TRIED:
            asked = max(int(share * together), above(equal, WORTH))
            if not low < asked < high:
                continue
            if self._missed_by_mixes(asked, genomes) <= 0.0:
                low = asked
            elif low == equal:
                break
            else:
                high = asked
        return low

    def _missed_by_mixes(self, load: int, genomes: Integers) -> float:
        """Return by what part mixes of genomes miss the targets, made and replayed as in a search.

        They may have the knobs that suit means, or the engine's own.
        """
        space = self._space_at(load)
        types = np.concatenate([genomes, with_default_knobs(self.space, genomes)])
        tried = np.unique(_with_all_replicas(space, types), axis=0)
        scores = space.score(tried, self.predictor)
        found = SearchResult(
            genomes=tried, objectives=scores.objectives, violation=scores.violation
        )
        mixed = find_mixed_deployments(space.scoring.question, space, found, self.predictor)
        if mixed is None or not mixed.members:
            return math.inf
        choices, shares = plain_mixes(space, mixed, self.predictor)
        judged = judge_rows(space.scoring, choices, self.predictor, shares).judged
        return min(float(judged.shortfall[list(rows)].max()) for rows in mixed.members)

    def _asked(self, load: int, genomes: Integers) -> AskedRows:
        """Return genomes with all replicas there is room for under a load."""
        space = self._space_at(load)
        choices = space.decode(_with_all_replicas(space, genomes))
        choices = with_default_sequences(space, choices)
        return AskedRows(scoring=space.scoring, choices=choices, shares=np.ones(len(genomes)))

    def _space_at(self, load: int) -> SearchSpace:
        if load not in self.spaces:
            self.spaces[load] = self.space.under(under(self.question, load))
        return self.spaces[load]


def _with_all_replicas(space: SearchSpace, genomes: Integers) -> Integers:
    """Return genomes with as many replicas as there is room for, and room for bursts."""
    changed = genomes.copy()
    changed[:, REPLICAS] = space.legal_counts(genomes) - 1
    changed[:, SEQS] = space.sizes[SEQS] - 1
    return np.asarray(space.repair(changed))


def _best_of_groups(ways: Ways, bounds: Integers) -> Integers:
    """Return the rows of the largest bounds of each group, `MIXED_WAYS` at most."""
    order = np.argsort(-bounds, kind="stable")
    groups = (order[ways.group[order] == group] for group in np.unique(ways.group))
    return np.concatenate([rows[:MIXED_WAYS] for rows in groups])


def _rows(count: int, knobs: Sequence[int], layouts: Integers) -> Integers:
    """Return the rows of some of ``count`` layouts with some knobs: layouts follow knobs."""
    return np.asarray((count * np.asarray(knobs)[:, None] + layouts).ravel())


def _first_alike(genomes: Integers, rows: Integers) -> Integers:
    """Return some rows without those of a genome that an earlier one has."""
    return np.asarray(rows[first_of_each(genomes[rows])])


def _worth_replaying(question: Question, ways: Ways, bounds: Integers) -> Integers:
    """Return the rows to replay, largest bounds first."""
    order = np.argsort(-bounds, kind="stable")
    order = order[bounds[order] >= LEAST_BOUND * bounds.max()]
    best = np.arange(min(LAYOUTS, len(order)))
    if question.targets.need_replay:
        layouts = numbered(ways.choices.option[order], ways.choices.tp[order])
        best = np.union1d(best, first_of_each(layouts))[:MOST_LAYOUTS]
    return np.asarray(order[best])


def _bounds(question: Question, space: SearchSpace, ways: Ways, predictor: Predictor) -> Integers:
    """Return the load that means let all replicas of each way carry."""
    if not question.traffic.is_open:
        return ways.high * ways.most
    model = LoadModel(space.scoring.question, space.scoring, predictor)
    service, _ = model.serve(ways.choices, ways.high[:, None])
    rates = ways.most * ways.high / service.e2e_s
    return np.ceil(rates / RATE_STEP).astype(np.int64)
