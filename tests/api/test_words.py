"""Traffic and targets in words."""

import pytest

import budsim
from budsim.api import words
from budsim.performance.traffic import Process

SIZES = {"input_tokens": 100, "output_tokens": 10}


@pytest.mark.parametrize(
    ("traffic", "text"),
    [
        (budsim.Traffic.closed(concurrency=3, **SIZES), "3 requests in flight"),
        (budsim.Traffic.at_rate(requests_per_s=2.5, **SIZES), "2.5 requests/s (poisson)"),
        (
            budsim.Traffic.at_rate(requests_per_s=1, process=Process.GAMMA, variation=2, **SIZES),
            "1 requests/s (gamma:2)",
        ),
    ],
)
def test_traffic_says_when_requests_come(traffic, text):
    """A closed loop counts requests in flight, an open one requests per second."""
    assert words.load_text(traffic) == text


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        ({}, "no targets"),
        ({"ttft_s": 0.5, "e2e_s": 3}, "mean TTFT <= 500 ms, mean end to end <= 3 s"),
        ({"tokens_per_s_per_user": 20}, "mean >= 20 tokens/s per user"),
        ({"ttft_s": 0.5, "goodput": 0.95}, "0.95 of requests within TTFT <= 500 ms"),
        (
            {"percentiles": (budsim.PercentileTarget.named("itl_p99_s", 0.05),)},
            "p99 of gap between tokens <= 50 ms",
        ),
    ],
)
def test_targets_say_whether_they_bound_a_mean(targets, text):
    """A mean, a percentile and a share of requests cannot be mistaken for each other."""
    assert words.targets_text(budsim.Targets(**targets)) == text


def test_figures_have_names():
    """The names of figures in explanations are words."""
    names = ("ttft_s", "ttft_p99_s", "good_share", "tokens_per_s_per_user")
    assert [words.figure_name(each) for each in names] == [
        "TTFT mean",
        "TTFT p99",
        "goodput",
        "tokens/s per user",
    ]
