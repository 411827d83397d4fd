"""Fitting finds the constants of a machine room that is slower than the ones in the tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.efficiency import CONSTANTS
from budsim.performance.fitting import fit, modelled
from budsim.performance.measurements import read_measurements
from tests.performance.test_measurements import ROW


def test_fitting_explains_a_slower_memory() -> None:
    """Where every step was measured at 60 % of the bandwidth, the fitted model is closer to it than the one in the tree."""
    table = pd.DataFrame([{**ROW, "concurrency": str(load), "input_tokens": "128"} for load in (1, 2, 4, 8, 16)])
    slow = {**CONSTANTS, DeviceKind.CUDA: replace(CONSTANTS[DeviceKind.CUDA], bandwidth=0.5)}
    measurements = read_measurements(table)
    truth = modelled(measurements, slow)
    measured = replace(measurements, tpot_s=truth.tpot_s, ttft_s=truth.ttft_s)
    fitted = fit(measured, DeviceKind.CUDA, np.ones(len(table)), evaluations=250)
    before = np.abs(np.log(truth.tpot_s / modelled(measurements).tpot_s)).mean()
    after = np.abs(np.log(truth.tpot_s / modelled(measurements, {**CONSTANTS, DeviceKind.CUDA: fitted}).tpot_s)).mean()
    assert after < before / 4
