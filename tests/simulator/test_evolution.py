"""The search against exhaustive enumeration, on spaces of real models, devices and engines."""

from functools import cache

import numpy as np
import pytest

from budsim.engine_ops import serving_engines
from budsim.hardware_ops.cluster import HardwareMode
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.evolution import Explored, Scores, Settings, enumerate_all, explore, search
from budsim.simulator.offers import OfferSpace, make_offer, replica_steps
from budsim.simulator.placement import usable
from tests.simulator.situations import make_cluster, make_question

SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"
EIGHT = "meta-llama/Llama-3.1-8B-Instruct"
SEEDS = range(5)
SPACES = {
    "70B on H100 and Gaudi": (
        make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),), (("Gaudi3", 8),)),
        {"model": SEVENTY, "input_tokens": 1024, "output_tokens": 256, "concurrency": 64},
        {"ttft_s": 1.5, "tokens_per_s_per_user": 20.0, "e2e_s": 20.0},
    ),
    "8B on L40S, quantized": (
        make_cluster((("L40S", 4),)),
        {"model": EIGHT, "concurrency": 32, "may_quantize": True},
        {"ttft_s": 0.2, "tokens_per_s_per_user": 50.0},
    ),
    "8B on H100 and A100": (
        make_cluster((("H100-SXM", 8),), (("A100-SXM4-80GB", 8),)),
        {"model": EIGHT, "input_tokens": 2000, "output_tokens": 300, "concurrency": 200, "may_quantize": True},
        {"ttft_s": 0.5, "tokens_per_s_per_user": 60.0},
    ),
}


@cache
def space_of(name: str) -> OfferSpace:
    """Return every engine on every group of a space's devices."""
    cluster, changes, targets = SPACES[name]
    question = make_question(cluster, targets=targets, **changes)
    offers = []
    for group in usable(cluster, HardwareMode.DEDICATED, skip_master_cpus=True).groups:
        for engine in serving_engines.values():
            if engine.why_not(question.architecture, group.device) is None:
                weights = engine.precisions(question.architecture, group.device, may_quantize=question.may_quantize)
                offers.append(make_offer(question, group, engine, weights))
    return OfferSpace(offers, question)


def searched(name: str, seed: int) -> Explored:
    """Return what the genetic search finds in a space."""
    space = space_of(name)
    return search(space, lambda g: space.score(g, AnalyticPredictor()), np.random.default_rng(seed), settings=Settings())


@pytest.mark.parametrize("name", SPACES)
def test_the_search_finds_the_true_best(name):
    """L7: the search finds the true best (cost within 1 %) with at most a tenth of the evaluations, whatever the seed."""
    space = space_of(name)
    everything = space.legal(1_000_000)
    exact = enumerate_all(everything, lambda g: space.score(g, AnalyticPredictor()))
    best = exact.objectives[exact.ranking()[0]]
    assert len(everything) > 8_000
    for seed in SEEDS:
        found = searched(name, seed)
        miss, cost = found.objectives[found.ranking()[0]][:2]
        assert miss <= best[0] + 1e-9
        assert cost <= 1.01 * best[1]
        assert found.evaluations <= 0.1 * len(everything)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_member_of_the_front_dominates_another(seed):
    """L6: no member of the front dominates another, nor does any other feasible genome seen."""
    found = searched("8B on L40S, quantized", seed)
    front, seen = found.objectives[found.front()], found.objectives[found.feasible]
    no_worse = (seen[:, None, :] <= front[None, :, :]).all(axis=2)
    better = (seen[:, None, :] < front[None, :, :]).any(axis=2)
    assert len(front) > 1
    assert not (no_worse & better).any()


def test_the_same_seed_looks_at_the_same_genomes():
    """L5: same space and seed, same genomes in the same order; another seed, others."""
    first, again, other = (searched("8B on L40S, quantized", seed) for seed in (3, 3, 4))
    assert np.array_equal(first.genomes, again.genomes)
    assert np.array_equal(first.objectives, again.objectives)
    assert not np.array_equal(first.genomes, other.genomes)


def test_nothing_is_evaluated_twice():
    """Every genome evaluated is legal, and evaluated once."""
    found, space = searched("70B on H100 and Gaudi", 0), space_of("70B on H100 and Gaudi")
    assert len(np.unique(found.genomes, axis=0)) == found.evaluations
    assert np.array_equal(space.repair(found.genomes), found.genomes)


def test_all_legal_genomes_are_their_own_repair():
    """Repair leaves legal genomes as they are, and turns any other into a legal one."""
    space = space_of("8B on L40S, quantized")
    legal = space.legal(1_000_000)
    assert np.array_equal(space.repair(legal), legal)
    strange = space.repair(np.random.default_rng(0).integers(0, space.sizes, size=(500, len(space.sizes))))
    assert {tuple(row) for row in strange.tolist()} <= {tuple(row) for row in legal.tolist()}


class Bowl:
    """A square of genomes; the cheapest is at the origin, and those whose digits sum to less than ``least`` are infeasible."""

    linked = ((0, 1),)

    def __init__(self, side: int = 16, least: int = 6) -> None:
        self.sizes = (side, side)
        self.least = least

    def repair(self, genomes):
        """All are legal."""
        return genomes

    def classes(self, genomes):
        """One class."""
        return np.zeros(len(genomes), dtype=np.int64)

    def loosened(self, genome):
        """Nothing to loosen."""
        return genome

    def starts(self):
        """Begin with an infeasible one."""
        return np.zeros((1, 2), dtype=np.int64)

    def legal(self, limit):
        """All, where allowed."""
        return None if limit < 256 else np.array([(i, j) for i in range(16) for j in range(16)])

    def score(self, genomes):
        """Cost grows with the digits' sum; below ``least`` a genome is infeasible by what it lacks."""
        total = genomes.sum(axis=1).astype(np.float64)
        same = np.zeros(len(total))
        return Scores(objectives=np.stack([same, total, same, same], axis=1), violation=np.maximum(self.least - total, 0.0))


def test_what_does_not_fit_never_wins():
    """However cheap, a genome that violates memory is behind every one that fits."""
    bowl = Bowl()
    found = search(bowl, bowl.score, np.random.default_rng(0), settings=Settings(population=16))
    assert found.objectives[found.ranking()[0], 1] == 6.0
    assert (found.violation[found.front()] == 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_of_what_does_not_fit_the_least_violating_survives(seed):
    """Where all but 28 of 4,096 genomes are infeasible, following the least violation finds those that fit."""
    bowl = Bowl(side=64, least=120)
    alone = Settings(population=16, generations=25, patience=25, refinements=0)
    found = search(bowl, bowl.score, np.random.default_rng(seed), settings=alone)
    assert found.feasible.any()
    assert found.evaluations < 400


def test_small_spaces_are_enumerated():
    """A space below the limit is looked at in full, whatever the seed."""
    bowl = Bowl()
    assert explore(bowl, bowl.score, np.random.default_rng(0)).evaluations == 256


def test_replica_counts_that_change_nothing_are_not_tried():
    """Ten requests on up to eight replicas: 6, 7 and 8 replicas serve two each like 5 do."""
    assert replica_steps(10, 8) == [1, 2, 3, 4, 5]
    assert replica_steps(10, 20) == [1, 2, 3, 4, 5, 10]
    assert replica_steps(10, 0) == []
