"""Cross-validation predicts rows by models that saw none of their group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from budsim.performance.learned.intervals import Regime
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.training.cross_validation import (
    Fitting,
    corrected_by,
    out_of_fold,
    trainable,
    validate,
)
from budsim.performance.training.rows import Rows, training_rows
from tests.performance.populations import TRUE_FACTOR

FITTING = Fitting(seed=0, rounds=40)


@pytest.fixture(scope="module")
def rows(benchmark: pd.DataFrame) -> Rows:
    """Return the invented benchmark: physics, slower by a known factor."""
    return training_rows(read_measurements(benchmark))


def test_a_factor_common_to_all_is_found_on_withheld_curves(rows: Rows) -> None:
    """Every correction is near log 1.5."""
    correction = out_of_fold(rows, "tpot", "curve", FITTING)
    assert np.median(correction) == pytest.approx(np.log(TRUE_FACTOR), abs=0.05)


def test_a_group_does_not_teach_itself(rows: Rows) -> None:
    """One device is ten times as slow; withheld, it is corrected as the other one is."""
    slow = (rows.names.device == "H200-SXM").to_numpy()
    measured = {name: np.where(slow, 10.0, 1.0) * v for name, v in rows.measured.items()}
    changed = replace(rows, measured=measured)
    correction = out_of_fold(changed, "tpot", "device", FITTING)
    assert np.median(correction[slow]) == pytest.approx(np.log(TRUE_FACTOR), abs=0.1)


def test_broken_rows_do_not_teach(rows: Rows) -> None:
    """A row a hundred times as slow as physics is left out; one twice as slow is not."""
    tpot = rows.measured["tpot"].copy()
    tpot[0], tpot[1] = rows.modelled["tpot"][:2] * np.array([100.0, 2.0])
    changed = replace(rows, measured={**rows.measured, "tpot": tpot})
    assert trainable(changed, "tpot")[:2].tolist() == [False, True]


def test_too_few_teachers_teach_nothing(rows: Rows) -> None:
    """29 rows are fewer than half of the least number."""
    few = np.arange(len(rows)) < 29
    assert corrected_by(rows, "tpot", few, ~few, FITTING) is None


def test_corrections_that_help_are_applied_whole(rows: Rows) -> None:
    """Every model is off by the same factor, so that a withheld one wants all of it."""
    found = validate(rows, "model", FITTING)
    assert found.shrinkage["tpot"][Regime.SERVING] == 1.0
    assert found.shrinkage["tpot"][Regime.STATIC] == 0.0
    assert np.abs(np.median(found.residuals["tpot"])) < 0.05
