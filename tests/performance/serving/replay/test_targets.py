"""The largest rate within targets."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.candidates import Booleans
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.replay import ReplayedService, largest_rates, replay
from budsim.performance.traffic import Traffic
from tests.performance.populations import population

CANDIDATES = population(model="meta-llama/Llama-3.1-8B-Instruct", tp=[1, 2])
MEMORY = memory_use(prepare(CANDIDATES))
TRAFFIC = Traffic.at_rate(requests_per_s=1.0, input_tokens=1000, output_tokens=200)


def test_at_the_largest_rate_the_target_is_met_and_a_little_above_it_is_not() -> None:
    """A p99 TTFT of 100 ms holds at the rate found and is missed 10 % above it."""

    def quick(service: ReplayedService) -> Booleans:
        return service.ttft_s.p99 <= 0.1

    rates = largest_rates(CANDIDATES, MEMORY, TRAFFIC, quick)
    assert quick(replay(CANDIDATES, MEMORY, [TRAFFIC.at(rate) for rate in rates])).all()
    above = replay(CANDIDATES, MEMORY, [TRAFFIC.at(1.1 * rate) for rate in rates])
    assert not quick(above).any()
    assert rates[1] > rates[0]


def test_without_a_target_the_largest_rate_is_the_stable_one() -> None:
    """All rates up to 99.5 % of it are accepted."""
    rates = largest_rates(CANDIDATES, MEMORY, TRAFFIC, lambda service: service.stable)
    stable = replay(CANDIDATES, MEMORY, TRAFFIC).largest_stable_rate
    assert rates == pytest.approx(0.995 * stable)


def test_a_target_nobody_meets_leaves_no_rate() -> None:
    """A TTFT of a microsecond: 0 requests/s."""
    rates = largest_rates(CANDIDATES, MEMORY, TRAFFIC, lambda service: service.ttft_s.mean <= 1e-6)
    assert rates.tolist() == [0.0, 0.0]


def test_a_closed_loop_has_no_rate_to_search() -> None:
    """The error says what has one."""
    closed = Traffic.closed(concurrency=1, input_tokens=10, output_tokens=10)
    with pytest.raises(InvalidInput, match="rate"):
        largest_rates(CANDIDATES, MEMORY, closed, lambda service: np.ones(2, dtype=bool))
