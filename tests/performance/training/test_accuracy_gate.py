"""The shipped models keep their recorded accuracy.

On rows that are part of this repository.
"""

import json
from dataclasses import replace

import pandas as pd
import pytest

from budsim.performance.measured.tables import read_tables, table_digest
from budsim.performance.predictor import CHECKOUT, AnalyticPredictor, load_predictor
from budsim.performance.training import accuracy_gate


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Return the committed rows."""
    return read_tables([accuracy_gate.ROWS])


@pytest.fixture(scope="module")
def recorded() -> dict:
    """Return what `budsim train` recorded."""
    return json.loads((CHECKOUT / accuracy_gate.RECORD).read_text())


def test_no_median_is_worse_than_recorded(rows, recorded):
    """Physics and models predict the committed rows as well as when they were trained.

    It fails after a change for the worse. Mend it, or train again (`budsim train`); after a change
    that is meant and trains nothing, record the medians (`python -m
    budsim.performance.training.accuracy_gate`) and say why.
    """
    assert recorded["rows_sha256"] == table_digest(rows)
    assert (
        accuracy_gate.worse(
            accuracy_gate.medians(rows, load_predictor()), recorded["median_errors"]
        )
        == []
    )


def test_worse_models_are_noticed(rows, recorded):
    """Physics without its regressors is worse than what was recorded, on CUDA and on CPU."""
    lines = accuracy_gate.worse(
        accuracy_gate.medians(rows, AnalyticPredictor()), recorded["median_errors"]
    )
    assert any(line.startswith("cuda tpot_ms") for line in lines)
    assert any(line.startswith("cpu tpot_ms") for line in lines)


def test_a_kind_without_models_is_noticed(rows, recorded):
    """A kind of hardware that lost its regressors, or its rows, does not pass for good."""
    predictor = load_predictor()
    some = replace(
        predictor, regressors={k: v for k, v in predictor.regressors.items() if k.value != "hpu"}
    )
    assert any(
        line.startswith("hpu")
        for line in accuracy_gate.worse(
            accuracy_gate.medians(rows[rows.device_type == "hpu"], some), recorded["median_errors"]
        )
    )
    assert "none" in accuracy_gate.worse({}, recorded["median_errors"])[0]


def test_a_little_worse_is_not_worse():
    """A median of 20 % may become 21 %, one of 1 % may become 1.5 %.

    More is worse, less is fine.
    """
    before = {"cuda": {"tpot_ms": 0.20, "ttft_ms": 0.01}}
    assert accuracy_gate.worse({"cuda": {"tpot_ms": 0.2099, "ttft_ms": 0.0149}}, before) == []
    assert len(accuracy_gate.worse({"cuda": {"tpot_ms": 0.2101, "ttft_ms": 0.0151}}, before)) == 2


def test_committed_rows_may_be_given_away(rows):
    """Every committed row is ours or under a permissive license.

    Each source is told beside them, and every row can be read.
    """
    told = (accuracy_gate.ROWS.parent / "README.md").read_text()
    assert set(rows.license) == {"Apache-2.0", "own measurement"}
    assert all(f"`{source}`" in told for source in rows.source.unique())
    assert len(rows) <= 200
