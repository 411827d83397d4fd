"""Predictions beside rows, in their order."""

from __future__ import annotations

import pandas as pd

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
