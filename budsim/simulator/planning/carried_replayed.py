"""How much traffic all devices of a cluster carry, told by a few replays.

Means bound what a layout may carry. The layouts with the largest bounds are replayed, with as many
replicas as the devices hold, under the same load: those that meet the targets are replayed under a
larger one, until none is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from budsim.performance.candidates import Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.carried import (
    RATE_STEP,
    Ways,
    bounded,
    sums_of_groups,
    under,
)
from budsim.simulator.planning.genome import BUDGET, FRACTION, REPLICAS, SEQS, SearchSpace
from budsim.simulator.planning.load_curves import LoadModel
from budsim.simulator.planning.mixed_deployments import find_mixed_deployments
from budsim.simulator.planning.plain_variants import plain_mixes, with_default_knobs
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replica_groups import judge_rows
from budsim.simulator.planning.replica_search import SMALLER_BUDGETS, Trials
from budsim.simulator.search_result import SearchResult

# All replicas of a layout may carry so much more than means say.
SLACK: Final = 1.25
# Share of the largest bound that is tried first; where that is too much, the next load is smaller
# by STEP_DOWN, then by its square; where it is not, larger by STEP_UP, then by its square.
FIRST_SHARE: Final = 0.9
STEP_DOWN: Final = 0.8
STEP_UP: Final = 1.02
# Loads are in the end 1 % or 1 apart; 2 % where mixes are made for each of them.
CLOSE: Final = 1.01
CLOSE_MIX: Final = 1.02
# Other knobs than the engine's own have to carry 2 % more.
WORTH: Final = 1.02
# Loads for which mixes are made first, between what equal replicas carry (0) and a guess (1).
MIX_SHARES: Final = (0.98, 0.8, 0.4)


def loads_replayed(
    question: Question, space: SearchSpace, found: Callable[[], Integers], predictor: Predictor
) -> list[int]:
    """Return loads of the question that replays let its cluster carry, the largest first.

    By unlike replicas together where that is more, by equal ones, by these with 1 % room, and with
    the engine's own knobs. Empty where nothing is carried.

    Parameters
    ----------
    question
        Its own load does not matter.
    space
        What may be chosen, of the question as a closed loop (`as_closed_loop`).
    found
        Returns genomes of which unlike replicas are made; called where these may carry more.
    """
    ways = bounded(space, predictor)
    if not len(ways.group):
        return []
    bounds = _bounds(question, space, ways, predictor)
    tried = _Tried(question, space, bounds, predictor)
    usual = with_default_knobs(space, ways.genomes)
    plain = _largest(tried.equal_replicas(usual), 0, int(FIRST_SHARE * bounds.max()))
    others = tried.equal_replicas(_other_knobs(question, ways.genomes, usual))
    more = above(plain, WORTH)
    most = mixed = _largest(others, more, above(more)) if others(more) else plain
    together = max(sums_of_groups(space, ways, bounds), default=0)
    # All types are taken to carry the share of their bounds that the best one does.
    together = int(together * most / bounds.max())
    if together > above(most):
        mixed = _largest_mix(tried.mixes(found()), most, together)
    return sorted({mixed, most, int(most / CLOSE), plain} - {0}, reverse=True)


def above(load: int, close: float = CLOSE) -> int:
    """Return the least load that is tried above one that is carried."""
    return max(load + 1, int(close * load))


def _largest_mix(carries: Callable[[int], bool], low: int, guess: int) -> int:
    """Return the largest load that mixes are found to carry, or ``low``.

    They are made by means, so that they may keep to percentiles at one load and not at a smaller
    one: the larger loads are tried first.
    """
    high: float = math.inf
    for share in MIX_SHARES:
        load = round(low ** (1.0 - share) * guess**share)
        if carries(load):
            following = int(STEP_UP * load) if high == math.inf else math.isqrt(load * int(high))
            return _largest(carries, load, following, high, CLOSE_MIX)
        high = load
    return low


def _largest(
    carries: Callable[[int], bool],
    low: int,
    first: int,
    high: float = math.inf,
    close: float = CLOSE,
) -> int:
    """Return the largest load below ``high`` that is carried, where ``low`` is.

    The ``first`` is tried first, others ever further apart until one is carried and one is not.
    """
    asked, down, up = max(first, 1), STEP_DOWN, STEP_UP
    while above(low, close) < high:
        if carries(asked):
            low, following = asked, int(up * asked)
            up *= up
        else:
            high, following = asked, int(down * asked)
            down *= down
        if low and high < math.inf:
            following = math.isqrt(low * int(high))
        asked = int(min(max(following, low + 1), high - 1))
    return low


@dataclass(frozen=True, slots=True)
class _Tried:
    """Deployments under loads of a question.

    ``bounds`` are the loads that means let all replicas of each way carry.
    """

    question: Question
    space: SearchSpace
    bounds: Integers
    predictor: Predictor

    def equal_replicas(self, genomes: Integers) -> Callable[[int], bool]:
        """Return what tells whether any of the genomes, for all ways in turn, carries a load.

        With as many replicas as there is room for. What does not carry a load that others do is
        not tried again.
        """
        bounds = SLACK * np.tile(self.bounds, len(genomes) // len(self.bounds))

        def carries(load: int) -> bool:
            """Say whether any that may still carry a load does, and keep those."""
            nonlocal bounds, genomes
            rows = np.flatnonzero(bounds >= load)
            able = rows[self._meet(load, genomes[rows])] if len(rows) else rows
            if len(able):
                bounds, genomes = bounds[able], genomes[able]
            return len(able) > 0

        return carries

    def _meet(self, load: int, genomes: Integers) -> Integers:
        """Return the genomes that meet the targets with as many replicas as there is room for."""
        space = self._space_at(load)
        genomes = self._with_all_replicas(space, genomes)
        distinct, place = np.unique(genomes, axis=0, return_inverse=True)
        shortfall, _ = Trials(space, self.predictor).judged(distinct)
        return np.flatnonzero(shortfall[place.ravel()] == 0.0)

    def mixes(self, genomes: Integers) -> Callable[[int], bool]:
        """Return what tells whether unlike replicas of some genomes carry a load together."""

        def carries(load: int) -> bool:
            """Make the mixes that a search would, and replay them."""
            space = self._space_at(load)
            question, tried = space.scoring.question, self._with_all_replicas(space, genomes)
            tried = np.unique(tried, axis=0)
            scores = space.score(tried, self.predictor)
            found = SearchResult(
                genomes=tried, objectives=scores.objectives, violation=scores.violation
            )
            mixed = find_mixed_deployments(question, space, found, self.predictor)
            if mixed is None or not mixed.members:
                return False
            choices, shares = plain_mixes(space, mixed, self.predictor)
            judged = judge_rows(space.scoring, choices, self.predictor, shares).judged
            return any((judged.shortfall[list(rows)] == 0.0).all() for rows in mixed.members)

        return carries

    @staticmethod
    def _with_all_replicas(space: SearchSpace, genomes: Integers) -> Integers:
        """Return genomes with as many replicas as there is room for, and room for bursts."""
        changed = genomes.copy()
        changed[:, REPLICAS] = space.legal_counts(genomes) - 1
        changed[:, SEQS] = space.sizes[SEQS] - 1
        return space.repair(changed)

    def _space_at(self, load: int) -> SearchSpace:
        return SearchSpace(self.space.options, under(self.question, load))


def _bounds(question: Question, space: SearchSpace, ways: Ways, predictor: Predictor) -> Integers:
    """Return the load that means let all replicas of each way carry."""
    if not question.traffic.is_open:
        return ways.high * ways.most
    model = LoadModel(space.scoring.question, space.scoring, predictor)
    service, _ = model.serve(ways.choices, ways.high[:, None])
    rates = ways.most * ways.high / service.e2e_s
    return np.ceil(rates / RATE_STEP).astype(np.int64)


def _other_knobs(question: Question, genomes: Integers, usual: Integers) -> Integers:
    """Return genomes with the knobs the search found, and with the engine's own but less budget.

    Smaller budgets keep gaps between tokens short; see `replica_search`.
    """
    own = usual.copy()
    own[:, [BUDGET, FRACTION]] = genomes[:, [BUDGET, FRACTION]]
    found = [own]
    for steps in range(1, SMALLER_BUDGETS + 1) if question.targets.bound_gaps else ():
        smaller = usual.copy()
        smaller[:, BUDGET] = np.maximum(smaller[:, BUDGET] - steps, 0)
        found.append(smaller)
    return np.concatenate(found)
