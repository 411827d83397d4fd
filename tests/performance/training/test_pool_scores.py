"""Measured rows of disaggregated deployments are scored beside others."""

from __future__ import annotations

import pandas as pd
import pytest

from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.training.pool_scores import DISAGGREGATED, is_disaggregated
from budsim.performance.training.score import evaluate
from tests.performance.measured.measured_rows import ROW
from tests.performance.measured.test_pool_columns import DISAGGREGATED as UNMEASURED

SEEN = {"ttft_ms_mean": "400", "tpot_ms_mean": "10"}
PLAIN, POOLS = {**ROW, **SEEN}, {**UNMEASURED, **SEEN}


def test_pools_are_a_group_of_their_own() -> None:
    """One row of a whole replica and two of pools: "all" counts the first alone."""
    table = pd.DataFrame([PLAIN, POOLS, {**POOLS, "concurrency": "8"}]).fillna("")
    scores, problems = evaluate(table, AnalyticPredictor())
    rows = {each.group: each.rows for each in scores if each.quantity == "ttft_ms"}
    assert (rows["all"], rows[DISAGGREGATED], problems) == (1, 2, [])


def test_a_table_of_pools_alone_is_scored_as_all() -> None:
    """Bounds then hold of them; a row with unknown workers says so."""
    table = pd.DataFrame([POOLS, {**POOLS, "notes": "no workers"}])
    scores, problems = evaluate(table, AnalyticPredictor())
    assert {each.group for each in scores} >= {"all"}
    assert len(problems) == 1
    assert "prefill_tp" in problems[0]


def test_the_measured_mean_is_compared() -> None:
    """Twice the measured TTFT is twice the ratio of measured to predicted."""
    first, second = (
        evaluate(pd.DataFrame([{**POOLS, "ttft_ms_mean": ttft}]), AnalyticPredictor())[0][0].bias
        for ttft in ("400", "800")
    )
    assert second == pytest.approx(2.0 * first)


def test_tables_without_modes_have_no_pools() -> None:
    """A column that is missing is no reason to fail."""
    assert not is_disaggregated(pd.DataFrame([{"model_hf": "x"}])).any()
