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

from budsim.performance.candidates import Floats, Integers
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

# All replicas of a layout may carry so much more than means say: an 8B model on 16 H100 carries 1.7
# times as much within 0.5 s to the first token.
SLACK: Final = 2.0
# Share of the largest bound, or of what mixes may carry, that is tried first. Where that is too
# much, the next load is smaller by as much as the targets are missed by, at most by MOST_DOWN;
# where it is not, larger by STEP_UP, and then by its square.
FIRST_SHARE: Final = 0.95
MOST_DOWN: Final = 1.5
STEP_UP: Final = 1.02
# Loads are in the end 1 % or 1 apart; 2 % where mixes are made for each of them.
CLOSE: Final = 1.01
CLOSE_MIX: Final = 1.02
# Most loads that may be too much before one is carried, and of those that mixes are made for.
MOST_MISSES: Final = 40
MIX_MISSES: Final = 3
# Where none carries a load, replicas that miss by more than twice as much as the best, and by 5 %
# more, are not tried again: they carry less. Misses of half and more tell of queues, not of that.
FAR_TIMES: Final = 2.0
FAR_MORE: Final = 0.05
NEAR: Final = 0.5
# Other knobs than the engine's own have to carry 2 % more.
WORTH: Final = 1.02
# Tells by what part the best deployments miss the targets under a load; 0: it is carried.
Miss = Callable[[int], float]


def loads_replayed(question: Question, space: SearchSpace, predictor: Predictor) -> list[int]:
    """Return loads of the question that replays let its cluster carry, the largest first.

    By unlike replicas together where that is more, by equal ones, by these with 1 % room, and with
    the engine's own knobs. Empty where nothing is carried.

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
    tried = _Tried(question, space, bounds, predictor)
    usual = with_default_knobs(space, ways.genomes)
    plainly = tried.equal_replicas(usual)
    plain = _largest(plainly, 0, int(FIRST_SHARE * bounds.max()))
    best = plainly.first
    others = tried.equal_replicas(_other_knobs(question, ways.genomes[best], usual[best]), best)
    more = above(plain, WORTH)
    most = mixed = _largest(others, more, above(more)) if others(more) <= 0.0 else plain
    together = max(sums_of_groups(space, ways, bounds), default=0)
    # All types are taken to carry the share of their bounds that the best one does.
    together = int(together * most / bounds.max())
    if together > above(most, WORTH):
        first = int(FIRST_SHARE * together)
        types = np.concatenate([usual, _other_knobs(question, ways.genomes, usual)])
        mixed = _largest(tried.mixes(types), most, max(first, above(most)), CLOSE_MIX, MIX_MISSES)
    loads, less = {mixed, most, plain}, int(most / CLOSE)
    # Where other knobs barely carry more than the engine's own, nothing between is worth asking.
    if not plain < less <= more:
        loads.add(less)
    return sorted(loads - {0}, reverse=True)


def above(load: int, close: float = CLOSE) -> int:
    """Return the least load that is tried above one that is carried."""
    return max(load + 1, int(close * load))


def _largest(
    miss: Miss, low: int, first: int, close: float = CLOSE, misses: int = MOST_MISSES
) -> int:
    """Return the largest load that is carried, where ``low`` is, to a factor of ``close``.

    The ``first`` is tried first, and it is given up where so many ``misses`` come before one that
    is carried. Larger loads are ever further apart until one is too much; by how much it misses the
    targets tells how much smaller the next one is, at most by half of the way to what is carried,
    and by two thirds of the way to the ``low`` that was given.
    """
    known, high, asked, up, down = low, math.inf, max(first, 1), STEP_UP, CLOSE
    while above(low, close) < high and (misses > 0 or low > known):
        missed = miss(asked)
        if missed <= 0.0:
            low = asked
            following = int(up * low) if high == math.inf else math.isqrt(low * int(high))
            up *= up
        else:
            high, misses = asked, misses - 1
            smaller = int(asked / max(min(1.0 + missed, MOST_DOWN), down))
            nearer = 2 / 3 if low == known else 1 / 2
            following = max(smaller, int(asked * (low / asked) ** nearer))
            down *= down
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

    def equal_replicas(self, genomes: Integers, ways: Integers | None = None) -> _EqualReplicas:
        """Return what tells how any of the genomes, for some or all ways in turn, misses.

        With as many replicas as there is room for.
        """
        bounds = self.bounds if ways is None else self.bounds[ways]
        repeated = np.tile(bounds, len(genomes) // len(bounds)).astype(np.float64)
        return _EqualReplicas(self, genomes, SLACK * repeated)

    def misses(self, load: int, genomes: Integers) -> Floats:
        """Return by how much each genome misses, with as many replicas as there is room for."""
        space = self._space_at(load)
        genomes = self._with_all_replicas(space, genomes)
        distinct, place = np.unique(genomes, axis=0, return_inverse=True)
        shortfall, _ = Trials(space, self.predictor).judged(distinct)
        return np.asarray(shortfall[place.ravel()])

    def mixes(self, genomes: Integers) -> Miss:
        """Return what tells how unlike replicas of some genomes together miss under a load."""

        def miss(load: int) -> float:
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
                return math.inf
            choices, shares = plain_mixes(space, mixed, self.predictor)
            judged = judge_rows(space.scoring, choices, self.predictor, shares).judged
            return min(float(judged.shortfall[list(rows)].max()) for rows in mixed.members)

        return miss

    @staticmethod
    def _with_all_replicas(space: SearchSpace, genomes: Integers) -> Integers:
        """Return genomes with as many replicas as there is room for, and room for bursts."""
        changed = genomes.copy()
        changed[:, REPLICAS] = space.legal_counts(genomes) - 1
        changed[:, SEQS] = space.sizes[SEQS] - 1
        return space.repair(changed)

    def _space_at(self, load: int) -> SearchSpace:
        return SearchSpace(self.space.options, under(self.question, load))


class _EqualReplicas:
    """Tells how the best of some genomes misses under a load.

    What does not carry a load that others do, or misses by far more, is not tried again. ``first``
    are the rows of the genomes that carried the first load that any did; all where none did.
    """

    def __init__(self, tried: _Tried, genomes: Integers, bounds: Floats) -> None:
        self._tried, self._genomes, self._bounds = tried, genomes, bounds
        self._some_do = False
        self.first: Integers = np.arange(len(genomes))

    def __call__(self, load: int) -> float:
        """Replay those that may still carry a load, and keep those that do."""
        rows = np.flatnonzero(self._bounds >= load)
        if not len(rows):
            return math.inf
        misses = self._tried.misses(load, self._genomes[rows])
        least = float(misses.min())
        if least > 0.0:
            if least < NEAR:
                self._bounds[rows[misses > FAR_TIMES * least + FAR_MORE]] = 0.0
            return least
        able = rows[misses <= 0.0]
        if not self._some_do:
            self._some_do, self.first = True, able
        # What a replay has shown is not bounded by means any more.
        self._bounds[:] = 0.0
        self._bounds[able] = np.inf
        return least


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
