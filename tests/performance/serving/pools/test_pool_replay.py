"""Requests through both pools that a person can follow."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.performance.serving.arrivals import draw_requests
from budsim.performance.serving.pools.pool_replay import Deployment, replay_pools, serve
from budsim.performance.serving.pools.pool_times import pool_times
from budsim.performance.serving.pools.rates import pools_at_rate
from budsim.performance.serving.pools.token_curves import token_curves
from budsim.performance.traffic import Process, Traffic
from tests.performance.serving.pools.test_queues import pools

SLOW = Deployment(
    prefill_workers=1,
    prompt_s=1.0,
    more_s=0.5,
    places=10,
    loads=np.array([1.0, 10.0]),
    token_s=np.array([0.1, 0.1]),
)
"""Prompts of one second, half a second more to the first token, and a token every 0.1 s."""


def at_rate(rate: float) -> Traffic:
    """Return requests of 100 + 11 tokens in equal gaps."""
    return Traffic.at_rate(
        requests_per_s=rate, input_tokens=100, output_tokens=11, process=Process.CONSTANT
    )


def test_requests_that_come_seldom_do_not_wait() -> None:
    """One in two seconds: 1.5 s to the first token, 10 more of 0.1 s each."""
    seen = serve(SLOW, draw_requests(at_rate(0.5)))
    assert seen.ttft_s == pytest.approx(np.full(len(seen.ttft_s), 1.5))
    assert seen.e2e_s == pytest.approx(np.full(len(seen.ttft_s), 2.5))


def test_requests_that_come_too_often_queue() -> None:
    """Two a second, and one is read: each waits half a second more than the one before it."""
    seen = serve(SLOW, draw_requests(at_rate(2.0)))
    assert np.diff(seen.ttft_s) == pytest.approx(np.full(len(seen.ttft_s) - 1, 0.5))


def test_the_largest_rate_is_that_of_the_slower_pool() -> None:
    """One prompt a second; ten places of one second each decode ten requests a second."""
    assert SLOW.largest_rate(10.0) == pytest.approx(1.0)
    assert SLOW.largest_rate(1000.0) == pytest.approx(10 / 100.0)


def test_tokens_come_slower_while_more_decode() -> None:
    """Two that decode together take 0.2 s a token, one alone 0.1 s."""
    crowded = Deployment(
        prefill_workers=2,
        prompt_s=0.1,
        more_s=0.0,
        places=10,
        loads=np.array([1.0, 2.0]),
        token_s=np.array([0.1, 0.2]),
    )
    seen = serve(crowded, draw_requests(at_rate(1.5)))
    assert 0.1 < seen.gaps.mean <= 0.2


def test_replayed_arrivals_agree_with_their_means() -> None:
    """Poisson arrivals at half of what the prefill workers carry: TTFT within 15 %, TPOT 5 %."""
    both = pools(prefill_workers=2.0, load=16.0)
    times = pool_times(both)
    rate = 0.5 * 2.0 / float(times.prompt_s[0])
    traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=4000, output_tokens=200)
    found = replay_pools(both, times, token_curves(both.decode, 256.0), traffic)
    means = pools_at_rate(both, np.array([rate]))
    assert found.ttft_s.mean[0] == pytest.approx(means.ttft_s[0], rel=0.15)
    assert found.tpot_s.mean[0] == pytest.approx(means.tpot_s[0], rel=0.05)
    assert found.ttft_s.p50[0] <= found.ttft_s.p95[0] <= found.ttft_s.p99[0]
    # Little's law holds of what decodes.
    assert found.running[0] == pytest.approx(rate * 199.0 * found.tpot_s.mean[0], rel=0.05)


def test_a_rate_beyond_both_pools_has_no_figures() -> None:
    """The answer is the largest rate that is carried."""
    both = pools()
    times = pool_times(both)
    too_much = 1.1 / float(times.prompt_s[0])
    traffic = Traffic.at_rate(requests_per_s=too_much, input_tokens=4000, output_tokens=200)
    found = replay_pools(both, times, token_curves(both.decode, 256.0), traffic)
    assert not found.stable[0]
    assert np.isnan(found.ttft_s.mean[0])
    assert found.largest_stable_rate[0] == pytest.approx(1.0 / float(times.prompt_s[0]))
