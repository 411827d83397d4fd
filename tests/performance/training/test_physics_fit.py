"""Fitting finds the constants of a machine room that is slower than the ones in the tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from budsim.performance.measured.measurements import read_measurements
from budsim.performance.physics.constants import FITTED
from budsim.performance.training.physics_fit import Parameter, fit, modelled
from tests.performance.measured.measured_rows import ROW


def test_fitting_explains_a_slower_memory() -> None:
    """A bandwidth of 60 % is fitted closer to the measurements than the one in the tree.

    Every step was measured at 60 % of the bandwidth.
    """
    table = pd.DataFrame(
        [{**ROW, "concurrency": str(load), "input_tokens": "128"} for load in (1, 2, 4, 8, 16)]
    )
    bandwidth = Parameter(("vllm on sm90",), "bandwidth")
    measurements = read_measurements(table)
    truth = modelled(measurements, bandwidth.scaled(FITTED, 0.6))
    measured = replace(measurements, tpot_s=truth.tpot_s, ttft_s=truth.ttft_s)
    fitted = fit(
        measured,
        [bandwidth, Parameter(("vllm",), "steps")],
        np.ones(len(table)),
        evaluations=250,
    )
    before = np.abs(np.log(truth.tpot_s / modelled(measurements).tpot_s)).mean()
    after = np.abs(np.log(truth.tpot_s / modelled(measurements, fitted).tpot_s)).mean()
    assert after < before / 4


def test_no_share_of_a_peak_is_fitted_beyond_it() -> None:
    """A parameter that would promise more than the data sheet stops short of it.

    Generations keep their proportions.
    """
    changed = Parameter(("cuda", "sm100"), "gemm").scaled(FITTED, 3.0)
    assert changed.of_engine("vllm") == FITTED.of_engine("vllm")
    assert max(changed.kernels[key].gemm for key in ("cuda", "sm100")) < 1.0
    halved = Parameter(("cuda", "sm100"), "link").scaled(FITTED, 0.5)
    assert [
        halved.kernels[key].link / FITTED.kernels[key].link for key in ("cuda", "sm100", "sm89")
    ] == [0.5, 0.5, 1.0]
