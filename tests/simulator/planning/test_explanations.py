"""Why a plan is as good as it is: figures a person can follow."""

from dataclasses import replace

import pytest

from budsim.performance.predictions import BOUNDS
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import Question
from tests.simulator.situations import make_cluster, make_question

SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"
FOUR = make_cluster((("H100-SXM", 4),))


def best_of(question: Question) -> Plan:
    """Return the best plan by the analytic model."""
    return answer(question, AnalyticPredictor()).plans[0]


@pytest.mark.parametrize(
    ("traffic", "cause"),
    [
        ({"input_tokens": 16, "output_tokens": 512, "concurrency": 1}, "weight bandwidth"),
        ({"input_tokens": 4000, "output_tokens": 16, "concurrency": 4}, "compute"),
        ({"input_tokens": 16000, "output_tokens": 4000, "concurrency": 16}, "KV cache bandwidth"),
    ],
    ids=["one chat", "prompts", "long contexts"],
)
def test_the_bottleneck_is_what_theory_says(traffic, cause):
    """One sequence reads weights, long prompts compute, many long contexts read the cache.

    The shares sum to 1.
    """
    small = make_question(
        make_cluster((("H100-SXM", 1),)), engines=frozenset({"vllm"}), analytic_only=True, **traffic
    )
    group = best_of(small).groups[0]
    assert set(group.explanation.time_shares) == set(BOUNDS)
    assert sum(group.explanation.time_shares.values()) == pytest.approx(1.0)
    assert (
        group.service.bound_by
        == cause
        == max(BOUNDS, key=lambda name: group.explanation.time_shares[name])
    )


def test_requests_without_a_place_wait():
    """On one L4 hardly any of 2,000 requests has a place in the cache.

    Most of their time is spent in the queue.
    """
    crowd = make_question(make_cluster((("L4", 1),)), concurrency=2000, analytic_only=True)
    assert best_of(crowd).groups[0].service.bound_by == "queue"


def test_a_lone_request_waits_for_nobody():
    """One token for one request at a time: what it waits for is the engine, not a queue."""
    group = best_of(
        make_question(FOUR, input_tokens=1, output_tokens=1, concurrency=1, analytic_only=True)
    ).groups[0]
    assert group.explanation.time_shares["queue"] == 0.0
    assert group.service.bound_by != "queue"


def test_headroom_is_what_a_figure_may_lose():
    """Targets of twice the TTFT and half the rate leave room of 100 % each.

    Of 80 % of the latency: a fifth missed, it binds.
    """
    free = make_question(FOUR, analytic_only=True, engines=frozenset({"vllm"}), concurrency=4)
    plan = best_of(free)
    assert plan.groups[0].explanation.headroom == {}
    assert plan.groups[0].explanation.binding == ""
    targets = replace(
        free.targets,
        ttft_s=2 * plan.ttft_s,
        tokens_per_s_per_user=plan.tokens_per_s_per_user / 2,
        e2e_s=0.8 * plan.e2e_s,
    )
    plans = answer(replace(free, targets=targets), AnalyticPredictor()).plans
    same = next(each for each in plans if each.groups[0].config == plan.groups[0].config).groups[0]
    assert same.explanation.headroom == pytest.approx(
        {"ttft_s": 1.0, "tokens_per_s_per_user": 1.0, "e2e_s": -0.2}
    )
    assert same.explanation.binding == "e2e_s"


def test_one_more_replica_halves_the_requests_of_each():
    """Two replicas of 32 requests serve 16 each, as one alone would, and cost two devices."""
    whole, half = (
        best_of(
            make_question(
                cluster, concurrency=requests, analytic_only=True, engines=frozenset({"vllm"})
            )
        )
        for cluster, requests in ((FOUR, 32), (make_cluster((("H100-SXM", 1),)), 16))
    )
    following = whole.groups[0].explanation.next_replica
    assert (whole.devices, following.devices, following.is_free) == (1, 1, True)
    assert following.ttft_s == pytest.approx(half.ttft_s)
    assert following.e2e_s == pytest.approx(half.e2e_s)
    assert following.tokens_per_s_per_user == pytest.approx(half.tokens_per_s_per_user)
    per_h = 2 * whole.groups[0].config.device.price_usd_per_h
    assert following.cost_per_million_tokens_usd == pytest.approx(
        per_h / (32 * 128 / half.e2e_s * 3600) * 1e6
    )


def test_a_replica_the_cluster_lacks_is_not_called_free():
    """On a full cluster the next replica is still described, as one that is not there.

    A lone request needs none.
    """
    full = best_of(make_question(make_cluster((("H100-SXM", 1),)), analytic_only=True)).groups[0]
    assert not full.explanation.next_replica.is_free
    assert best_of(make_question(FOUR, concurrency=1)).groups[0].explanation.next_replica is None


def test_every_target_missed_is_named_with_its_factor():
    """A hundredth of the TTFT and of the latency allowed.

    Both are in the reason, the worse one first.
    """
    outcome = answer(
        make_question(FOUR, targets={"ttft_s": 1e-3, "e2e_s": 1e-1}), AnalyticPredictor()
    )
    reason = next(each.reason for each in outcome.rejections if "misses" in each.reason)
    assert "against 0.001 s (a factor of" in reason
    assert "against 0.1 s (a factor of" in reason
    assert "nearest: " in reason


def test_what_does_not_fit_is_told_how_many_would_do():
    """70B parameters in 16 bit on one H100.

    The number said to do does, and one device less does not.
    """
    outcome = answer(
        make_question(make_cluster((("H100-SXM", 1),)), model=SEVENTY), AnalyticPredictor()
    )
    reason = next(each.reason for each in outcome.rejections if "weights need" in each.reason)
    assert "2 would do (tp=2, pp=1)" in reason, "other servers have more than one device"
    devices = int(reason.split("; ")[-1].split()[0])
    assert devices >= 141e9 / 80e9
    wider = make_cluster((("H100-SXM", devices),))
    assert answer(make_question(wider, model=SEVENTY), AnalyticPredictor()).plans
    narrower = make_cluster((("H100-SXM", devices - 1),))
    assert not answer(make_question(narrower, model=SEVENTY), AnalyticPredictor()).plans
