"""Numbers, dates and loads out of result files."""

from __future__ import annotations

import math

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.result_fields import (
    as_text,
    date_of_epoch,
    date_of_stamp,
    failures,
    latencies,
    mapping,
    number,
    open_loop,
    positive,
)


@pytest.mark.parametrize("value", ["many", -1, math.inf, math.nan, True, [1]])
def test_what_is_no_positive_number_is_an_error(value: object) -> None:
    """Text, negative numbers, infinities, nan, booleans and lists name their field."""
    with pytest.raises(InvalidInput, match="conc"):
        number({"conc": value}, "conc")


def test_a_missing_number_is_none_unless_it_is_needed() -> None:
    """Blank is unknown; where it is needed, blank and 0 are errors."""
    assert number({}, "conc") is None
    assert number({"conc": "4"}, "conc") == 4.0
    for record in ({}, {"conc": 0}):
        with pytest.raises(InvalidInput, match="missing or 0"):
            positive(record, "conc")


def test_an_object_is_needed_where_one_is_read() -> None:
    """A list in the place of an object is named."""
    assert mapping({"metrics": {"a": 1}}, "metrics") == {"a": 1}
    with pytest.raises(InvalidInput, match="not a JSON object"):
        mapping({"metrics": []}, "metrics")


def test_dates_are_iso_or_unknown() -> None:
    """A stamp of 31 January 2026 and seconds since 1970; nonsense is None."""
    assert date_of_stamp("20260131-120000") == "2026-01-31"
    assert date_of_stamp("yesterday") is None
    assert date_of_epoch(86_400.0) == "1970-01-02"
    assert date_of_epoch(1e30) is None


@pytest.mark.parametrize(
    ("served", "cap", "load"),
    [
        (9.0, None, {"request_rate": 10.0}),
        (None, None, {"request_rate": 10.0}),
        (8.9, 32.0, {"concurrency": 32.0}),
    ],
)
def test_a_rate_is_a_rate_where_the_server_kept_up(
    served: float | None, cap: float | None, load: dict[str, float]
) -> None:
    """Nine tenths of 10/s served is a rate; less was held back by the cap."""
    assert open_loop(10.0, served, cap) == load


def test_a_queue_that_grew_is_no_measurement() -> None:
    """8 of 10 requests a second served and no cap."""
    with pytest.raises(InvalidInput, match="queue grew"):
        open_loop(10.0, 8.0, None)


def test_few_failures_are_noted_and_many_refused() -> None:
    """5 of 100 are a note, 6 of 100 an error."""
    assert failures(95, 5) == ["5 of 100 requests failed"]
    with pytest.raises(InvalidInput, match="6%"):
        failures(94, 6)


def test_latencies_are_scaled_to_milliseconds() -> None:
    """0.25 s of mean TTFT is 250 ms; what is missing stays unknown."""
    row = latencies({"mean_ttft": 0.25}, "", 1000.0)
    assert row["ttft_ms_mean"] == 250.0
    assert row["tpot_ms_mean"] is None


def test_cells_are_short() -> None:
    """Ten digits, and nothing for None."""
    assert [as_text(value) for value in (None, 1 / 3, 7, "a")] == ["", "0.3333333333", "7", "a"]
