"""Results of ``vllm bench serve`` as rows.

Read in vLLM ``vllm/benchmarks/serve.py`` (``--save-result``; ``--append-result`` writes one object
a line): ``model_id``, ``date``, ``request_rate`` (a number or "inf"), ``max_concurrency``,
``completed``, ``failed``, ``total_input_tokens`` and ``total_output_tokens`` of completed requests,
``output_throughput`` (1/s), ``{mean,median,p90,p99}_{ttft,tpot,itl,e2el}_ms``.
"""

from __future__ import annotations

import math

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.result_fields import (
    Record,
    Row,
    date_of_stamp,
    failures,
    latencies,
    number,
    open_loop,
    positive,
)


def vllm_row(record: Record) -> Row:
    """Return the row of one result.

    Raises
    ------
    InvalidInput
        When it is not of text generation, its rate changed, or a number is missing.
    """
    if "total_output_tokens" not in record:
        raise InvalidInput(
            "total_output_tokens",
            "is missing: this is no benchmark of text generation",
            "one of a chat model",
        )
    if record.get("ramp_up_strategy"):
        raise InvalidInput(
            "ramp_up_strategy", "the request rate changed while it was measured", "a constant rate"
        )
    completed, failed = positive(record, "completed"), number(record, "failed") or 0.0
    notes = ["imported from vllm bench serve", *failures(completed, failed)]
    if "spec_decode_acceptance_length" in record:
        notes.append(
            f"mtp or other drafts, {number(record, 'spec_decode_acceptance_length')} tokens a step"
        )
    row: Row = {
        "source": "vllm-bench",
        "model": record.get("model_id"),
        "input_tokens": positive(record, "total_input_tokens") / completed,
        "output_tokens": positive(record, "total_output_tokens") / completed,
        "mode": "serving",
        "output_tokens_per_s_total": positive(record, "output_throughput"),
        "requests_per_s": number(record, "request_throughput"),
        "n_requests": completed,
        "date": date_of_stamp(record.get("date")),
        "notes": "; ".join(notes),
    }
    return row | _load_of_vllm(record, completed) | latencies(record, "_ms", 1.0)


def _load_of_vllm(record: Record, completed: float) -> Row:
    """Return the concurrency of a closed loop, or the rate an open one kept up with."""
    cap, rate = number(record, "max_concurrency"), record.get("request_rate")
    if rate in (None, "inf", math.inf):
        return {"concurrency": min(cap or completed, completed)}
    return open_loop(
        positive(record, "request_rate"),
        number(record, "request_throughput"),
        min(cap, completed) if cap else None,
    )
