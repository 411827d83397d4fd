"""Results of ``sglang.bench_serving`` as rows.

Read in SGLang 0.5.23 ``benchmark/serving.py`` (``--output-file``; one object a line): the fields of
``vllm bench serve`` with ``{mean,median,p90,p99}_e2e_latency_ms``, ``backend``, ``accept_length``
and what the server's ``/server_info`` says of itself.
"""

from __future__ import annotations

import math

from budsim.performance.measured.result_fields import (
    Record,
    Row,
    failures,
    latencies,
    number,
    open_loop,
    positive,
    whole,
)

# Engines by the first word of the benchmark's backend.
ENGINES = {"sglang": "sglang", "vllm": "vllm", "lmdeploy": "lmdeploy", "trt": "trtllm"}


def sglang_row(record: Record) -> Row:
    """Return the row of one result.

    Raises
    ------
    InvalidInput
        When no request was completed, the server did not keep up with the rate, or a number is
        missing.
    """
    completed = positive(record, "completed")
    row: Row = {
        "source": "sglang-bench",
        "engine": ENGINES.get(str(record.get("backend")).split("-")[0]),
        "input_tokens": positive(record, "total_input_tokens") / completed,
        "output_tokens": positive(record, "total_output_tokens") / completed,
        "mode": "serving",
        "output_tokens_per_s_total": positive(record, "output_throughput"),
        "requests_per_s": number(record, "request_throughput"),
        "n_requests": completed,
        "length_law": _length_law(record),
        "prefix_hit_share": _cached_share(record),
        "notes": "; ".join(_notes(record, completed)),
    }
    return row | _server(record) | _load(record, completed) | _latencies(record)


def _server(record: Record) -> Row:
    """Return what the server said of itself; SGLang's ``tp_size`` counts its attention ranks."""
    info = record.get("server_info")
    if not isinstance(info, dict):
        return {}
    attention = bool(info.get("enable_dp_attention"))
    return {
        "model": info.get("model_path"),
        "engine_version": info.get("version"),
        "tp": whole(number(info, "tp_size")),
        "pp": whole(number(info, "pp_size")),
        "ep": whole(number(info, "ep_size")),
        "dp": whole(number(info, "dp_size")),
        "n_devices": whole(number(info, "tp_size")) if attention else None,
    }


def _load(record: Record, completed: float) -> Row:
    """Return the concurrency of a closed loop, or the rate an open one kept up with."""
    cap, rate = number(record, "max_concurrency"), record.get("request_rate")
    if rate in (None, "inf", math.inf):
        return {"concurrency": min(cap or completed, completed)}
    if rate == "trace":
        return {"request_rate": positive(record, "request_throughput")}
    return open_loop(
        positive(record, "request_rate"),
        number(record, "request_throughput"),
        min(cap, completed) if cap else None,
    )


def _latencies(record: Record) -> Row:
    """Return the times; end-to-end latencies have a longer name than vLLM's."""
    renamed = {name.replace("_e2e_latency_ms", "_e2el_ms"): value for name, value in record.items()}
    return latencies(renamed, "_ms", 1.0)


def _length_law(record: Record) -> str | None:
    """Return the law of random lengths: from ``random_range_ratio`` of the longest upwards."""
    if not str(record.get("dataset_name")).startswith("random"):
        return None
    return {0.0: "uniform", 1.0: "fixed"}.get(number(record, "random_range_ratio") or 0.0)


def _cached_share(record: Record) -> float | None:
    report = record.get("cache_report")
    rate = number(report, "cache_hit_rate_pct") if isinstance(report, dict) else None
    return None if rate is None else rate / 100.0


def _notes(record: Record, completed: float) -> list[str]:
    notes = ["imported from sglang.bench_serving", *failures(completed, 0.0)]
    accepted = number(record, "accept_length")
    if accepted and accepted > 1.0:
        notes.append(f"mtp or other drafts, {accepted:g} tokens a step")
    return notes
