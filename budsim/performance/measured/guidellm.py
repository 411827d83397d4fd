"""Results of GuideLLM as rows.

Read in GuideLLM ``benchmark/schemas/{report,benchmark,metrics}.py`` (report version 2, 0.7):
``benchmarks[]`` with ``config.strategy`` and
``metrics.<name>.successful.{mean,median,percentiles}``. Its ``time_per_output_token_ms`` includes
the first token; the field's TPOT is its ``inter_token_latency_ms``. ``request_latency`` is in
seconds.
"""

from __future__ import annotations

from typing import Any

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.performance.measured.result_fields import (
    Record,
    Row,
    date_of_epoch,
    failures,
    mapping,
    number,
    open_loop,
    positive,
)


def guidellm_row(record: Record) -> Row:
    """Return the row of one benchmark of a report.

    Raises
    ------
    InvalidInput
        When the report is older than version 0.3, its load was not constant, or a number is
        missing.
    """
    metrics = mapping(record, "metrics")
    totals = metrics.get("request_totals")
    completed, failed = (
        number(totals, name) if isinstance(totals, dict) else None
        for name in ("successful", "errored")
    )
    if completed is None:
        raise InvalidInput(
            "metrics.request_totals.successful",
            "is missing",
            "a GuideLLM report of version 0.3 or later",
        )
    ttft, token, latency = (
        _distribution(metrics, name)
        for name in ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency")
    )
    row: Row = {
        "source": "guidellm",
        "model": _model_of_guidellm(record),
        "input_tokens": _mean(metrics, "prompt_token_count"),
        "output_tokens": _mean(metrics, "output_token_count"),
        "mode": "serving",
        "output_tokens_per_s_total": _mean(metrics, "output_tokens_per_second"),
        "requests_per_s": _mean(metrics, "requests_per_second"),
        "n_requests": completed,
        "date": date_of_epoch(number(record, "start_time")),
        "notes": "; ".join(["imported from GuideLLM", *failures(completed, failed or 0.0)]),
    }
    row |= (
        _spread_of("ttft_ms", ttft, 1.0)
        | _spread_of("tpot_ms", token, 1.0)
        | _spread_of("e2e_ms", latency, 1.0 / MILLI)
    )
    row["e2e_latency_ms"], row["itl_ms"] = row.pop("e2e_ms_mean"), row["tpot_ms_mean"]
    return row | _load_of_guidellm(record, metrics)


def _load_of_guidellm(record: Record, metrics: Record) -> Row:
    """Return the load of a strategy; where it sets no number, the mean concurrency measured."""
    owner: Record = next(
        (
            record[name]
            for name in ("config", "args", "scheduler")
            if isinstance(record.get(name), dict)
        ),
        {},
    )
    strategy = mapping(owner, "strategy")
    kind = str(strategy.get("type_"))
    if kind == "synchronous":
        return {"concurrency": 1}
    if kind == "concurrent":
        return {"concurrency": positive(strategy, "streams")}
    if kind == "throughput":
        return {"concurrency": _mean(metrics, "request_concurrency")}
    if kind in ("constant", "poisson", "async"):
        return open_loop(positive(strategy, "rate"), _mean(metrics, "requests_per_second"), None)
    raise InvalidInput(
        "strategy",
        f"{kind!r} is no constant load",
        "synchronous, concurrent, throughput, constant or poisson",
    )


def _model_of_guidellm(record: Record) -> object:
    places = (("config", "backend"), ("report", "config", "backend"), ("report", "args"), ("args",))
    for path in places:
        found: Any = record
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        model = found.get("model") if isinstance(found, dict) else None
        if isinstance(model, str) and model:
            return model
    return None


def _distribution(metrics: Record, name: str) -> Record:
    return mapping(mapping(metrics, name), "successful")


def _mean(metrics: Record, name: str) -> float | None:
    return number(_distribution(metrics, name), "mean")


def _spread_of(column: str, values: Record, scale: float) -> Row:
    percentiles = values.get("percentiles")
    found = {"mean": number(values, "mean"), "p50": number(values, "median")}
    if isinstance(percentiles, dict):
        found |= {name: number(percentiles, name) for name in ("p90", "p99")}
    return {f"{column}_{name}": value * scale if value else None for name, value in found.items()}
