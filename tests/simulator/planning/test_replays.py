"""Answers whose traffic comes at a rate, or whose targets bound single requests.

They come from a replay.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.recorded import Trace
from budsim.performance.traffic import OpenLoop, Process, Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import PercentileTarget, Targets
from tests.simulator.situations import make_cluster, make_question

EIGHT = make_cluster((("H100-SXM", 8),))


def at_rate(rate: float, targets: Targets, process: Process = Process.POISSON) -> Question:
    """Return a question about requests of 512 + 128 tokens that come at a rate."""
    traffic = Traffic.at_rate(
        requests_per_s=rate, input_tokens=512, output_tokens=128, process=process
    )
    question = make_question(EIGHT, analytic_only=True, engines=frozenset({"vllm"}))
    return replace(question, traffic=traffic, targets=targets)


@cache
def asked(rate: float, ttft_p99_s: float | None = None, ttft_s: float | None = None) -> Outcome:
    """Return the answer for a Poisson rate and a target on TTFT."""
    percentiles = (PercentileTarget.named("ttft_p99_s", ttft_p99_s),) if ttft_p99_s else ()
    targets = Targets(ttft_s=ttft_s, tokens_per_s_per_user=20.0, percentiles=percentiles)
    return answer(at_rate(rate, targets), AnalyticPredictor())


def test_requests_in_flight_are_what_the_targets_allow():
    """3 requests/s that may take 20 s each are at most 60 in flight (Little's law)."""
    question = at_rate(3.0, Targets(e2e_s=20.0, tokens_per_s_per_user=1.0))
    assert question.longest_e2e_s == pytest.approx(20.0)
    assert question.concurrency == 60


def test_plans_of_a_rate_carry_it_and_tell_percentiles():
    """Every plan finishes what comes, below its largest stable rate.

    Its percentiles are ordered.
    """
    plans = asked(12.0, ttft_s=1.0).plans
    assert plans[0].meets_targets
    for plan in plans:
        seen = plan.groups[0].replayed
        assert plan.requests_per_s == pytest.approx(12.0, rel=0.1)
        assert 0.0 < seen.margin < 1.0
        assert seen.ttft_s.p50 <= seen.ttft_s.p90 <= seen.ttft_s.p99
        assert plan.ttft_s == seen.ttft_s.mean


def test_a_percentile_target_is_met_by_the_percentile():
    """The best plan for a p99 of TTFT has that p99; a tighter one is no cheaper."""
    loose, tight = asked(40.0, ttft_p99_s=2.0).plans[0], asked(40.0, ttft_p99_s=0.15).plans[0]
    assert loose.groups[0].replayed.ttft_s.p99 <= 2.0
    assert tight.groups[0].replayed.ttft_s.p99 <= 0.15
    assert tight.cost_usd_per_h >= loose.cost_usd_per_h
    assert set(tight.groups[0].explanation.headroom) == {"tokens_per_s_per_user", "ttft_p99_s"}


def test_a_rate_beyond_capacity_is_unstable_in_words():
    """100,000 requests/s on eight H100: no plan has figures, and a reason says what they carry."""
    outcome = asked(100_000.0, ttft_s=1.0)
    assert not outcome.plans
    assert any(
        "unstable" in each.reason and "carries" in each.reason for each in outcome.rejections
    )


def test_goodput_asks_for_a_share_of_the_requests():
    """At least 95 % of the requests of the best plan are within both limits."""
    targets = Targets(ttft_s=0.3, tokens_per_s_per_user=30.0, goodput=0.95)
    best = answer(at_rate(20.0, targets), AnalyticPredictor()).plans[0]
    assert best.meets_targets
    assert best.groups[0].replayed.good_share >= 0.95


def test_the_same_seed_replays_the_same_requests():
    """L5 for replays: asked twice, the same plans to the last digit."""
    first = answer(at_rate(12.0, Targets(ttft_s=1.0)), AnalyticPredictor())
    again = answer(at_rate(12.0, Targets(ttft_s=1.0)), AnalyticPredictor())
    assert [each.config_id for plan in first.plans for each in plan.groups] == [
        each.config_id for plan in again.plans for each in plan.groups
    ]
    assert [plan.ttft_s for plan in first.plans] == [plan.ttft_s for plan in again.plans]


def test_a_trace_is_replayed_as_recorded():
    """A hundred requests, ten a second: the plan carries them, and its longest request fits."""
    count = 100
    trace = Trace(
        send_s=np.arange(count) / 10.0,
        prompt_tokens=np.full(count, 600),
        output_tokens=np.full(count, 100),
        reused_from=np.full(count, -1),
        reused_tokens=np.zeros(count, dtype=np.int64),
    )
    question = at_rate(10.0, Targets(ttft_s=1.0))
    traffic = replace(question.traffic, arrivals=trace)
    plan = answer(replace(question, traffic=traffic), AnalyticPredictor()).plans[0]
    assert plan.groups[0].config.context_tokens >= 700
    assert plan.meets_targets


def test_a_closed_loop_with_targets_on_means_is_not_replayed():
    """Means are what the closed form tells."""
    plan = answer(
        make_question(EIGHT, targets={"ttft_s": 1.0}, analytic_only=True), AnalyticPredictor()
    ).plans[0]
    assert plan.groups[0].replayed is None


def test_bursts_need_more_than_even_arrivals():
    """L22's reason for a replay.

    The same rate in bursts has a longer p99 of TTFT on the same replica.
    """
    even = at_rate(20.0, Targets(ttft_s=2.0), Process.CONSTANT)
    bursts = replace(
        even,
        traffic=replace(
            even.traffic,
            arrivals=OpenLoop(requests_per_s=20.0, process=Process.BURST, variation=16.0),
        ),
    )
    of_even, of_bursts = (
        {
            (group.config.tp, group.replicas, group.config.max_num_seqs): group.replayed.ttft_s.p99
            for plan in answer(question, AnalyticPredictor()).plans
            for group in plan.groups
        }
        for question in (even, bursts)
    )
    shared = of_even.keys() & of_bursts.keys()
    assert shared
    assert all(of_bursts[each] > of_even[each] for each in shared)


def test_uneven_replicas_finish_what_their_mean_load_makes():
    """Little's law: requests in flight are requests/s times latency, also where 50 are on 7.

    The fullest replica has 8, whose latency every row shows; all together have 50 and not 56.
    """
    question = make_question(EIGHT, analytic_only=True, engines=frozenset({"vllm"}))
    for targets in (Targets(), Targets(percentiles=(PercentileTarget.named("ttft_p99_s", 9.0),))):
        uneven = replace(question.with_concurrency(50), targets=targets)
        plans = answer(uneven, AnalyticPredictor()).plans
        assert any(50 % plan.groups[0].replicas for plan in plans if len(plan.groups) == 1)
        for plan in plans:
            assert plan.requests_per_s * plan.e2e_s == pytest.approx(50, rel=1e-6), plan


def test_a_rate_that_is_carried_is_finished():
    """Every plan finishes exactly the requests that come, whatever the sample that was drawn."""
    for plan in asked(20.0).plans:
        assert plan.requests_per_s == pytest.approx(20.0)


def test_one_more_replica_does_what_its_own_plan_says():
    """A plan of n replicas foretells the figures and the price of the plan of n + 1."""
    found = {
        (group.config.tp, group.config.pp, group.replicas, group.config.max_num_seqs): plan
        for plan in asked(40.0, 0.5).plans
        for group in plan.groups
        if len(plan.groups) == 1
    }
    pairs = [
        (plan, found[tp, pp, replicas + 1, seqs])
        for (tp, pp, replicas, seqs), plan in found.items()
        if (tp, pp, replicas + 1, seqs) in found
    ]
    assert pairs
    for plan, larger in pairs:
        told = plan.groups[0].explanation.next_replica
        assert told
        assert told.ttft_s == pytest.approx(larger.ttft_s, rel=0.02)
        price = larger.cost_per_million_tokens_usd
        assert told.cost_per_million_tokens_usd == pytest.approx(price, rel=0.02)
