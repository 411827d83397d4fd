"""The most a cluster carries: asking forwards confirms it."""

import math
from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.sizing import (
    Capacity,
    _bracket,
    capacities,
)
from budsim.simulator.planning.targets import PercentileTarget
from tests.benchmarks.mixed_deployments import drawn
from tests.simulator.situations import make_cluster, make_question

TIGHT = {"ttft_s": 0.25, "tokens_per_s_per_user": 80.0}
ONE_EACH = make_cluster((("A100-SXM4-80GB", 1),), (("H100-SXM", 1),))


def ask_capacity(question: Question) -> Capacity:
    """Return what the only cluster carries, by the analytic model."""
    return capacities(question, AnalyticPredictor())[0]


def with_requests(question: Question, concurrency: int) -> Question:
    """Return the question with other traffic."""
    return question.with_concurrency(concurrency)


def test_a_cluster_carries_what_meets_the_targets_and_no_request_more():
    """Asked forwards, the capacity meets the targets and one request more does not."""
    question = make_question(ONE_EACH, targets=TIGHT, analytic_only=True)
    found = ask_capacity(question)
    assert 0 < found.concurrency < 100
    assert found.refused == found.concurrency + 1
    at, past = (
        answer(with_requests(question, n), AnalyticPredictor()).plans[0]
        for n in (found.concurrency, found.refused)
    )
    assert at.meets_targets
    assert not past.meets_targets
    assert found.plan == at


def test_what_is_beyond_is_the_same_plan_under_more_requests():
    """Under the least number that is too much, the replicas that carried one less miss a target."""
    found = ask_capacity(make_question(ONE_EACH, targets=TIGHT, analytic_only=True))
    assert found.beyond is not None
    assert not found.beyond.meets_targets
    runs = [
        [(group.label, group.replicas, group.config.tp) for group in plan.groups]
        for plan in (found.plan, found.beyond)
    ]
    assert runs[0] == runs[1]
    requests = sum(group.replicas * group.config.concurrency for group in found.beyond.groups)
    assert requests >= found.refused


def test_free_devices_and_larger_loads_are_tried_where_a_chance_does_not_only_fall():
    """Short answers on eight H100: six carry 124, and more on all eight is no less sure."""
    question = make_question(
        make_cluster((("H100-SXM", 8),)),
        model="openai/gpt-oss-120b",
        input_tokens=1000,
        output_tokens=16,
        targets={"ttft_s": 2.0, "tokens_per_s_per_user": 20.0},
        chance=0.8,
        engines=("vllm",),
    )
    found = ask_capacity(question)
    assert (found.plan.devices, found.beyond.meets_targets) == (8, False)
    again = answer(with_requests(question, found.concurrency), AnalyticPredictor()).plans[0]
    assert again.meets_targets


def test_asking_for_loads_in_turn_finds_the_same_capacity():
    """What was found of drawn questions meets the targets; 5 % more and twice as much miss them."""
    for seed in (9, 14, 22):
        question = replace(drawn(seed), analytic_only=True)
        found = ask_capacity(question).concurrency
        loads = [found, math.ceil(1.05 * found), 2 * found]
        plans = [answer(with_requests(question, load), AnalyticPredictor()).plans for load in loads]
        met = [bool(each) and each[0].meets_targets for each in plans]
        assert met == [True, False, False], seed


def test_two_types_carry_what_each_carries_alone():
    """What an A100 and an H100 carry together is the sum of what each carries alone."""
    both, old, new = (
        ask_capacity(make_question(cluster, targets=TIGHT, analytic_only=True)).concurrency
        for cluster in (
            ONE_EACH,
            make_cluster((("A100-SXM4-80GB", 1),)),
            make_cluster((("H100-SXM", 1),)),
        )
    )
    assert both == old + new


def test_large_capacities_are_known_to_two_hundredths():
    """Of thousands of requests the refused number is within 2 % of the carried one."""
    cluster = make_cluster(*[(("H100-SXM", 8),)] * 8)
    found = ask_capacity(make_question(cluster, targets={"ttft_s": 0.5}, analytic_only=True))
    assert found.concurrency > 1000
    assert found.concurrency < found.refused <= 1.02 * found.concurrency + 1


def test_targets_nothing_meets_leave_no_capacity():
    """A microsecond to the first token.

    The cluster carries no request, and the reason names the target.
    """
    found = ask_capacity(make_question(ONE_EACH, targets={"ttft_s": 1e-6}, analytic_only=True))
    assert (found.concurrency, found.plan, found.refused) == (0, None, 1)
    assert any("TTFT" in rejection.reason for rejection in found.rejections)


@pytest.mark.parametrize("targets", [{}, {"tokens_per_s_per_user": 20.0}], ids=["none", "rate"])
def test_capacity_is_refused_where_requests_may_wait_for_ever(targets):
    """Without a target on TTFT or latency any number of requests can be carried.

    The question has no answer, and says so.
    """
    with pytest.raises(InvalidInput, match="ttft_s"):
        capacities(make_question(ONE_EACH, targets=targets), AnalyticPredictor())


def test_the_largest_rate_is_carried_and_a_larger_one_is_not():
    """Asked forwards, the rate found meets the targets, and the least rate refused does not."""
    question = make_question(
        make_cluster((("H100-SXM", 1),)),
        targets={"ttft_s": 0.5},
        analytic_only=True,
        engines=frozenset({"vllm"}),
    )
    traffic = Traffic.at_rate(requests_per_s=100.0, input_tokens=512, output_tokens=128)
    question = replace(question, traffic=traffic)
    found = ask_capacity(question)
    assert 0 < found.rate < found.refused_rate <= 1.03 * found.rate
    assert answer(question.at_rate(found.rate), AnalyticPredictor()).plans[0].meets_targets
    past = answer(question.at_rate(found.refused_rate), AnalyticPredictor())
    assert not (past.plans and past.plans[0].meets_targets)
    assert found.plan.requests_per_s == pytest.approx(found.rate, rel=0.1)


@pytest.mark.parametrize("most", [0, 1, 7, 64, 99, 313, 5_000, 999_999, 1_000_000])
@pytest.mark.parametrize("known", [0.0, 0.5, 0.9, 1.0, 1.1, 3.0])
def test_few_searches_find_the_most_requests(most, known):
    """They are found to 2 %, below 100 exactly; right guesses take three searches at most."""
    tried = []

    def carries(requests: int) -> bool:
        tried.append(requests)
        return requests <= most

    low, high = _bracket(carries, lambda _: round(known * most), 64, 1_000_000)
    assert low <= most < high
    assert high - low <= max(1, 0.02 * low) or low == 1_000_000
    assert len(tried) == len(set(tried))
    assert all(1 <= requests <= 1_000_000 for requests in tried)
    assert len(tried) <= (3 if known == 1.0 else 30)


@pytest.mark.parametrize("rate", [None, 1.0])
@pytest.mark.parametrize(
    "targets",
    [{"ttft_s": 0.5}, {"percentiles": (PercentileTarget.named("ttft_p99_s", 1.0),)}],
    ids=["mean", "p99"],
)
def test_capacity_takes_at_most_two_searches(monkeypatch, targets, rate):
    """What is told without a search is carried, or the next that is told."""
    searched = []

    def counted(question, predictor):
        searched.append(question.concurrency)
        return answer(question, predictor)

    monkeypatch.setattr("budsim.simulator.planning.sizing.answer", counted)
    cluster = make_cluster((("A100-SXM4-80GB", 2),), (("H100-SXM", 4),))
    question = make_question(cluster, targets=targets, analytic_only=True)
    if rate:
        traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=512, output_tokens=128)
        question = replace(question, traffic=traffic)
    found = ask_capacity(question)
    assert found.plan is not None
    assert found.plan.meets_targets
    assert len(searched) <= 2


@pytest.mark.parametrize("rate", [None, 1.0])
def test_pools_alone_carry_what_meets_the_targets(rate):
    """Two H100 carry tens of requests in flight, or several requests/s, as pools."""
    question = make_question(
        make_cluster((("H100-SXM", 2),)),
        targets={"ttft_s": 1.0},
        input_tokens=4000,
        output_tokens=200,
        engines=frozenset({"vllm"}),
        chance=0.0,
        analytic_only=True,
        disaggregation=Disaggregation.ONLY,
    )
    if rate:
        traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=4000, output_tokens=200)
        question = replace(question, traffic=traffic)
    found = ask_capacity(question)
    assert found.plan is not None
    assert found.plan.is_disaggregated
    assert (found.rate if rate else found.concurrency) > (3.0 if rate else 20)


def test_one_request_is_asked_for_where_nothing_is_told(monkeypatch):
    """What replays told may be too little: a plan for one request tells how many it carries."""
    question = make_question(ONE_EACH, targets=TIGHT, analytic_only=True, allow_mixed=False)
    known = ask_capacity(question).concurrency
    monkeypatch.setattr("budsim.simulator.planning.sizing.carried_loads", lambda *_: [])
    assert ask_capacity(question).concurrency == pytest.approx(known, rel=0.1)


def test_pools_alone_are_asked_for_what_whole_replicas_do_not_carry(monkeypatch):
    """One search for both, and then one for pools under a load that is too much for the others."""
    asked = []

    def counted(question, predictor):
        asked.append((question.concurrency, question.disaggregation))
        return answer(question, predictor)

    monkeypatch.setattr("budsim.simulator.planning.sizing.answer", counted)
    found = ask_capacity(
        make_question(
            make_cluster((("H100-SXM", 2),)),
            targets={"ttft_s": 1.0},
            engines=frozenset({"vllm"}),
            analytic_only=True,
            disaggregation=Disaggregation.ALSO,
        )
    )
    assert found.plan.meets_targets
    (_, first), *others = asked
    assert first is Disaggregation.ALSO
    assert others
    assert {each for _, each in others} == {Disaggregation.ONLY}
