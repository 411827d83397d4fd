"""Intervals come from residuals of groups that did not make them."""

from __future__ import annotations

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.intervals import Novelty
from budsim.performance.predictions import PERCENTILES
from budsim.performance.training.fit import Trained
from budsim.performance.training.interval_fit import coverage90, spreads


def test_every_quantity_and_stratum_has_an_interval(trained: dict[DeviceKind, Trained]) -> None:
    """TTFT, TPOT and end-to-end latency, known or new, served or in static batches."""
    cuda = trained[DeviceKind.CUDA]
    found = spreads(cuda.rows, cuda.validations)
    assert set(found) == {"ttft", "tpot", "e2e", *PERCENTILES}
    assert {f"{novelty}/static" for novelty in Novelty} <= set(found["tpot"].quantiles)


def test_residuals_that_scatter_alike_are_covered(trained: dict[DeviceKind, Trained]) -> None:
    """Most rows lie in intervals of other curves; a curve far off lies outside."""
    cuda = trained[DeviceKind.CUDA]
    rng = np.random.default_rng(0)
    residuals = {"tpot": rng.normal(0.0, 0.1, len(cuda.rows))}
    assert coverage90(cuda.rows, residuals, Novelty.KNOWN)["tpot"].mean() > 0.85
    own = cuda.rows.groups["curve"] == 0
    residuals["tpot"][own] = 3.0
    assert coverage90(cuda.rows, residuals, Novelty.KNOWN)["tpot"][own].mean() == 0.0
