"""Results of ``sglang.bench_serving`` become rows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.sglang_bench import sglang_row

RESULT: dict[str, Any] = {
    "backend": "sglang",
    "dataset_name": "random",
    "request_rate": math.inf,
    "max_concurrency": 16,
    "random_range_ratio": 0.0,
    "server_info": {"model_path": "Qwen/Qwen3-8B", "version": "0.5.23", "tp_size": 2},
    "completed": 80,
    "total_input_tokens": 80_000,
    "total_output_tokens": 16_000,
    "total_output_tokens_retokenized": 15_990,
    "request_throughput": 4.0,
    "output_throughput": 800.0,
    "mean_e2e_latency_ms": 4000.5,
    "mean_ttft_ms": 120.0,
    "median_ttft_ms": 100.0,
    "p99_ttft_ms": 200.0,
    "mean_tpot_ms": 19.5,
    "mean_itl_ms": 19.6,
    "accept_length": None,
}


def test_means_are_of_completed_requests_and_the_server_names_itself() -> None:
    """80 requests of 80,000 prompt and 16,000 output tokens are 1000 + 200 each."""
    row = sglang_row(RESULT)
    assert (row["input_tokens"], row["output_tokens"], row["concurrency"]) == (1000, 200, 16)
    assert (row["ttft_ms_mean"], row["tpot_ms_mean"], row["e2e_latency_ms"]) == (120, 19.5, 4000.5)
    assert (row["engine"], row["engine_version"], row["tp"]) == ("sglang", "0.5.23", 2)
    assert (row["model"], row["length_law"]) == ("Qwen/Qwen3-8B", "uniform")


def test_attention_ranks_are_among_the_tensor_ranks() -> None:
    """SGLang's tp 8 with dp 8 is eight devices."""
    info = {"tp_size": 8, "dp_size": 8, "enable_dp_attention": True}
    row = sglang_row({**RESULT, "server_info": info})
    assert (row["tp"], row["dp"], row["n_devices"]) == (8, 8, 8)


def test_drafts_and_cached_prompts_are_told() -> None:
    """An accept length above 1 is speculative decoding; 40 % hits are a share of 0.4."""
    row = sglang_row({**RESULT, "accept_length": 2.5, "cache_report": {"cache_hit_rate_pct": 40.0}})
    assert "mtp" in str(row["notes"])
    assert row["prefix_hit_share"] == pytest.approx(0.4)


def test_a_rate_the_server_did_not_keep_up_with_is_refused() -> None:
    """8 requests/s of which 4 were served: the queue grew all along."""
    with pytest.raises(InvalidInput, match="request_rate"):
        sglang_row({**RESULT, "request_rate": 8.0, "max_concurrency": None})
