"""Closed loops through both pools, and the lengths of their requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.lengths import UniformLength
from budsim.performance.serving.pools.closed_loops import lengths_of, replay_loops
from budsim.performance.serving.pools.pool_times import pool_times
from budsim.performance.serving.pools.queues import steady_pools, token_times
from budsim.performance.serving.pools.runs import CLIENT_LENGTHS, run_pools
from budsim.performance.serving.replay import Limits
from budsim.performance.traffic import ClosedLoop, Start, Traffic
from tests.performance.serving.pools.test_queues import pools

LOOP = Traffic.closed(concurrency=16, input_tokens=4000, output_tokens=200)


def test_a_replayed_closed_loop_agrees_with_its_means() -> None:
    """Moderate load: TTFT within 25 %, TPOT within 3 %; throughput by Little's law."""
    both = pools(prefill_workers=2.0, load=16.0)
    found = replay_loops(both, pool_times(both), token_times(both), LOOP).service
    steady = steady_pools(both)
    assert found.tpot_s.mean[0] == pytest.approx(steady.tpot_s[0], rel=0.03)
    assert found.ttft_s.mean[0] == pytest.approx(steady.ttft_s[0], rel=0.25)
    assert found.requests_per_s[0] == pytest.approx(16 / found.e2e_s.mean[0], rel=1e-6)
    assert found.e2e_s.mean[0] == pytest.approx(found.ttft_s.mean[0] + 199 * found.tpot_s.mean[0])


def test_a_loop_that_begins_at_once_is_a_benchmarks_run() -> None:
    """Its first requests wait for each other: TTFT is that of `run_pools`, above a steady one's."""
    both = pools(load=16.0)
    times, token_s = pool_times(both), token_times(both)
    begun = replace(LOOP, arrivals=ClosedLoop(concurrency=16, start=Start.AT_ONCE))
    steady, at_once = (
        replay_loops(both, times, token_s, each).service.ttft_s.mean[0] for each in (LOOP, begun)
    )
    assert at_once == pytest.approx(run_pools(both, CLIENT_LENGTHS).ttft_mean[0])
    assert at_once > steady


def test_requests_within_all_limits_are_good() -> None:
    """Half of them where the limit is the median of TTFT; none where tokens come too slowly."""
    both = pools(load=16.0)
    times, token_s = pool_times(both), token_times(both)
    median = float(replay_loops(both, times, token_s, LOOP).service.ttft_s.p50[0])
    shares = [
        replay_loops(both, times, token_s, LOOP, limits=limits).service.good_share[0]
        for limits in (Limits(), Limits(ttft_s=median), Limits(itl_s=1e-6))
    ]
    assert shares == pytest.approx([1.0, 0.5, 0.0], abs=0.01)


def test_lengths_are_those_of_the_traffic() -> None:
    """Equal ones vary as a client's do; others have their own law, over its mean."""
    assert lengths_of(LOOP) is CLIENT_LENGTHS
    wide = replace(LOOP, prompt=UniformLength(low=1000, high=7000))
    prompts, outputs = lengths_of(wide).draw(1000, 0)
    assert prompts.mean() == pytest.approx(1.0, abs=0.02)
    assert (prompts.min(), prompts.max()) == pytest.approx((0.25, 1.75), abs=0.02)
    assert np.unique(outputs).tolist() == [1.0]
