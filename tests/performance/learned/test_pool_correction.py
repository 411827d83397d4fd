"""The correction of disaggregated deployments."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from budsim.commons.errors import Unavailable
from budsim.performance.learned.pool_correction import FEATURES, FOLDER, load_pools
from budsim.performance.measured.pool_measurements import read_pools
from budsim.performance.measured.pool_predictions import corrected_runs, predict_pools
from budsim.performance.predictor import trained_folder

ROW = {
    "source": "inferencex",
    "device_type": "cuda",
    "device_name": "B200-SXM",
    "engine": "dynamo-sglang",
    "model_hf": "deepseek-ai/DeepSeek-R1-0528",
    "precision": "fp8",
    "input_tokens": "1024",
    "output_tokens": "1024",
    "concurrency": "64",
    "mode": "serving_disagg",
    "quality": "B",
    "date": "2026-02-01",
    "notes": "prefill tp8 x1 workers, decode tp8 x2 workers",
}


def test_rows_of_the_fitted_party_are_corrected_and_others_are_not() -> None:
    """A stranger's row rests on physics, with a wider interval."""
    table = pd.DataFrame([ROW, {**ROW, "source": "somebody"}])
    corrected = predict_pools(read_pools(table), load_pools(trained_folder()))
    plain = predict_pools(read_pools(table))
    assert corrected.learned.tolist() == [True, False]
    value, low, high = corrected.quantities["tpot_ms"]
    assert value[1] == pytest.approx(plain.quantities["tpot_ms"][0][1])
    assert value[0] != pytest.approx(value[1])
    assert high[0] / low[0] < high[1] / low[1]


def test_latency_is_the_first_token_and_the_rest() -> None:
    """E2E never contradicts TTFT and TPOT."""
    found = predict_pools(read_pools(pd.DataFrame([ROW])), load_pools(trained_folder())).quantities
    ttft, tpot, e2e = (found[name][0][0] for name in ("ttft_ms", "tpot_ms", "e2e_ms"))
    assert e2e == pytest.approx(ttft + (1024 * 0.9 - 1.0) * tpot)


def test_intervals_contain_the_value() -> None:
    """Lower end, value and upper end are in order for every quantity."""
    found = predict_pools(read_pools(pd.DataFrame([ROW])), load_pools(trained_folder()))
    for value, low, high in found.quantities.values():
        assert np.all((low <= value) & (value <= high))


def test_no_range_reaches_below_an_idle_worker() -> None:
    """4096 requests queue for one prefill worker; each prompt is still read and transferred."""
    rows, correction = (
        read_pools(pd.DataFrame([{**ROW, "concurrency": "4096"}])),
        load_pools(trained_folder()),
    )
    assert correction is not None
    runs, _, _ = corrected_runs(rows, correction, np.array([True]))
    value, low, _ = predict_pools(rows, correction).quantities["ttft_ms"]
    least = 1e3 * runs.idle_s[0] * np.exp(correction.spreads["ttft"]["idle"][0])
    assert value[0] > 10.0 * least
    assert low[0] >= least * (1.0 - 1e-9)


def test_altered_artefacts_are_refused(tmp_path: Path) -> None:
    """One byte more is another file."""
    shutil.copytree(trained_folder() / FOLDER, tmp_path / FOLDER)
    with (tmp_path / FOLDER / "tpot_stated.ubj").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Unavailable, match="tpot_stated"):
        load_pools(tmp_path)


def test_without_artefacts_physics_answers(tmp_path: Path) -> None:
    """A folder without them is no error."""
    assert load_pools(tmp_path) is None
    assert len(FEATURES) == 21
