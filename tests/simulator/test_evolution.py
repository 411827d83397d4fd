"""The search against exhaustive enumeration, on spaces of real models, devices and engines."""

from functools import cache

import numpy as np
import pytest

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.evolution import SearchSettings, search_steps
from budsim.simulator.search_result import Scores, SearchResult
from tests.benchmarks.spaces import (
    Truth,
    enumerate_space,
    questions,
    run_alone,
    search_remembered,
    space_of,
)

SEEDS = range(5)
ALWAYS_SEARCH = SearchSettings(enumerate_below=0)
SMALL = "8B, 8 L40S, quantized"
SPACES = ("32B, 8 A100", SMALL, "70B, H100 and Gaudi 3", "DeepSeek-V3, H200")


@cache
def truth_of(name: str) -> Truth:
    """Return a space of the benchmark looked at in full, by physics alone."""
    return enumerate_space(space_of(name), AnalyticPredictor())


@cache
def searched(name: str, seed: int) -> SearchResult:
    """Return what the genetic search finds in a space as a whole."""
    steps = search_steps(space_of(name), np.random.default_rng(seed), settings=ALWAYS_SEARCH)
    return run_alone(steps, truth_of(name).score)


@cache
def answered(name: str, seed: int) -> tuple[SearchResult, int]:
    """Return what an answer finds in a space, searched part by part.

    How many genomes it looks at.
    """
    return search_remembered(questions()[name], truth_of(name), seed)


@pytest.mark.parametrize("name", SPACES)
def test_the_search_finds_the_true_best(name):
    """L7.

    The search finds the true best (cost within 1 %) with at most a tenth of the evaluations,
    whatever the seed.
    """
    exact = truth_of(name).explored
    best = exact.objectives[exact.ranking()[0]]
    for seed in SEEDS:
        found, evaluations = answered(name, seed)
        miss, cost = found.objectives[found.ranking()[0]][:2]
        assert miss <= best[0] + 1e-9
        assert cost <= 1.01 * best[1]
        assert evaluations <= 0.1 * exact.evaluations


@pytest.mark.parametrize("name", SPACES)
def test_the_front_covers_nearly_all_of_the_true_front(name):
    """The hypervolume of the front found is within 2 % of the true front's."""
    truth = truth_of(name)
    assert min(truth.hypervolume_ratio(answered(name, seed)[0]) for seed in SEEDS) > 0.98


@pytest.mark.parametrize("seed", SEEDS)
def test_no_member_of_the_front_dominates_another(seed):
    """L6: no member of the front dominates another, nor does any other feasible genome seen."""
    found = searched(SMALL, seed)
    front, seen = found.objectives[found.front()], found.objectives[found.feasible]
    no_worse = (seen[:, None, :] <= front[None, :, :]).all(axis=2)
    better = (seen[:, None, :] < front[None, :, :]).any(axis=2)
    assert len(front) > 1
    assert not (no_worse & better).any()


def test_the_same_seed_looks_at_the_same_genomes():
    """L5: same space and seed, same genomes in the same order; another seed, others."""
    first, other = searched(SMALL, 3), searched(SMALL, 4)
    steps = search_steps(space_of(SMALL), np.random.default_rng(3), settings=ALWAYS_SEARCH)
    again = run_alone(steps, truth_of(SMALL).score)
    assert np.array_equal(first.genomes, again.genomes)
    assert np.array_equal(first.objectives, again.objectives)
    assert not np.array_equal(first.genomes, other.genomes)


def test_nothing_is_evaluated_twice():
    """Every genome evaluated is legal, and evaluated once."""
    found, space = searched(SPACES[2], 0), space_of(SPACES[2])
    assert len(np.unique(found.genomes, axis=0)) == found.evaluations
    assert np.array_equal(space.repair(found.genomes), found.genomes)


class Bowl:
    """A square of genomes.

    The cheapest is at the origin, and those whose digits sum to less than ``least`` are infeasible.
    """

    knobs = (0,)

    def __init__(self, side: int = 16, least: int = 6) -> None:
        self.sizes, self.count = (side, side), side * side
        self.least = least

    def repair(self, genomes):
        """All are legal."""
        return genomes

    def niches(self, genomes):
        """One niche."""
        return np.zeros(len(genomes), dtype=np.int64)

    def first_genomes(self, limit):
        """Begin with an infeasible one."""
        return np.zeros((1, 2), dtype=np.int64)

    def all_genomes(self, limit):
        """All, where allowed."""
        return (
            None if limit < self.count else np.array([(i, j) for i in range(16) for j in range(16)])
        )

    def score(self, genomes):
        """Cost grows with the digits' sum.

        Below ``least`` a genome is infeasible by what it lacks.
        """
        total = genomes.sum(axis=1).astype(np.float64)
        same = np.zeros(len(total))
        return Scores(
            objectives=np.stack([same, total, same, same], axis=1),
            violation=np.maximum(self.least - total, 0.0),
        )


def test_what_does_not_fit_never_wins():
    """However cheap, a genome that violates memory is behind every one that fits."""
    bowl = Bowl()
    settings = SearchSettings(share=0.5, enumerate_below=0)
    steps = search_steps(bowl, np.random.default_rng(0), settings=settings)
    found = run_alone(steps, bowl.score)
    assert found.objectives[found.ranking()[0], 1] == 6.0
    assert (found.violation[found.front()] == 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_of_what_does_not_fit_the_least_violating_survives(seed):
    """Where all but 28 of 4,096 genomes are infeasible.

    Following the least violation finds those that fit.
    """
    bowl = Bowl(side=64, least=120)
    steps = search_steps(bowl, np.random.default_rng(seed), settings=ALWAYS_SEARCH)
    found = run_alone(steps, bowl.score)
    assert found.feasible.any()
    assert found.evaluations < 400


def test_small_spaces_are_enumerated():
    """A space below the limit is looked at in full, whatever the seed."""
    bowl = Bowl()
    steps = search_steps(bowl, np.random.default_rng(0))
    assert run_alone(steps, bowl.score).evaluations == 256
