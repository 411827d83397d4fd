"""Predictions with and without regressors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.catalog import devices
from budsim.performance.candidates import rows_of
from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.performance.speculation import Speculation
from budsim.performance.traffic import Traffic
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


@pytest.mark.parametrize("device", ["MI300X", "B200-SXM"])
def test_no_range_reaches_below_the_data_sheet(device: str) -> None:
    """A token of Llama-3.1-70B reads 69 billion values, and a prompt of 1,024 multiplies them.

    The range of physics alone is a factor of 2.5 wide, more than kernels lose.
    """
    asked = population(device=device, concurrency=1, tp=1)
    predictions, known = AnalyticPredictor().predict(asked)[1], devices()[device]
    weights_s = 69e9 * 2.0 / known.memory_bandwidth_bytes_per_s
    prompt_s = 1024 * 2.0 * 68e9 / known.peak_flops_per_s(Precision.BF16)
    service = predictions.service
    assert service.tpot_s[0] / 2.5 < weights_s < predictions.tpot_s[0.9].low[0] < service.tpot_s[0]
    assert prompt_s < predictions.ttft_s[0.9].low[0] < service.ttft_s[0]


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


def test_an_assumed_client_widens_the_interval_of_the_first_token_alone() -> None:
    """A log half width of 0.8 beside one of 0.6 makes 1.0; TPOT stays as sure as it was."""
    asked = [Traffic.closed(concurrency=4, input_tokens=500, output_tokens=50)]
    predictor, one = AnalyticPredictor(), rows_of(population(), np.array([0]))
    sure = predictor.predict_traffic(one, asked)[1]
    unsure = predictor.predict_traffic(one, asked, client_spread=np.array([0.8]))[1]
    was = np.log(sure.ttft_s[0.9].high / sure.service.ttft_s)
    now = np.log(unsure.ttft_s[0.9].high / unsure.service.ttft_s)
    assert now == pytest.approx(np.hypot(was, 0.8))
    assert unsure.tpot_s[0.9].high == pytest.approx(sure.tpot_s[0.9].high)
