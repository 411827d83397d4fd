"""Replicas over a day: hours cut from traffic, the replicas each needs, and what they cost."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.recorded import Trace
from budsim.performance.traffic import ClosedLoop, OpenLoop, Traffic
from budsim.simulator.planning.daily_replicas import DayAnswer, hours_of, replicas_over_a_day
from budsim.simulator.planning.days import DayOfReplicas, HourOfDay
from budsim.simulator.planning.targets import PercentileTarget, Targets
from tests.simulator.situations import make_cluster, make_question

OPEN = Traffic.at_rate(requests_per_s=1.0, input_tokens=512, output_tokens=128)
TARGETS = Targets(
    tokens_per_s_per_user=20.0, percentiles=(PercentileTarget.named("ttft_p99_s", 1.0),)
)
# Night, morning, peak and evening, requests/s.
RATES = (5.0, 60.0, 150.0, 60.0)


def question(devices: int = 8):
    """Return a question about vLLM on so many H100, by physics alone."""
    asked = make_question(
        make_cluster((("H100-SXM", devices),)), analytic_only=True, engines=frozenset({"vllm"})
    )
    return replace(asked, targets=TARGETS, traffic=OPEN)


@cache
def answered(rates: tuple[float, ...] = RATES, lead_time_s: float | None = 360.0) -> DayAnswer:
    """Return the answer for hourly rates."""
    hours = hours_of(OPEN, rates)
    return replicas_over_a_day(question(), hours, AnalyticPredictor(), lead_time_s=lead_time_s)


def day(rates: tuple[float, ...] = RATES) -> DayOfReplicas:
    """Return the day of an answer that has one."""
    found = answered(rates).day
    assert found
    return found


def trace(*send_s: float) -> Traffic:
    """Return a trace of equal requests, sent at these times."""
    times = np.array(send_s)
    rows = len(times)
    return replace(
        OPEN,
        arrivals=Trace(
            send_s=times,
            prompt_tokens=np.full(rows, 100),
            output_tokens=np.full(rows, 10),
            reused_from=np.arange(rows) - 1,
            reused_tokens=np.where(np.arange(rows) > 0, 50, 0),
        ),
    )


def test_busier_hours_need_more_replicas():
    """Every hour meets its targets, equal hours need equal replicas, and the plan has the most."""
    found = day()
    needed = [hour.replicas for hour in found.hours]
    assert found.meets_targets
    assert needed[0] < needed[2]
    assert needed[1] == needed[3]
    assert needed == sorted(needed[:3]) + needed[3:]
    assert found.plan.groups[0].replicas == found.most == needed[2]


def test_one_replica_less_would_miss():
    """An hour has the fewest replicas: its rate is beyond what one replica less may receive."""
    found = day()
    assert found.rule
    for hour in found.hours:
        assert hour.rate <= hour.replicas * found.rule.largest_rate * 1.02
        if hour.replicas > 1:
            assert hour.rate > (hour.replicas - 1) * found.rule.largest_rate * 0.98


def test_a_replica_is_added_before_the_load_has_grown_to_the_most():
    """The steepest hour grows twelvefold; in a tenth of an hour at most a doubling is waited for.

    The threshold is the load at the largest rate divided by one and that growth.
    """
    rule = day().rule
    assert rule
    assert rule.growth == pytest.approx(1.0)
    assert 0 < rule.trigger_in_flight < rule.largest_in_flight
    flat = day((60.0, 60.0)).rule
    assert flat
    assert flat.growth == 0.0
    assert flat.trigger_in_flight == pytest.approx(flat.largest_in_flight)


def hours(*replicas: int) -> tuple[HourOfDay, ...]:
    """Return hours that need so many replicas."""
    return tuple(
        HourOfDay(hour=at, rate=1.0, replicas=count, chance=1.0, meets_targets=True, seen=None)
        for at, count in enumerate(replicas)
    )


def test_replicas_are_paid_while_they_load():
    """Hours of 2 and 4 replicas and a lead time of 360 s: 6 replica-hours, and 2 x 0.1 to load."""
    found = replace(day(), hours=hours(2, 4), lead_time_s=360.0)
    assert found.replica_hours == pytest.approx(6.2)
    each = found.plan.groups[0].cost_usd_per_h / found.plan.groups[0].replicas
    assert found.usd_per_day == pytest.approx(6.2 * 12 * each)
    assert found.constant_usd_per_day == pytest.approx(4 * 24 * each)
    assert found.saved_share == pytest.approx(1 - 6.2 / 8)


def test_a_whole_day_begins_where_it_ends():
    """Of 24 hours the first follows the last: a replica more at midnight has to load as well."""
    found = replace(day(), hours=hours(3, *(2 for _ in range(23))), lead_time_s=360.0)
    assert found.replica_hours == pytest.approx(3 + 23 * 2 + 0.1)


def test_a_constant_load_saves_nothing():
    """Every hour needs the same replicas, none is ever started."""
    found = replace(day(), hours=hours(2, 2, 2))
    assert found.saved_share == pytest.approx(0.0)


def test_a_rate_beyond_the_cluster_is_told_by_hour():
    """The busiest hour gets all replicas there are and is not said to meet its targets."""
    found = replicas_over_a_day(
        question(devices=1), hours_of(OPEN, (5.0, 60.0)), AnalyticPredictor()
    )
    if found.day is None:
        assert "unstable" in found.rejections[0].reason
    else:
        assert [hour.meets_targets for hour in found.day.hours] == [True, False]


def test_the_usual_lead_time_loads_the_weights():
    """An 8B model in 16 bit has 15 GiB of weights: 120 s to start, and 15 s at 1 GiB/s."""
    found = answered((5.0, 60.0), None).day
    assert found
    per_device = 15.0 / found.plan.groups[0].config.tp / found.plan.groups[0].config.pp
    assert found.lead_time_s == pytest.approx(120 + per_device, abs=2)


def test_a_trace_is_cut_into_hours():
    """Times start anew in each hour; prefixes computed in an earlier hour are computed again."""
    cut = hours_of(trace(7.0, 8.0, 4000.0, 4010.0, 4020.0))
    assert [len(each.arrivals) for each in cut] == [2, 3]
    second = cut[1].arrivals
    assert isinstance(second, Trace)
    assert second.send_s.tolist() == [0.0, 10.0, 20.0]
    assert second.reused_from.tolist() == [-1, 0, 1]
    assert second.reused_tokens.tolist() == [0, 50, 50]


def test_of_several_days_each_hour_is_that_of_the_busiest():
    """Hour 0 of the second day has three requests, that of the first one two."""
    later = 24 * 3600.0
    cut = hours_of(
        trace(0.0, 1.0, *(3600.0 * at for at in range(1, 24)), later, later + 1, later + 2)
    )
    assert len(cut) == 24
    assert len(cut[0].arrivals) == 3


def test_a_trace_may_pause_for_years():
    """Hours without requests are not counted one by one, and the busiest hour is still found."""
    cut = hours_of(trace(0.0, 1.0, 86_400e9, 86_400e9 + 1, 86_400e9 + 2))
    assert len(cut) == 24
    assert len(cut[0].arrivals) == 3
    assert cut[1].arrivals == OpenLoop(requests_per_s=1 / 3600)


def test_an_hour_with_one_request_has_a_rate():
    """A lone request has no rate of its own: it comes at random within its hour."""
    cut = hours_of(trace(0.0, 1.0, 4000.0))
    assert cut[1].arrivals == OpenLoop(requests_per_s=1 / 3600)


def test_hours_of_a_trace_are_replayed_as_recorded():
    """Sixty requests at once in the second hour need as many replicas as a calm hour or more."""
    calm = [float(at) for at in range(0, 3600, 60)]
    burst = [3600.0 + at / 1000 for at in range(60)] + [7100.0]
    recorded = trace(*calm, *burst)
    found = replicas_over_a_day(question(), hours_of(recorded), AnalyticPredictor()).day
    assert found
    assert found.hours[0].replicas == 1
    assert found.hours[1].replicas >= 1
    assert found.meets_targets


@pytest.mark.parametrize(
    ("traffic", "rates"),
    [
        (OPEN, []),
        (OPEN, [1.0] * 25),
        (OPEN, [1.0, -1.0]),
        (OPEN, [1.0, float("inf")]),
        (OPEN, [float("nan")]),
        (OPEN, None),
        (replace(OPEN, arrivals=ClosedLoop(concurrency=4)), [1.0]),
    ],
)
def test_hours_that_cannot_be_are_refused(traffic, rates):
    """No rates, too many, negative, infinite or not numbers; no trace; no arrivals at a rate."""
    with pytest.raises(InvalidInput) as error:
        hours_of(traffic, rates)
    assert error.value.field == "hourly"


def test_an_hour_without_requests_needs_one_replica():
    """A rate of 0 is hardly any load; the deployment stays up."""
    assert hours_of(OPEN, [0.0, 1.0])[0].rate < 1e-3


def test_an_hour_without_requests_may_miss_its_targets():
    """Nothing is fast enough for 10,000 tokens/s; what more replicas would do is told, too."""
    asked = replace(question(2), targets=Targets(tokens_per_s_per_user=1e4))
    hours = hours_of(OPEN, [0.0])
    found = replicas_over_a_day(asked, hours, AnalyticPredictor(), lead_time_s=360.0).day
    assert found
    assert [hour.meets_targets for hour in found.hours] == [False]


@pytest.mark.parametrize("lead_time_s", [-1.0, 3601.0, float("nan")])
def test_a_lead_time_out_of_range_is_refused(lead_time_s):
    """It is from nothing to an hour."""
    with pytest.raises(InvalidInput, match="lead_time_s"):
        replicas_over_a_day(
            question(), hours_of(OPEN, [1.0]), AnalyticPredictor(), lead_time_s=lead_time_s
        )


def test_a_day_of_a_pooling_model_ignores_output_tokens() -> None:
    """Embeddings have no answers to generate: 128 output tokens of each request are left out."""
    embeds = make_question(
        make_cluster((("L4", 2),)), model="BAAI/bge-large-en-v1.5", output_tokens=0
    )
    asked = replace(embeds, targets=Targets(e2e_s=2.0), analytic_only=True)
    found = replicas_over_a_day(asked, hours_of(OPEN, [1.0, 2.0]), AnalyticPredictor())
    assert found.day
    assert [hour.replicas for hour in found.day.hours] == [1, 1]
