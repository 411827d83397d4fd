"""Training repeats itself to the byte and learns what physics misses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from budsim.performance.learned.intervals import (
    Novelty,
)
from budsim.performance.measured.tables import read_tables
from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.performance.training.fit import train
from budsim.performance.training.score import evaluate
from tests.performance.populations import TREES


def test_training_learns_what_physics_gets_wrong(benchmark: pd.DataFrame, artefacts: Path) -> None:
    """On a server 1.5 times as slow as physics, trained models are within 5 %.

    Physics is off by a third.
    """
    learned = {
        score.quantity: score
        for score in evaluate(benchmark, load_predictor(artefacts))[0]
        if score.group == "all"
    }
    physics = {
        score.quantity: score
        for score in evaluate(benchmark, AnalyticPredictor())[0]
        if score.group == "all"
    }
    assert learned["tpot_ms"].median < 0.05
    assert physics["tpot_ms"].median > 0.3
    assert learned["tpot_ms"].coverage90 > 0.85


def test_same_data_and_seed_give_the_same_bytes(
    benchmark: pd.DataFrame, artefacts: Path, tmp_path: Path
) -> None:
    """A second training writes identical files."""
    train(benchmark, tmp_path, rounds=TREES)
    for path in sorted(artefacts.rglob("*.*")):
        assert (tmp_path / path.relative_to(artefacts)).read_bytes() == path.read_bytes(), path.name


def test_shipped_models_keep_their_recorded_accuracy(shared_data: Path) -> None:
    """On their own rows the shipped models are no worse than cross-validation recorded.

    For known curves.
    """
    table = read_tables([shared_data])
    serving = table[
        (table["source"] == "aiconfigurator_silicon")
        & (table["mode"] == "serving")
        & (table["quality"] == "A")
    ]
    scores = {
        score.quantity: score
        for score in evaluate(serving.iloc[::20], load_predictor())[0]
        if score.group == "all"
    }
    assert scores["tpot_ms"].median <= 0.08
    assert scores["ttft_ms"].median <= 0.17


def test_recorded_curve_errors_meet_the_first_release() -> None:
    """The shipped CUDA manifest records the errors with whole curves withheld.

    For every quantity and novelty.
    """
    regressors = load_predictor().regressors
    assert {kind.value for kind in regressors} >= {"cuda", "cpu", "hpu"}
    for each in regressors.values():
        assert set(each.manifest["errors"]) == {novelty.value for novelty in Novelty}


def test_rows_that_cannot_teach_say_why(benchmark: pd.DataFrame, tmp_path: Path) -> None:
    """Rows of an unknown device are counted with their reason.

    When too few are left nothing is trained.
    """
    told: list[str] = []
    some = benchmark.assign(device_name=["?"] * 30 + ["H100-SXM"] * (len(benchmark) - 30))
    assert train(some, tmp_path, progress=told.append) == {}
    assert any("30 rows left out" in step and "device_name" in step for step in told)
