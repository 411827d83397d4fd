"""Each party is predicted by models that saw none of its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from budsim.performance.learned.intervals import Regime
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.training.cross_validation import Fitting, out_of_fold, validate
from budsim.performance.training.parties import PartyScore, party_scores
from budsim.performance.training.rows import Rows, training_rows


@pytest.fixture(scope="module")
def rows(benchmark: pd.DataFrame) -> Rows:
    """Return the invented benchmark, half of it run by somebody whose server is as fast as physics.

    The first party's rows are 1.5 times as slow as physics.
    """
    table = benchmark.copy()
    other = table.index % 2 == 1
    table.loc[other, "source"] = "other"
    for name in ("ttft", "tpot"):
        fast = table.loc[other, f"pred_{name}_ms"].astype(float)
        table.loc[other, f"{name}_ms_mean"] = fast.astype(str)
    return training_rows(read_measurements(table))


@pytest.fixture(scope="module")
def scores(rows: Rows) -> dict[tuple[str, str], PartyScore]:
    """Return the scores by party and quantity."""
    fitting = Fitting(seed=0, rounds=60)
    corrections = {target: out_of_fold(rows, target, "party", fitting) for target in TARGETS}
    found = party_scores(rows, corrections)
    return {(each.party, each.quantity): each for each in found}


def test_a_correction_learned_from_others_can_be_worse_than_none(
    scores: dict[tuple[str, str], PartyScore],
) -> None:
    """Physics is right of the other party; what the slow one teaches makes it 1.5 times as slow."""
    other = scores["other", "tpot"]
    assert other.physics == pytest.approx(0.0, abs=1e-3)
    assert other.learned == pytest.approx(0.5, abs=0.05)
    assert other.learned_bias == pytest.approx(0.5, abs=0.05)


def test_a_party_is_not_helped_by_its_own_rows(
    scores: dict[tuple[str, str], PartyScore],
) -> None:
    """The slow party takes 1.5 times as long as physics.

    Those who were right teach nothing else.
    """
    slow = scores["invented", "tpot"]
    assert slow.physics == pytest.approx(1 - 1 / 1.5, abs=0.02)
    assert slow.learned == pytest.approx(slow.physics, abs=0.02)


def test_two_sources_of_one_benchmark_are_one_party(rows: Rows) -> None:
    """InferenceX and AIConfigurator's silicon rows are partly the same runs."""
    both = ["inferencex", "aiconfigurator_silicon"] * (len(rows) // 2)
    measurements = read_measurements(pd.DataFrame({**ORDINARY, "source": both}))
    assert len(np.unique(training_rows(measurements).groups["party"])) == 1


def test_few_rows_decide_nothing(rows: Rows) -> None:
    """A party of 19 values has no score; all together do."""
    few = np.arange(len(rows)) < 19
    masked = {name: np.where(few, values, np.nan) for name, values in rows.measured.items()}
    zeros = {target: np.zeros(len(rows)) for target in ("ttft", "tpot")}
    assert party_scores(replace(rows, measured=masked), zeros) == []


ORDINARY = {
    "device_type": "cuda",
    "device_name": "H100-SXM",
    "tp": "8",
    "n_devices": "8",
    "engine": "vllm",
    "model_hf": "meta-llama/Llama-3.1-70B-Instruct",
    "precision": "fp8",
    "input_tokens": "1000",
    "output_tokens": "100",
    "concurrency": "16",
    "mode": "serving",
    "quality": "A",
}


def test_strangers_are_not_corrected_where_that_makes_one_of_them_worse(rows: Rows) -> None:
    """The slow party's lesson would make the other 1.5 times as slow: none of it is trusted."""
    found = validate(rows, "party", Fitting(seed=0, rounds=60))
    assert found.shrinkage["tpot"][Regime.SERVING] == 0.0
    assert found.residuals["tpot"] == pytest.approx(rows.log_ratio("tpot"), nan_ok=True)
