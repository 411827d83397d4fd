"""Predictions with and without regressors."""

from __future__ import annotations

from pathlib import Path

from budsim.performance.predictor import AnalyticPredictor, load_predictor
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
