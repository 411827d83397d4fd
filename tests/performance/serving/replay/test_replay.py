"""The answer of a replay: what it holds, and that it says so when a rate cannot be carried."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.candidates import Candidates, rows_of
from budsim.performance.lengths import LognormalLength
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.prefixes import PrefixShare
from budsim.performance.serving.replay import (
    Factors,
    Limits,
    Replayed,
    ReplayedService,
    Unstable,
    replay,
)
from budsim.performance.traffic import ClosedLoop, Traffic
from tests.performance.populations import population

SMALL = "meta-llama/Llama-3.1-8B-Instruct"
CANDIDATES = population(model=SMALL, tp=[1, 2, 4])


def replayed(traffic: Traffic, candidates: Candidates = CANDIDATES, **options) -> ReplayedService:
    """Return the service of the candidates under this traffic."""
    return replay(candidates, memory_use(prepare(candidates)), traffic, **options)


def at_rate(requests_per_s: float) -> Traffic:
    """Return an open loop of prompts of 1000 and outputs of 200 tokens."""
    return Traffic.at_rate(requests_per_s=requests_per_s, input_tokens=1000, output_tokens=200)


def test_more_devices_answer_sooner_and_carry_more() -> None:
    """TTFT and ITL fall, and the largest rate grows, from 1 to 2 to 4 devices."""
    service = replayed(at_rate(5.0))
    assert service.stable.all()
    assert (np.diff(service.ttft_s.mean) < 0.0).all()
    assert (np.diff(service.itl_s.p99) < 0.0).all()
    assert (np.diff(service.largest_stable_rate) > 0.0).all()


def test_a_rate_beyond_capacity_is_unstable_and_has_no_latency() -> None:
    """At twice the largest rate the answer is that rate, in words, and no mean (law L20)."""
    largest = float(replayed(at_rate(1.0)).largest_stable_rate[0])
    service = replayed(at_rate(2.0 * largest))
    answer = service.row(0)
    assert isinstance(answer, Unstable)
    assert answer.largest_stable_rate == pytest.approx(largest)
    assert "grows without end" in str(answer)
    assert np.isnan(service.ttft_s.mean[0])
    assert np.isnan(service.e2e_s.p99[0])
    assert service.timelines[0] is None


def test_just_below_the_largest_rate_the_queue_does_not_grow() -> None:
    """At 90 % of it a long run's second half waits no longer than twice its first half."""
    largest = float(replayed(at_rate(1.0)).largest_stable_rate[0])
    traffic = replace(at_rate(0.9 * largest), requests=8000)
    service = replayed(traffic, population(model=SMALL, tp=1))
    timeline = service.timelines[0]
    assert timeline is not None
    early, late = np.array_split(timeline.waiting, 2)
    assert late.mean() < 2.0 * early.mean() + 5.0


def test_a_finite_run_beyond_capacity_is_answered_as_that_run() -> None:
    """A benchmark's mean exists although the rate is unstable; it is marked so."""
    largest = float(replayed(at_rate(1.0)).largest_stable_rate[0])
    service = replayed(at_rate(2.0 * largest), finite=True)
    assert not service.stable[0]
    assert service.ttft_s.mean[0] > 1.0


def test_goodput_counts_requests_within_every_limit() -> None:
    """A limit at the median TTFT makes half of the requests good; none limits nothing."""
    service = replayed(at_rate(5.0))
    median = float(service.ttft_s.p50[0])
    limited = replayed(at_rate(5.0), limits=Limits(ttft_s=median))
    assert service.good_share[0] == 1.0
    assert limited.good_share[0] == pytest.approx(0.5, abs=0.02)
    expected = limited.requests_per_s[0] * limited.good_share[0]
    assert limited.good_requests_per_s[0] == pytest.approx(expected)


def test_factors_slow_the_part_they_name() -> None:
    """A decode factor of 2 doubles the gaps of a lone request; a prefill factor its prompt."""
    alone = Traffic.closed(concurrency=1, input_tokens=4000, output_tokens=200)
    one = np.ones(3)
    plain = replayed(alone)
    decode = replayed(alone, factors=Factors(prefill=one, decode=2.0 * one))
    prefill = replayed(alone, factors=Factors(prefill=2.0 * one, decode=one))
    assert decode.tpot_s.mean == pytest.approx(2.0 * plain.tpot_s.mean, rel=1e-6)
    assert prefill.tpot_s.mean == pytest.approx(plain.tpot_s.mean, rel=1e-6)
    host_s = 0.003 + 4000 * 3e-6
    assert prefill.ttft_s.mean - host_s == pytest.approx(2.0 * (plain.ttft_s.mean - host_s))


def test_one_row_is_read_as_a_value() -> None:
    """A row holds the same figures as the table."""
    service = replayed(at_rate(5.0))
    answer = service.row(1)
    assert isinstance(answer, Replayed)
    assert answer.ttft_s.p99 == service.ttft_s.p99[1]
    assert answer.requests_per_s == service.requests_per_s[1]


def test_each_row_may_have_traffic_of_its_own() -> None:
    """Three rows, three concurrencies; a fourth traffic is one too many."""
    loads = [
        Traffic.closed(concurrency=load, input_tokens=500, output_tokens=50) for load in (1, 8, 64)
    ]
    same = population(model=SMALL, tp=[1, 1, 1])
    service = replayed(loads, same)  # type: ignore[arg-type]
    assert (np.diff(service.itl_s.mean) > 0.0).all()
    with pytest.raises(InvalidInput, match="traffic"):
        replayed([*loads, loads[0]], same)  # type: ignore[arg-type]


def test_pooling_models_answer_at_the_end_of_their_prompt() -> None:
    """Without output tokens E2E is TTFT and there is no gap between tokens."""
    pooling = Traffic.closed(concurrency=4, input_tokens=500, output_tokens=0)
    service = replayed(pooling, population(model=SMALL, tp=[1], output_tokens=0))
    assert service.e2e_s.mean[0] == pytest.approx(service.ttft_s.mean[0])
    assert np.isnan(service.tpot_s.mean[0])
    assert np.isnan(service.itl_s.mean[0])


def test_a_timeline_is_bounded_and_ordered() -> None:
    """At most 256 samples, ascending in time, shares of the cache within 0..1."""
    timeline = replayed(at_rate(5.0)).timelines[0]
    assert timeline is not None
    assert 100 < len(timeline.time_s) <= 256
    assert (np.diff(timeline.time_s) > 0.0).all()
    assert ((timeline.cache_share >= 0.0) & (timeline.cache_share <= 1.0)).all()


def test_a_request_longer_than_the_cache_is_never_served() -> None:
    """Prompts of a million tokens fit no cache: no latency, and no rate is stable."""
    long = Traffic.closed(concurrency=1, input_tokens=1_000_000, output_tokens=10)
    answer = replayed(long).row(0)
    assert isinstance(answer, Unstable)
    assert answer.largest_stable_rate == 0.0
    assert "does not fit the KV cache" in str(answer)


def test_a_million_requests_in_flight_wait_as_littles_law_says() -> None:
    """Requests beyond 20,000 in flight are not replayed: E2E is the concurrency over the rate."""
    many = Traffic.closed(concurrency=1_000_000, input_tokens=100, output_tokens=10)
    service = replayed(many, population(model=SMALL, tp=[1]))
    assert service.e2e_s.mean[0] == pytest.approx(1e6 / service.requests_per_s[0], rel=0.01)
    assert service.running[0] + service.waiting[0] == pytest.approx(1e6, rel=0.01)
    fewer = replayed(replace(many, arrivals=ClosedLoop(concurrency=10_000)))
    assert fewer.requests_per_s[0] == pytest.approx(service.requests_per_s[0], rel=0.02)


def test_no_candidates_are_served_by_nothing() -> None:
    """A table without rows gives one without rows."""
    none = rows_of(CANDIDATES, np.array([], dtype=np.int64))
    assert len(replayed(at_rate(1.0), none)) == 0


def test_a_busy_replica_is_watched_for_longer() -> None:
    """At 95 % of the largest rate 8,000 requests are replayed, at 50 % the usual 2,000."""
    one = population(model=SMALL, tp=[1])
    largest = float(replayed(at_rate(1.0), one).largest_stable_rate[0])
    calm, busy = (replayed(at_rate(share * largest), one).timelines[0] for share in (0.5, 0.95))
    assert calm is not None
    assert busy is not None
    assert calm.time_s[-1] == pytest.approx(2000 / (0.5 * largest), rel=0.05)
    assert busy.time_s[-1] == pytest.approx(8000 / (0.95 * largest), rel=0.05)


def test_the_largest_rate_does_not_depend_on_the_draw() -> None:
    """With lengths that vary widely it differs by less than 2 % between seeds."""
    varied = replace(
        at_rate(1.0),
        prompt=LognormalLength(mean_tokens=1000, variation=1.0),
        output=LognormalLength(mean_tokens=200, variation=1.0),
    )
    one = population(model=SMALL, tp=[1])
    rates = [replayed(varied, one, seed=seed).largest_stable_rate[0] for seed in range(4)]
    assert max(rates) < 1.02 * min(rates)


def test_the_largest_rate_of_equal_replicas_is_found_once(monkeypatch) -> None:
    """Two replicas under three rates each have two largest rates, and answer as each does alone."""
    module = import_module("budsim.performance.serving.replay.replay")
    found, real = [], module.largest_stable_rate

    def counted(*asked):
        found.append(asked)
        return real(*asked)

    monkeypatch.setattr(module, "largest_stable_rate", counted)
    rates = [at_rate(rate) for rate in (1.0, 2.0, 4.0)]
    both = rows_of(CANDIDATES, np.array([0, 1, 0, 1, 0, 1]))
    together = replay(both, memory_use(prepare(both)), [rates[at // 2] for at in range(6)])
    assert len(found) == 2
    for at, rate in enumerate(rates):
        alone = replayed(rate, rows_of(CANDIDATES, np.array([0, 1])))
        rows = slice(2 * at, 2 * at + 2)
        assert together.ttft_s.p99[rows].tolist() == alone.ttft_s.p99.tolist()
        assert together.largest_stable_rate[rows].tolist() == alone.largest_stable_rate.tolist()


def test_what_an_engine_does_not_keep_is_not_found() -> None:
    """Without prefix caching, prompts that share half of their tokens are prompts that share none.

    Else they are read sooner.
    """
    none = replace(at_rate(2.0), prefix=PrefixShare(share=0.0))
    half = replace(at_rate(2.0), prefix=PrefixShare(share=0.5))
    off = replace(CANDIDATES, prefix_caching=np.zeros(len(CANDIDATES), dtype=bool))
    plain = replayed(none).ttft_s.mean
    assert (replayed(half, off).ttft_s.mean == plain).all()
    assert (replayed(half).ttft_s.mean < plain).all()
