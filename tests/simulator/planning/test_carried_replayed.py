"""What a cluster carries within percentiles is told by few replays."""

from dataclasses import replace

import pytest

from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer, carried_loads
from budsim.simulator.planning.carried import as_closed_loop, bounded, under
from budsim.simulator.planning.carried_replayed import _Trials
from budsim.simulator.planning.choices import make_option
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.hardware_groups import usable
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
def test_what_is_told_is_carried_and_a_twentieth_more_is_not(rate, limits_s):
    """Asked as a plain question, the load meets the targets, and 1.05 times as much does not."""
    question = asked(rate, **limits_s)
    told = carried_loads(question, PREDICTOR)
    assert told == sorted(told, reverse=True)
    assert meets(question, told[0])
    assert not meets(question, int(1.05 * told[0]) + 1)
    found = capacities(question, PREDICTOR)[0]
    carried = found.concurrency if rate is None else found.rate / 1e-4
    assert told[0] <= round(carried) <= 1.03 * told[0]


def test_replays_may_carry_far_more_than_means_say():
    """Bounds of a third of what is carried do not end the search for it."""
    question = asked(None, ttft_p99_s=0.5)
    found = question.clusters[0], as_closed_loop(question)
    group = usable(found[0], question.mode, skip_master_cpus=True).groups[0]
    option = make_option(question, group, serving_engines["vllm"], (Precision.BF16,))
    space = SearchSpace([option], found[1])
    genomes, most = bounded(space, PREDICTOR).genomes, carried_loads(question, PREDICTOR)[0]
    trials = _Trials(question, space, PREDICTOR)
    ends = [trials.by_equal_replicas(genomes, most // part) for part in (1, 3)]
    assert ends[1] == pytest.approx(ends[0], rel=0.03)


def test_nothing_is_told_where_nothing_is_carried():
    """No request sees its first token within a microsecond."""
    assert carried_loads(asked(None, ttft_p99_s=1e-6), PREDICTOR) == []
