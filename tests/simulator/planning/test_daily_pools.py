"""Prefill and decode workers hour by hour."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest

from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.daily_pools import cheapest_counts
from budsim.simulator.planning.daily_replicas import hours_of, replicas_over_a_day
from budsim.simulator.planning.days import DayOfReplicas
from budsim.simulator.planning.question import Disaggregation
from tests.simulator.situations import make_cluster, make_question

RATES = (2.0, 16.0, 4.0, 2.0)


@cache
def day() -> DayOfReplicas:
    """Return four hours of 4000 + 200 tokens on sixteen H100, in pools."""
    question = make_question(
        make_cluster(*[(("H100-SXM", 8),)] * 2),
        engines=frozenset({"vllm"}),
        targets={"ttft_s": 1.0, "tokens_per_s_per_user": 60.0},
        disaggregation=Disaggregation.ONLY,
        analytic_only=True,
    )
    traffic = Traffic.at_rate(requests_per_s=1.0, input_tokens=4000, output_tokens=200)
    hours = hours_of(traffic, RATES)
    found = replicas_over_a_day(question, hours, AnalyticPredictor(), lead_time_s=360.0).day
    assert found is not None
    return found


def test_busy_hours_take_more_workers() -> None:
    """The plan holds those of the busiest hour; equal rates take equal workers."""
    hours = day().hours
    assert [hour.rate for hour in hours] == list(RATES)
    assert hours[0].workers < hours[1].workers
    assert (hours[0].prefill_workers, hours[0].replicas) == (
        hours[3].prefill_workers,
        hours[3].replicas,
    )
    prefill, decode = day().plan.groups
    assert prefill.replicas == max(hour.prefill_workers for hour in hours)
    assert decode.replicas == max(hour.replicas for hour in hours)
    assert all(hour.meets_targets for hour in hours)


def test_a_day_costs_what_both_pools_cost() -> None:
    """Workers of each hour, and a tenth of an hour for each that was started before it."""
    prefill, decode = day().plan.groups
    usd = 0.0
    for group, name in ((prefill, "prefill_workers"), (decode, "replicas")):
        counts = [getattr(hour, name) for hour in day().hours]
        started = sum(max(late - early, 0) for early, late in pairwise(counts))
        usd += group.cost_usd_per_h / group.replicas * (sum(counts) + 0.1 * started)
    assert day().usd_per_day == pytest.approx(usd * 24 / len(RATES))
    assert day().usd_per_day < day().constant_usd_per_day
    assert day().constant_usd_per_day == pytest.approx(24 * day().plan.cost_usd_per_h)


def test_no_threshold_scales_two_pools() -> None:
    """The clock does; what requests see is told for the load of one decode worker."""
    assert day().rule is None
    busy = day().hours[1]
    assert busy.seen is not None
    assert busy.seen.rate == pytest.approx(16.0)


@pytest.mark.parametrize(
    ("needed", "prices", "told"),
    [
        (4, (1.0, 1.0), (2, 2)),
        (4, (1.0, 9.0), (4, 1)),
        (4, (9.0, 1.0), (2, 2)),
        (13, (1.0, 1.0), (4, 3)),
        (1, (1.0, 1.0), (1, 1)),
    ],
)
def test_the_cheapest_pair_along_the_staircase(
    needed: int, prices: tuple[float, float], told: tuple[int, int]
) -> None:
    """At most (4, 3) workers whose product has to reach a number; 13 is beyond all."""
    asked: list[tuple[int, int]] = []

    def meets(counts: tuple[int, int]) -> bool:
        asked.append(counts)
        return counts[0] * counts[1] >= needed

    assert cheapest_counts((4, 3), meets, prices) == told
    assert len(asked) <= 2 * (4 + 3)
