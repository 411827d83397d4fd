"""Results of GuideLLM."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.guidellm import guidellm_row


def distribution(mean: float) -> dict[str, object]:
    """Return what a report says of one metric."""
    return {"successful": {"mean": mean, "median": mean, "percentiles": {"p99": 2 * mean}}}


METRICS = {
    "request_totals": {"successful": 100, "errored": 0},
    "prompt_token_count": distribution(500.0),
    "output_token_count": distribution(100.0),
    "time_to_first_token_ms": distribution(50.0),
    "inter_token_latency_ms": distribution(10.0),
    "request_latency": distribution(1.5),
    "request_concurrency": distribution(7.0),
    "requests_per_second": distribution(4.9),
    "output_tokens_per_second": distribution(490.0),
}


def record(**strategy: object) -> dict[str, object]:
    """Return one benchmark of a report."""
    return {"metrics": METRICS, "config": {"strategy": strategy}}


def test_seconds_and_milliseconds_are_told_apart() -> None:
    """Latency is in seconds, the rest in milliseconds."""
    row = guidellm_row(record(type_="synchronous"))
    assert (row["ttft_ms_mean"], row["tpot_ms_mean"], row["e2e_latency_ms"]) == (50, 10, 1500)
    assert row["ttft_ms_p99"] == 100


@pytest.mark.parametrize(
    ("strategy", "load"),
    [
        ({"type_": "synchronous"}, {"concurrency": 1}),
        ({"type_": "concurrent", "streams": 16}, {"concurrency": 16}),
        ({"type_": "throughput"}, {"concurrency": 7.0}),
        ({"type_": "constant", "rate": 5.0}, {"request_rate": 5.0}),
    ],
)
def test_a_strategy_is_a_load(strategy: dict[str, object], load: dict[str, float]) -> None:
    """One request, streams, what was measured, or a rate the server kept up with."""
    row = guidellm_row(record(**strategy))
    assert all(row[name] == value for name, value in load.items())


def test_a_changing_load_is_refused() -> None:
    """A sweep has no constant load."""
    with pytest.raises(InvalidInput, match="strategy"):
        guidellm_row(record(type_="sweep"))
