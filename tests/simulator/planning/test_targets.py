"""Targets compare themselves with a service; the numbers can be checked in the head."""

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictions import Service
from budsim.simulator.planning.targets import Targets

ALL = Targets(ttft_s=2.0, e2e_s=10.0, tokens_per_s_per_user=20.0)


def served(ttft_s: float, tpot_s: float, output_tokens: float = 101.0) -> Service:
    """Return the service of one candidate: end to end it takes TTFT and 100 times TPOT."""
    figures = {"ttft_s": ttft_s, "tpot_s": tpot_s, "output_tokens": output_tokens}
    return Service(
        **{name: np.array([value]) for name, value in figures.items()}, concurrency=np.ones(1)
    )


def test_targets_that_are_met_miss_nothing():
    """1 s, 6 s and 20 tokens/s against 2 s, 10 s and 20 tokens/s: nothing is missed, the rate just so."""
    assert ALL.missed_by(served(1.0, 0.05)).tolist() == [0.0]
    assert ALL.ratios(served(1.0, 0.05))[:, 0].tolist() == pytest.approx([0.5, 0.6, 1.0])


def test_the_miss_is_the_mean_of_the_relative_misses():
    """3 s against 2 s misses by 0.5, 13 s against 10 s by 0.3, 10 tokens/s against 20 by 0.5."""
    assert ALL.missed_by(served(3.0, 0.1)) == pytest.approx((0.5 + 0.3 + 0.5) / 3)


def test_a_margin_says_how_much_worse_a_figure_may_get():
    """1 s against 2 s may double; 6 s against 10 s may grow by two thirds; 20 tokens/s may not fall."""
    margins = ALL.margins(served(1.0, 0.05), 0)
    assert margins == pytest.approx({"ttft_s": 1.0, "e2e_s": 2 / 3, "tokens_per_s_per_user": 0.0})


def test_misses_are_told_the_largest_first():
    """3 s against 2 s is a factor of 1.5, 10 tokens/s against 20 a factor of 2; 8 s against 10 s is none."""
    service = served(3.0, 0.1, output_tokens=51.0)
    first, second = ALL.misses(ALL.margins(service, 0))
    assert first == "tokens/s per user 10 against 20 (a factor of 2.00)"
    assert second == "TTFT 3 s against 2 s (a factor of 1.50)"


@pytest.mark.parametrize("nothing", [None, 0.0])
def test_none_and_zero_are_no_target(nothing):
    """Without a target nothing is missed, and there is nothing to compare."""
    targets = Targets(ttft_s=nothing)
    assert not targets
    assert targets.given == ()
    assert targets.missed_by(served(9.0, 9.0)).tolist() == [0.0]
    assert targets.ratios(served(9.0, 9.0)).shape == (0, 1)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_target_out_of_range_is_refused_by_name(value):
    """A negative, infinite or undefined target never becomes a `Targets`."""
    with pytest.raises(InvalidInput, match="e2e_s"):
        Targets(e2e_s=value)


def test_a_rate_alone_bounds_no_latency():
    """Requests may queue for ever where only the tokens per second of a running one are bounded."""
    assert not Targets(tokens_per_s_per_user=5.0).bound_latency
    assert Targets(ttft_s=5.0).bound_latency
