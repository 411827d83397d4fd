"""A running server's own metrics become a row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.server_metrics import (
    Histogram,
    Window,
    is_scrape,
    metrics_row,
    read_scrape,
)


def exported(requests: int, model: str = "Qwen/Qwen3-8B") -> str:
    """Return what vLLM exports after equal requests.

    Of each: 1000 prompt tokens, half of them cached, 101 output tokens, 0.2 s to the first, 10 ms
    each later, so 1.2 s.
    """
    label = f'{{engine="0",model_name="{model}"}}'
    lines = [f"process_start_time_seconds {1_000_000.0}"]
    for name, count, seconds, bounds in (
        ("time_to_first_token", requests, 0.2, (0.1, 0.3)),
        ("inter_token_latency", 100 * requests, 0.01, (0.005, 0.015)),
        ("e2e_request_latency", requests, 1.2, (1.0, 2.0)),
    ):
        metric = f"vllm:{name}_seconds"
        lines += [f"# TYPE {metric} histogram"]
        low, high = bounds
        for bound, value in ((low, 0), (high, count), ("+Inf", count)):
            lines.append(f'{metric}_bucket{label[:-1]},le="{bound}"}} {float(value)}')
        lines += [f"{metric}_count{label} {count}", f"{metric}_sum{label} {count * seconds}"]
    for name, each in (("prompt", 1000), ("generation", 101)):
        lines += [f"# TYPE vllm:{name}_tokens counter"]
        lines += [f"vllm:{name}_tokens_total{label} {float(each * requests)}"]
    lines += ["# TYPE vllm:prefix_cache_hits counter"]
    lines += [f"vllm:prefix_cache_hits_total{label} {500.0 * requests}"]
    return "\n".join(lines) + "\n"


def test_two_scrapes_tell_of_the_time_between_them() -> None:
    """100 requests of 1.2 s in 60 s are 2 in flight; half of each prompt was cached."""
    before, after = read_scrape(exported(100), at_s=1000), read_scrape(exported(200), at_s=1060)
    row = metrics_row(Window(after=after, before=before))
    assert row["concurrency"] == pytest.approx(2.0)
    assert (row["ttft_ms_mean"], row["tpot_ms_mean"]) == pytest.approx((200.0, 10.0))
    assert row["e2e_latency_ms"] == pytest.approx(1200.0)
    assert (row["input_tokens"], row["output_tokens"]) == pytest.approx((1000, 101))
    assert row["prefix_hit_share"] == pytest.approx(0.5)
    assert (row["engine"], row["model"]) == ("vllm", "Qwen/Qwen3-8B")


def test_one_scrape_tells_of_all_since_the_start() -> None:
    """100 requests of 1.2 s in 120 s are one in flight."""
    row = metrics_row(Window(after=read_scrape(exported(100), at_s=1_000_120)))
    assert row["concurrency"] == pytest.approx(1.0)
    assert "idle time included" in str(row["notes"])


def test_quantiles_are_linear_inside_a_bucket() -> None:
    """10 requests up to 1 s and 10 more up to 2 s: three quarters lie below 1.5 s."""
    histogram = Histogram(buckets={1.0: 10.0, 2.0: 20.0, float("inf"): 20.0}, total=25.0, count=20)
    assert histogram.quantile(0.75) == pytest.approx(1.5)
    assert histogram.quantile(0.5) == pytest.approx(1.0)
    beyond = replace(histogram, buckets={1.0: 10.0, float("inf"): 20.0})
    assert beyond.quantile(0.9) == pytest.approx(1.0)


def test_what_cannot_be_a_row_says_why() -> None:
    """A restart, too few requests, several models, and texts of no engine."""
    few, many = read_scrape(exported(10), at_s=1000), read_scrape(exported(200), at_s=1060)
    with pytest.raises(InvalidInput, match="started again"):
        metrics_row(Window(after=few, before=many))
    with pytest.raises(InvalidInput, match="10 ended"):
        metrics_row(Window(after=replace(few, start_s=900.0)))
    with pytest.raises(InvalidInput, match="several models"):
        read_scrape(exported(10) + exported(10, "other"), at_s=0)
    assert not is_scrape("up 1\n")
    with pytest.raises(InvalidInput, match="/metrics"):
        read_scrape("up 1\n", at_s=0)
