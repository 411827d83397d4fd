"""Predictions beside rows, in their order."""

from __future__ import annotations

import pandas as pd
import pytest

from budsim.performance.measured.measurements import NUMBERS
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.training.score import COLUMNS, predict_table
from tests.performance.measured.measured_rows import ROW


def test_predictions_keep_order_index_and_columns() -> None:
    """Every row comes back where it was, with all prediction columns beside its own.

    Its own columns are untouched.
    """
    table = pd.DataFrame(
        [ROW, {**ROW, "device_name": "?"}, {**ROW, "concurrency": "64"}], index=[7, 3, 5]
    )
    result = predict_table(table, AnalyticPredictor())
    assert list(result.index) == [7, 3, 5]
    assert result[list(ROW)].equals(table[list(ROW)])
    assert list(result["pred_error"] == "") == [True, False, True]
    assert set(COLUMNS) <= set(result.columns)
    assert result["pred_ttft_ms"].iloc[1] == ""


def test_one_token_has_a_latency_and_a_throughput() -> None:
    """Nothing comes after the first token, so that TTFT is the latency."""
    row = {**ROW, "input_tokens": "512", "output_tokens": "1", "concurrency": "16"}
    found = predict_table(pd.DataFrame([row]), AnalyticPredictor()).iloc[0]
    assert found.pred_e2e_ms == found.pred_ttft_ms
    assert found.pred_output_tokens_per_s > 0


LOADS = ({"concurrency": "8"}, {"concurrency": "", "request_rate": "2"})


@pytest.mark.parametrize("load", LOADS, ids=("in flight", "at a rate"))
def test_a_wrong_number_ends_its_own_row_and_names_its_column(load: dict[str, str]) -> None:
    """Whatever column holds it; rows without wrong numbers are answered beside it."""
    row = {**ROW, "input_tokens": "512", "output_tokens": "128", **load}
    wrong = [
        (name, value)
        for name in NUMBERS
        for value in ("inf", "-1", "abc", "1e30")
        if (name, value) != ("request_rate", "inf")  # a benchmark's word for all at once
    ]
    table = pd.DataFrame([row, *({**row, name: value} for name, value in wrong), row]).fillna("")
    found = predict_table(table, AnalyticPredictor())
    assert [not error for error in found.pred_error][:: len(wrong) + 1] == [True, True]
    told = zip(wrong, found.pred_error[1:-1], strict=True)
    assert [each for (name, _), error in told if name not in error for each in (name, error)] == []


@pytest.mark.parametrize("load", LOADS, ids=("in flight", "at a rate"))
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens"])
def test_lengths_nobody_can_send_end_their_own_row(load: dict[str, str], name: str) -> None:
    """A thousand million tokens are refused by name; the other row is answered."""
    row = {**ROW, "input_tokens": "512", "output_tokens": "128", **load}
    table = pd.DataFrame([row, {**row, name: "1e9"}])
    good, bad = predict_table(table, AnalyticPredictor()).pred_error
    assert (good, bad) == ("", f"{name}: expected at most 5,000,000 tokens")
