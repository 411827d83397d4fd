"""Results of vllm bench serve."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.vllm_bench import vllm_row

RECORD = {
    "completed": 100,
    "total_input_tokens": 50_000,
    "total_output_tokens": 10_000,
    "output_throughput": 200.0,
    "request_throughput": 2.0,
    "max_concurrency": 8,
    "request_rate": "inf",
    "mean_ttft_ms": 120.0,
}


def test_lengths_are_means_of_completed_requests() -> None:
    """50,000 and 10,000 tokens of 100 requests: 500 and 100 each, eight in flight."""
    row = vllm_row(RECORD)
    assert (row["input_tokens"], row["output_tokens"], row["concurrency"]) == (500, 100, 8)
    assert row["ttft_ms_mean"] == 120.0


def test_a_cap_beyond_the_requests_is_no_cap() -> None:
    """100 requests under a cap of 500 were 100 in flight."""
    assert vllm_row({**RECORD, "max_concurrency": 500})["concurrency"] == 100


@pytest.mark.parametrize(
    ("change", "field"),
    [({"ramp_up_strategy": "linear"}, "ramp_up"), ({"total_output_tokens": 0}, "output_tokens")],
)
def test_what_is_no_steady_generation_is_refused(change: dict[str, object], field: str) -> None:
    """A rate that changed, and runs that generate nothing, name the field."""
    with pytest.raises(InvalidInput, match=field):
        vllm_row({**RECORD, **change})
