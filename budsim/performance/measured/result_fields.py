"""Numbers, distributions and dates out of the JSON that benchmark programs write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from budsim.commons.errors import InvalidInput

Record = Mapping[str, Any]
Row = dict[str, object]

# With more failed requests the server was in trouble: not a measurement of its configuration.
LARGEST_FAILED_SHARE = 0.05

# An open loop that completes a smaller share of its rate was held back, by its cap on concurrency
# or by saturation.
KEPT_UP_SHARE = 0.9


def mapping(record: Record, name: str) -> Record:
    """Return an object inside a record.

    Raises
    ------
    InvalidInput
        When it is missing or not an object.
    """
    found = record.get(name)
    if not isinstance(found, dict):
        raise InvalidInput(
            name,
            "is missing" if found is None else "is not a JSON object",
            "a result file as it was written",
        )
    return found


def positive(record: Record, name: str) -> float:
    """Return a number above 0.

    Raises
    ------
    InvalidInput
        When it is missing, 0, or not a number.
    """
    value = number(record, name)
    if value is None or value <= 0:
        raise InvalidInput(name, "is missing or 0", "a positive number")
    return value


def number(record: Record, name: str) -> float | None:
    """Return a number of at least 0, None where it is missing.

    Raises
    ------
    InvalidInput
        When it is not such a number.
    """
    value = record.get(name)
    if value is None:
        return None
    try:
        number = (
            float(value)
            if isinstance(value, int | float | str) and not isinstance(value, bool)
            else math.nan
        )
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise InvalidInput(
            name, f"{str(value)[:40]!r} is not a positive number", "what the program wrote"
        )
    return number


def whole(value: float | None) -> int | None:
    """Return a number without its fraction."""
    return None if value is None else int(value)


def date_of_stamp(stamp: object) -> str | None:
    """Return the date of a stamp such as 20260131-120000, None for anything else."""
    try:
        return datetime.strptime(str(stamp), "%Y%m%d-%H%M%S").replace(tzinfo=UTC).date().isoformat()
    except ValueError:
        return None


def date_of_epoch(seconds: float | None) -> str | None:
    """Return the date of seconds since 1970, None where they are none."""
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def as_text(value: object) -> str:
    """Return a value as a cell of a CSV file."""
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def failures(completed: float, failed: float) -> list[str]:
    """Return a note on failed requests.

    Raises
    ------
    InvalidInput
        When none was completed, or more than `LARGEST_FAILED_SHARE` failed.
    """
    if not completed:
        raise InvalidInput(
            "completed", "no request was completed", "a run in which requests succeed"
        )
    share = failed / (completed + failed)
    if share > LARGEST_FAILED_SHARE:
        raise InvalidInput(
            "failed", f"{share:.0%} of the requests failed", f"at most {LARGEST_FAILED_SHARE:.0%}"
        )
    return [f"{failed:g} of {completed + failed:g} requests failed"] if failed else []


def open_loop(rate: float, served: float | None, cap: float | None) -> Row:
    """Return the rate where the server kept up with it, else the cap that held requests back.

    Raises
    ------
    InvalidInput
        When the server did not keep up and there was no cap: the queue grew all along.
    """
    if served is None or served >= KEPT_UP_SHARE * rate:
        return {"request_rate": rate}
    if cap:
        return {"concurrency": cap}
    raise InvalidInput(
        "request_rate",
        f"{rate:g}/s is more than was served: the queue grew all along",
        "a rate it can serve",
    )


def latencies(record: Record, ending: str, scale: float) -> Row:
    """Return TTFT, TPOT, ITL and end-to-end latency in milliseconds.

    Keys are such as ``mean_ttft`` and ``ending``; values times ``scale`` are milliseconds.
    """

    def read(statistic: str, metric: str) -> float | None:
        """Return one statistic of one latency in milliseconds; None if it is absent or zero."""
        value = number(record, f"{statistic}_{metric}{ending}")
        return value * scale if value else None

    row: Row = {}
    for metric, column in (("ttft", "ttft_ms"), ("tpot", "tpot_ms"), ("e2el", "e2e_ms")):
        for statistic, name in (
            ("mean", "mean"),
            ("median", "p50"),
            ("p90", "p90"),
            ("p99", "p99"),
        ):
            row[f"{column}_{name}"] = read(statistic, metric)
    row["e2e_latency_ms"], row["itl_ms"] = row.pop("e2e_ms_mean"), read("mean", "itl")
    return row
