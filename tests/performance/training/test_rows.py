"""Which rows teach, and what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.training.fit import train
from budsim.performance.training.rows import training_rows, usable_rows


def test_throughput_teaches_tpot(benchmark: pd.DataFrame) -> None:
    """A row that reports only throughput has the TPOT that Little's law and its TTFT leave.

    Here 16 x 256 / 1000 s in all.
    """
    row = benchmark.iloc[[2]].assign(
        tpot_ms_mean="", ttft_ms_mean="96", output_tokens_per_s_total="1000"
    )
    rows = training_rows(read_measurements(row))
    assert row["concurrency"].iloc[0] == "16"
    assert rows.measured["tpot"][0] == pytest.approx((4.096 - 0.096) / 255)


def test_rows_under_an_unknown_load_teach_nothing(benchmark: pd.DataFrame) -> None:
    """A source that leaves the load of a replica open is predicted and teaches nothing.

    It is not scored either.
    """
    table = benchmark.assign(quality="A", mode="serving", notes="")
    table.loc[table.index[0], "notes"] = (
        "concurrency = 8 x batch_size in the source (replicas or dp, not stated)"
    )
    assert len(usable_rows(table)) == len(table) - 1
    assert len(usable_rows(table.drop(columns="notes"))) == len(table)


def test_rows_that_contradict_littles_law_teach_nothing(benchmark: pd.DataFrame) -> None:
    """45 requests a second of 20 s each are 900 in flight, not 4; with 1000 stated it can be."""
    row = benchmark.iloc[[2]].assign(
        quality="A",
        mode="serving",
        notes="",
        output_tokens="4",
        ttft_ms_mean="19000",
        ttft_ms_p50="",
        tpot_ms_mean="333",
        tpot_ms_p50="",
        output_tokens_per_s_total="180",
    )
    assert len(usable_rows(row.assign(concurrency="4"))) == 0
    assert len(usable_rows(row.assign(concurrency="1000"))) == 1


def test_times_of_two_devices_to_the_last_digit_teach_nothing(benchmark: pd.DataFrame) -> None:
    """A run copied from the page of A100 to that of H100 says nothing of either."""
    table = benchmark.assign(
        quality="A", mode="serving", source="page", ttft_ms_mean="1", tpot_ms_mean="2"
    )
    run = table.iloc[[0, 0, 0]].reset_index(drop=True)
    run["device_name"] = ["A100-80GB", "H100-SXM", "H100-SXM"]
    run.loc[2, "tpot_ms_mean"] = "3"
    assert usable_rows(run).tpot_ms_mean.tolist() == ["3"]


def test_throughput_alone_teaches_the_latency_of_the_whole(benchmark: pd.DataFrame) -> None:
    """Without a TTFT, physics' shares of prefill and decode stay.

    TTFT and TPOT learn the factor by which their sum is off.
    """
    row = benchmark.iloc[[2]].assign(
        tpot_ms_mean="", ttft_ms_mean="", output_tokens_per_s_total="1000", e2e_latency_ms=""
    )
    rows = training_rows(
        read_measurements(row.assign(ttft_ms_p50="", tpot_ms_p50="", itl_ms="", e2e_ms_p50=""))
    )
    modelled = rows.modelled["ttft"] + 255 * rows.modelled["tpot"]
    assert rows.measured["e2e"][0] == pytest.approx(4.096)
    assert np.isnan(rows.measured["ttft"][0])
    assert (
        rows.lesson("ttft")[0]
        == rows.lesson("tpot")[0]
        == pytest.approx(np.log(4.096 / modelled[0]))
    )
    assert rows.weight("ttft")[0] < rows.weight("tpot")[0]


def test_tables_without_the_columns_that_choose_rows_are_bad_input(
    benchmark: pd.DataFrame, tmp_path: Path
) -> None:
    """A table without quality or mode is refused by the names of the columns.

    Too few rows of every kind train nothing.
    """
    with pytest.raises(InvalidInput, match="mode, quality"):
        train(benchmark.drop(columns=["mode", "quality"]), tmp_path)
    assert train(benchmark.iloc[:30], tmp_path) == {}
