"""What a cluster carries within percentiles is told by few replays."""

import math
from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer, carried_loads
from budsim.simulator.planning.carried import as_closed_loop, bounded, under
from budsim.simulator.planning.carried_replayed import _EqualReplicas, _largest, _Tried
from budsim.simulator.planning.choices import make_option
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.plain_variants import with_default_knobs
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.sizing import capacities
from budsim.simulator.planning.targets import PercentileTarget
from tests.simulator.situations import make_cluster, make_question

PREDICTOR = AnalyticPredictor()


def asked(rate: float | None, **limits_s: float) -> Question:
    """Return a question about two H100 with targets at percentiles, at a rate or a closed loop."""
    percentiles = tuple(PercentileTarget.named(name, each) for name, each in limits_s.items())
    question = make_question(
        make_cluster((("H100-SXM", 2),)),
        targets={"percentiles": percentiles},
        analytic_only=True,
        engines=frozenset({"vllm"}),
    )
    if rate is None:
        return question
    traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=512, output_tokens=128)
    return replace(question, traffic=traffic)


def meets(question: Question, load: int) -> bool:
    """Say whether the best plan under a load meets the targets."""
    plans = answer(under(question, load), PREDICTOR).plans
    return bool(plans) and plans[0].meets_targets


@pytest.mark.parametrize("rate", [None, 1.0])
@pytest.mark.parametrize("limits_s", [{"ttft_p99_s": 0.5}, {"ttft_p95_s": 1.0, "tpot_p99_s": 0.02}])
def test_what_is_told_is_carried_and_a_tenth_more_is_not(rate, limits_s):
    """Asked as a plain question, the load meets the targets, and 1.1 times as much does not."""
    question = asked(rate, **limits_s)
    told = carried_loads(question, PREDICTOR)
    assert told == sorted(told, reverse=True)
    assert meets(question, told[0])
    assert not meets(question, int(1.1 * told[0]) + 1)
    found = capacities(question, PREDICTOR)[0]
    carried = found.concurrency if rate is None else found.rate / 1e-4
    assert carried == pytest.approx(told[0])


def test_replays_may_carry_far_more_than_means_say():
    """Bounds of a third of what is carried do not end the search for it."""
    question = asked(None, ttft_p99_s=0.5)
    found = question.clusters[0], as_closed_loop(question)
    group = usable(found[0], question.mode, skip_master_cpus=True).groups[0]
    option = make_option(question, group, serving_engines["vllm"], (Precision.BF16,))
    space = SearchSpace([option], found[1])
    genomes = with_default_knobs(space, bounded(space, PREDICTOR).genomes)
    most, ends = carried_loads(question, PREDICTOR)[0], []
    for part in (1, 3):
        bounds = np.full(len(genomes), most // part)
        tried = _Tried(question, space, bounds, PREDICTOR)
        ends.append(_largest(tried.equal_replicas(genomes), 0, most // part))
    assert ends[1] == pytest.approx(ends[0], rel=0.02)


def test_nothing_is_told_where_nothing_is_carried():
    """No request sees its first token within a microsecond."""
    assert carried_loads(asked(None, ttft_p99_s=1e-6), PREDICTOR) == []


@pytest.mark.parametrize("most", [0, 1, 7, 93, 1_000, 250_000])
@pytest.mark.parametrize("first", [1, 90, 20_000, 400_000])
def test_the_largest_load_is_found_to_a_hundredth(most, first):
    """From any first load on, with at most 40 tries."""
    tried = []

    def miss(load: int) -> float:
        tried.append(load)
        return max(load / most - 1.0, 0.0) if most else math.inf

    found = _largest(miss, 0, first)
    assert found <= most <= max(1.01 * found, found)
    assert len(tried) <= 40


def test_larger_loads_are_tried_first():
    """What carries up to 150 is found between 100 and 200, and to 2 % when that is enough."""
    tried = []

    def miss(load: int) -> float:
        tried.append(load)
        return max(load / 150.0 - 1.0, 0.0)

    assert 147 <= _largest(miss, 100, 200, 1.02) <= 150
    assert tried[0] == 200
    assert len(tried) <= 6


def test_a_load_that_is_known_is_kept_where_no_other_is_carried():
    """Nothing above 100 is carried, by however little it misses."""
    assert _largest(lambda load: 1e-6, 100, 200) == 100
    assert _largest(lambda load: math.inf, 100, 200) == 100


def test_only_what_may_still_carry_a_load_is_replayed_again():
    """What misses by far more than the best is left out, and so is what others carry and it not."""
    most, replayed = np.array([100, 95, 70, 20]), []

    class Replays:
        """Misses of each way, a load's excess over the most it carries."""

        def misses(self, load, genomes):
            replayed.append(genomes.tolist())
            return np.maximum(load / most[genomes] - 1.0, 0.0)

    ways = _EqualReplicas(Replays(), np.arange(4), np.full(4, 1_000.0))
    misses = [ways(load) for load in (200, 110, 98, 99)]
    assert misses == pytest.approx([1.0, 0.1, 0.0, 0.0])
    assert replayed == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1], [0]]
    assert ways.first.tolist() == [0]
