"""Factors on the ranges of strangers."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.performance.learned.features import NAMES
from budsim.performance.learned.intervals import (
    SERVED_STRANGER,
    STRATA,
    Strata,
    analytic_spread,
)
from budsim.performance.learned.scatter import Scatter

SCATTER = Scatter(feature="log_input", slope=-0.5, usual=6.0, low=4.0, high=8.0)


def features(*values: float) -> np.ndarray:
    """Return rows of features with these lengths of prompts."""
    matrix = np.zeros((len(values), len(NAMES)), dtype=np.float32)
    matrix[:, NAMES.index("log_input")] = values
    return matrix


def test_factors_are_one_in_the_usual_question_and_end_where_measurements_do() -> None:
    """Two logs more than usual make ranges a factor of e narrower, and no more than that."""
    found = SCATTER.factors(features(6.0, 8.0, 20.0, 4.0, -20.0))
    assert found == pytest.approx(np.exp([0.0, -1.0, -1.0, 1.0, 1.0]))


def test_only_served_strangers_have_ranges_that_scatter() -> None:
    """Residuals of known parties follow their own regressors; static batches do not queue."""
    spread = analytic_spread(2.0)
    scattered = type(spread)(quantiles=spread.quantiles, scatter=SCATTER)
    strata = Strata(
        stratum=np.arange(len(STRATA)), engines=("vllm",), engine=np.zeros(len(STRATA), dtype=int)
    )
    rows = (np.ones(len(STRATA)), 0.9, strata, np.ones(len(STRATA), dtype=bool))
    plain, asked = (
        np.log(each.interval(*rows, features(*[8.0] * len(STRATA))).high)
        for each in (spread, scattered)
    )
    changed = np.flatnonzero(~np.isclose(plain, asked))
    assert changed.tolist() == [SERVED_STRANGER]
    assert asked[SERVED_STRANGER] == pytest.approx(np.log(2.0) / np.e)


def test_what_a_manifest_keeps_is_read_back() -> None:
    """A feature that no candidate has is refused."""
    assert Scatter.read(SCATTER.stored()) == SCATTER
    with pytest.raises(ValueError, match="no feature"):
        Scatter.read({**SCATTER.stored(), "feature": "source"})
