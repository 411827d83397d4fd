"""Results of AIPerf and GenAI-Perf as rows.

Read in AIPerf ``exporters/json_exporter.py`` and ``exporters/csv_exporter.py``:
``profile_export_aiperf.json`` holds one object with ``{avg,p50,p90,p99}`` and a unit for each
metric and the ``input_config`` of the run; the CSV holds the same metrics in two sections, one with
percentiles and one with single values, and no configuration. Its inter-token latency of a request
is (latency - TTFT) / (output tokens - 1), the field's TPOT.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.result_fields import (
    Record,
    Row,
    failures,
    mapping,
    number,
    open_loop,
    positive,
)

# First cell of the CSV export.
CSV_HEADER = "Metric"

# Milliseconds in the units the exports name.
MS = {"ms": 1.0, "sec": 1e3, "s": 1e3, "us": 1e-3, "ns": 1e-6}


def is_aiperf(record: Record) -> bool:
    """Return whether a JSON object is such an export."""
    return isinstance(record.get("request_latency"), dict) and "input_sequence_length" in record


def aiperf_row(record: Record) -> Row:
    """Return the row of one export.

    Raises
    ------
    InvalidInput
        When the run was cancelled, too many requests failed, or a number is missing.
    """
    if record.get("was_cancelled"):
        raise InvalidInput("was_cancelled", "the run was cancelled", "a whole run")
    completed = positive(mapping(record, "request_count"), "avg")
    failed = _average(record, "error_request_count") or 0.0
    served = _average(record, "request_throughput")
    row: Row = {
        "source": "aiperf",
        "model": _model(record),
        "input_tokens": positive(mapping(record, "input_sequence_length"), "avg"),
        "output_tokens": positive(mapping(record, "output_sequence_length"), "avg"),
        "mode": "serving",
        "output_tokens_per_s_total": _average(record, "output_token_throughput"),
        "requests_per_s": served,
        "n_requests": completed,
        "date": str(record.get("start_time") or "")[:10] or None,
        "notes": "; ".join(["imported from AIPerf", *failures(completed, failed)]),
    }
    for metric, column in (
        ("time_to_first_token", "ttft_ms"),
        ("inter_token_latency", "tpot_ms"),
        ("request_latency", "e2e_ms"),
    ):
        row |= _spread(record, metric, column)
    row["e2e_latency_ms"], row["itl_ms"] = row.pop("e2e_ms_mean"), row["tpot_ms_mean"]
    return row | _load(record, row, served)


def read_csv_export(text: str) -> dict[str, Any]:
    """Return a CSV export in the form of the JSON one, without a configuration.

    ``Time to First Token (ms)`` becomes ``time_to_first_token`` with its unit.
    """
    record: dict[str, Any] = {}
    header: list[str] = []
    for cells in csv.reader(text.splitlines()):
        if not cells or not cells[0]:
            continue
        if cells[0] == CSV_HEADER:
            header = [{"Value": "avg"}.get(name, name) for name in cells]
            continue
        name, _, unit = cells[0].rstrip(")").partition(" (")
        values = dict(zip(header[1:], cells[1:], strict=False))
        stated = {key: value for key, value in values.items() if value}
        record[name.strip().lower().replace(" ", "_")] = {**stated, "unit": unit}
    return record


def _average(record: Record, name: str) -> float | None:
    found = record.get(name)
    return number(found, "avg") if isinstance(found, dict) else None


def _spread(record: Record, metric: str, column: str) -> Row:
    found = record.get(metric)
    values: Mapping[str, Any] = found if isinstance(found, dict) else {}
    scale = MS.get(str(values.get("unit", "ms")), 1.0)
    named = {"mean": "avg", "p50": "p50", "p90": "p90", "p99": "p99"}
    read = {name: number(values, key) for name, key in named.items()}
    return {f"{column}_{name}": value * scale if value else None for name, value in read.items()}


def _section(record: Record, name: str) -> Record:
    """Return a part of the run's configuration; empty where there is none."""
    config = record.get("input_config")
    found = config.get(name) if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def _model(record: Record) -> object:
    names = _section(record, "endpoint").get("model_names")
    return names[0] if isinstance(names, list) and names else None


def _load(record: Record, row: Row, served: float | None) -> Row:
    """Return the load set; a CSV says none: Little's law gives the requests in flight."""
    options = _section(record, "loadgen")
    cap, rate = number(options, "concurrency"), number(options, "request_rate")
    if rate:
        return open_loop(rate, served, cap)
    if cap:
        return {"concurrency": cap}
    latency = row["e2e_latency_ms"]
    if served and isinstance(latency, float):
        in_flight = max(round(served * latency / 1e3), 1)
        derived = f"{row['notes']}; derived: concurrency, from requests/s and latency"
        return {"concurrency": in_flight, "notes": derived}
    raise InvalidInput("concurrency", "the file does not say it", "the JSON export")
