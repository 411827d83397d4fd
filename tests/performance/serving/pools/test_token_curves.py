"""Tabulated times between tokens."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.performance.serving.pools.pool_times import decode_ranks, token_time
from budsim.performance.serving.pools.token_curves import TokenCurves, token_curves
from tests.performance.populations import population


def test_between_two_loads_is_a_straight_line() -> None:
    """10 ms at 8 sequences and 12 ms at 16 make 11 ms at 12."""
    curves = TokenCurves(loads=np.array([8.0, 16.0]), seconds=np.array([[0.010, 0.012]]))
    assert curves.of(np.array([0]))(np.array([12.0])) == pytest.approx([0.011])


def test_the_table_is_within_a_percent_of_physics() -> None:
    """At loads between those that were tabulated, of two layouts."""
    workers = population(tp=[4, 8], input_tokens=4000.0, output_tokens=500.0, concurrency=64.0)
    curves, ranks = token_curves(workers, most=512.0), decode_ranks(workers)
    for load in (1.0, 7.0, 90.0, 300.0, 512.0):
        running = np.full(2, load)
        told = curves.of(np.arange(2))(running)
        assert told == pytest.approx(token_time(ranks, running), rel=0.01)
