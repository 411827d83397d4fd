"""Predictions with and without regressors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.performance.speculation import Speculation
from tests.performance.populations import population


def test_kinds_without_regressors_degrade_to_physics(artefacts: Path) -> None:
    """A kind of hardware without regressors has the analytic model's answer, and says so."""
    candidates = population(device="Gaudi3")
    trained, plain = (
        load_predictor(artefacts).predict(candidates)[1],
        AnalyticPredictor().predict(candidates)[1],
    )
    assert not trained.learned[0]
    assert trained.service.tpot_s[0] == plain.service.tpot_s[0]


def test_guesses_widen_the_interval_of_tokens_not_of_the_first() -> None:
    """An acceptance known to a factor of two widens TPOT and leaves TTFT as it is."""
    plain = population()
    sure = Speculation(draft_tokens=3, tokens_per_step=2.0)
    narrow, wide = (
        AnalyticPredictor().predict(
            replace(plain, speculations=(way,), speculation=np.zeros(1, dtype=np.int64))
        )[1]
        for way in (sure, replace(sure, spread=np.log(2.0)))
    )
    assert (wide.tpot_s[0.9].high > 1.1 * narrow.tpot_s[0.9].high).all()
    assert wide.ttft_s[0.9].high == pytest.approx(narrow.ttft_s[0.9].high)
