"""Intervals of disaggregated deployments nobody measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.learned.pool_intervals import (
    FULL,
    LOADED,
    TPOT,
    TTFT_IDLE,
    TTFT_LOADED,
    pool_predictions,
)
from budsim.performance.serving.pools.queues import steady_pools
from tests.performance.serving.pools.test_queues import pools


def test_a_range_contains_its_value_and_is_as_wide_as_the_residuals() -> None:
    """TTFT of pools with little load: from 0.52 to 4.8 times the value, of 90 %."""
    both = pools(load=2.0)
    found = pool_predictions(both, steady_pools(both))
    value, interval = found.service.ttft_s, found.ttft_s[0.9]
    low, high = TTFT_IDLE[0.9]
    assert interval.low / value == pytest.approx(np.exp(low))
    assert interval.high / value == pytest.approx(np.exp(high))


def test_no_range_reaches_below_an_idle_worker() -> None:
    """Full prefill workers, whose queue is a guess: a prompt is still read and transferred."""
    both = pools(load=4000.0)
    served = steady_pools(both)
    found = pool_predictions(both, served)
    idle = served.prefill_s + served.transfer_s
    low = found.ttft_s[0.9].low
    assert low >= idle * np.exp(TTFT_IDLE[0.9][0]) - 1e-12
    assert low <= found.service.ttft_s


def test_the_latency_is_no_surer_than_its_parts() -> None:
    """The upper end is that of TTFT and of 199 times that of TPOT."""
    both = pools(load=2.0)
    found = pool_predictions(both, steady_pools(both))
    told = found.ttft_s[0.9].high + 199.0 * found.service.tpot_s * np.exp(TPOT[0.9][1])
    assert found.e2e_s[0.9].high == pytest.approx(told)


def test_nothing_of_it_is_learned() -> None:
    """The basis of every row is physics alone."""
    both = pools(load=2.0)
    assert str(pool_predictions(both, steady_pools(both)).basis(0)) == "analytic"


def test_the_range_follows_the_load_of_prefill_workers() -> None:
    """Busy for half of their time: the range is that of loaded ones, which are less sure."""
    both = pools(load=2.0)
    served = steady_pools(both)
    busy = replace(served, prefill_busy=np.array([(LOADED + FULL) / 2.0]))
    high = [pool_predictions(both, each).ttft_s[0.8].high[0] for each in (served, busy)]
    assert high[1] / high[0] == pytest.approx(np.exp(TTFT_LOADED[0.8][1] - TTFT_IDLE[0.8][1]))
