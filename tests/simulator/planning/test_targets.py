"""Targets compare themselves with a service; the numbers can be checked in the head."""

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictions import Service
from budsim.simulator.planning.targets import Figures, PercentileTarget, Targets, figures_of

ALL = Targets(ttft_s=2.0, e2e_s=10.0, tokens_per_s_per_user=20.0)


def served(ttft_s: float, tpot_s: float, output_tokens: float = 101.0) -> Figures:
    """Return the figures of one candidate: end to end it takes TTFT and 100 times TPOT."""
    figures = {"ttft_s": ttft_s, "tpot_s": tpot_s, "output_tokens": output_tokens}
    columns = {name: np.array([value]) for name, value in figures.items()}
    return figures_of(Service(**columns, concurrency=np.ones(1)))


def test_targets_that_are_met_miss_nothing():
    """1 s, 6 s and 20 tokens/s against 2 s, 10 s and 20 tokens/s.

    Nothing is missed, the rate just so.
    """
    assert ALL.missed_by(served(1.0, 0.05)).tolist() == [0.0]
    assert ALL.ratios(served(1.0, 0.05))[:, 0].tolist() == pytest.approx([0.5, 0.6, 1.0])


def test_the_miss_is_the_mean_of_the_relative_misses():
    """3 s against 2 s misses by 0.5, 13 s against 10 s by 0.3, 10 tokens/s against 20 by 0.5."""
    assert ALL.missed_by(served(3.0, 0.1)) == pytest.approx((0.5 + 0.3 + 0.5) / 3)


def test_a_margin_says_how_much_worse_a_figure_may_get():
    """1 s against 2 s may double; 6 s against 10 s may grow by two thirds.

    20 tokens/s may not fall.
    """
    margins = ALL.margins(served(1.0, 0.05), 0)
    assert margins == pytest.approx({"ttft_s": 1.0, "e2e_s": 2 / 3, "tokens_per_s_per_user": 0.0})


def test_misses_are_told_the_largest_first():
    """3 s against 2 s is a factor of 1.5, 10 tokens/s against 20 a factor of 2.

    8 s against 10 s is none.
    """
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


P99 = PercentileTarget.named("ttft_p99_s", 0.5)


def test_a_percentile_is_compared_with_its_own_figure():
    """A p99 of 0.8 s against 0.5 s misses by 0.6, whatever the mean is."""
    targets = Targets(percentiles=(P99,))
    figures = {"ttft_s": np.array([0.1]), "ttft_p99_s": np.array([0.8])}
    assert targets.given == ("ttft_p99_s",)
    assert targets.missed_by(figures) == pytest.approx(0.6)
    (words,) = targets.misses(targets.margins(figures, 0))
    assert words == "TTFT p99 0.8 s against 0.5 s (a factor of 1.60)"


def test_with_a_goodput_limits_are_those_of_single_requests():
    """90 % good requests against 99 % miss; the mean of TTFT no longer counts."""
    targets = Targets(ttft_s=1.0, goodput=0.99)
    figures = {"ttft_s": np.array([5.0]), "good_share": np.array([0.9])}
    assert targets.given == ("good_share",)
    assert targets.missed_by(figures) == pytest.approx(1 - 0.9 / 0.99)


def test_a_gap_that_everything_meets_bounds_no_rate():
    """A limit of 1e27 s between tokens is no error of the rate it would make."""
    gaps = PercentileTarget(latency="itl", percent=99, limit_s=1e27)
    assert Targets(percentiles=(gaps,)).on_means(output_tokens=100.0) == Targets()


def test_means_are_bounded_by_the_percentiles_above_them():
    """A p99 of TTFT bounds its mean, a p50 does not; gaps of 0.05 s are 20 tokens/s."""
    half = PercentileTarget.named("e2e_p50_s", 9.0)
    gaps = PercentileTarget.named("itl_p95_s", 0.05)
    means = Targets(ttft_s=2.0, percentiles=(P99, half, gaps)).on_means(output_tokens=100.0)
    assert means == Targets(ttft_s=0.5, tokens_per_s_per_user=20.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"goodput": 0.99},
        {"ttft_s": 1.0, "goodput": 1.5},
        {"ttft_s": 1.0, "goodput": 0.0},
        {"percentiles": (P99, P99)},
        {"percentiles": (P99, PercentileTarget.named("ttft_p50_s", 0.6))},
    ],
    ids=["no limit", "above 1", "nothing", "twice", "p50 above p99"],
)
def test_targets_that_contradict_themselves_are_refused(wrong):
    """A goodput of nothing, a share above 1 or of 0, one figure twice.

    A median allowed to be later than the p99.
    """
    with pytest.raises(InvalidInput):
        Targets(**wrong)


@pytest.mark.parametrize("name", ["ttft_p98_s", "ttft_s", "wait_p99_s", "ttft_p99_ms"])
def test_unknown_percentiles_are_refused(name):
    """Only latencies the replay measures, at the percentiles it tells."""
    with pytest.raises(InvalidInput):
        PercentileTarget.named(name, 1.0)


def test_a_goodput_of_nothing_is_told_without_a_factor():
    """No request within the limits misses by no finite factor."""
    targets = Targets(ttft_s=1.0, goodput=0.95)
    figures = {"ttft_s": np.array([5.0]), "good_share": np.array([0.0])}
    margins = targets.margins(figures, 0)
    assert targets.misses(margins) == ["0.0% of the requests within the limits against 0.95"]
