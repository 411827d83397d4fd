"""Results of AIPerf become rows, of its JSON and of its CSV."""

from __future__ import annotations

from typing import Any

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.aiperf import aiperf_row, read_csv_export

EXPORT: dict[str, Any] = {
    "request_throughput": {"unit": "requests/sec", "avg": 4.0},
    "request_latency": {"unit": "ms", "avg": 4000.0, "p50": 3900.0, "p99": 5000.0},
    "request_count": {"unit": "requests", "avg": 80},
    "time_to_first_token": {"unit": "ms", "avg": 120.0, "p50": 100.0, "p90": 150.0, "p99": 200.0},
    "inter_token_latency": {"unit": "ms", "avg": 19.5, "p50": 19.0, "p99": 22.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 800.0},
    "output_sequence_length": {"unit": "tokens", "avg": 200.0},
    "input_sequence_length": {"unit": "tokens", "avg": 1000.0},
    "input_config": {
        "endpoint": {"model_names": ["Qwen/Qwen3-8B"]},
        "loadgen": {"concurrency": 16},
    },
    "was_cancelled": False,
    "start_time": "2026-02-14T10:00:00",
}
CSV = """Metric,avg,min,max,p50,p90,p99,std
Input Sequence Length (tokens),1000.00,1000,1000,1000,1000,1000,0
Inter Token Latency (ms),19.50,18,23,19.00,21.0,22.00,1
Output Sequence Length (tokens),200.00,200,200,200,200,200,0
Request Latency (ms),4000.00,3800,5100,3900.00,4500,5000.00,100
Time to First Token (ms),120.00,80,210,100.00,150.00,200.00,20

Metric,Value
Output Token Throughput (tokens/sec),800.00
Request Count (requests),80.00
Request Throughput (requests/sec),4.00
"""


def test_the_inter_token_latency_is_the_tpot() -> None:
    """Milliseconds stay milliseconds, and 16 clients are 16 requests in flight."""
    row = aiperf_row(EXPORT)
    assert (row["ttft_ms_mean"], row["ttft_ms_p90"], row["tpot_ms_mean"]) == (120, 150, 19.5)
    assert (row["e2e_latency_ms"], row["e2e_ms_p99"], row["concurrency"]) == (4000, 5000, 16)
    assert (row["model"], row["date"], row["n_requests"]) == ("Qwen/Qwen3-8B", "2026-02-14", 80)


def test_the_csv_tells_the_same_and_its_load_follows_from_littles_law() -> None:
    """4 requests/s of 4 s are 16 in flight."""
    row = aiperf_row(read_csv_export(CSV))
    same = ("input_tokens", "output_tokens", "ttft_ms_mean", "tpot_ms_p99", "concurrency")
    assert {name: row[name] for name in same} == {name: aiperf_row(EXPORT)[name] for name in same}
    assert "derived: concurrency" in str(row["notes"])


def test_seconds_become_milliseconds() -> None:
    """0.12 s to the first token are 120 ms."""
    latency = {"unit": "sec", "avg": 0.12}
    assert aiperf_row({**EXPORT, "time_to_first_token": latency})["ttft_ms_mean"] == 120


@pytest.mark.parametrize(
    "changed", [{"was_cancelled": True}, {"error_request_count": {"avg": 20}}], ids=str
)
def test_cancelled_and_failing_runs_are_refused(changed: dict[str, object]) -> None:
    """A fifth of failures is a server in trouble."""
    with pytest.raises(InvalidInput):
        aiperf_row({**EXPORT, **changed})
