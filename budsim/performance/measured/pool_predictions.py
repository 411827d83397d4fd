"""Predictions for measured rows of disaggregated deployments, in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from budsim.commons.units import MILLI
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.measured.pool_measurements import PoolMeasurements
from budsim.performance.serving.pools.waves import run_pools

# Clients of InferenceX draw lengths uniformly from 0.8 to 1.0 of the nominal one: 0.89 to 1.11 of
# the mean.
LENGTH_SHARES = (0.8 / 0.9, 1.0 / 0.9)

# Factors that hold 90 % of 433 rows of InferenceX that state their workers, and of 824 that do not
# (physics alone, nothing fitted to them but the handshake's time).
FACTORS_STATED = {"ttft": 14.0, "tpot": 2.2, "e2e": 2.0}
FACTORS_UNSTATED = {"ttft": 34.0, "tpot": 3.4, "e2e": 3.4}

Ranged = tuple[Floats, Floats, Floats]


def pool_quantities(measurements: PoolMeasurements) -> tuple[dict[str, Ranged], dict[str, Floats]]:
    """Return value, lower and upper end of the 90 % interval of each quantity, and percentiles.

    Quantities are ``ttft_ms``, ``tpot_ms``, ``e2e_ms`` and ``output_tokens_per_s``; medians where
    a row reports medians. Percentiles are in milliseconds.
    """
    runs = run_pools(measurements.pools, LENGTH_SHARES)
    median, stated = measurements.median, measurements.stated
    ttft = np.where(median, runs.ttft_p50, runs.ttft_mean)
    e2e = np.where(median, runs.e2e_p50, runs.e2e_mean)
    quantities = {
        "ttft_ms": _ranged(ttft / MILLI, "ttft", stated),
        "tpot_ms": _ranged(runs.tpot_s / MILLI, "tpot", stated),
        "e2e_ms": _ranged(e2e / MILLI, "e2e", stated),
        "output_tokens_per_s": _ranged(runs.output_tokens_per_s, "e2e", stated),
    }
    percentiles = {
        "ttft_p50": runs.ttft_p50 / MILLI,
        "ttft_p99": runs.ttft_p99 / MILLI,
        "tpot_p99": runs.tpot_s / MILLI,
        "e2e_p99": runs.e2e_p99 / MILLI,
    }
    return quantities, percentiles


def _ranged(value: Floats, name: str, stated: Booleans) -> Ranged:
    factor = np.where(stated, _of(FACTORS_STATED, name), _of(FACTORS_UNSTATED, name))
    return value, value / factor, value * factor


def _of(factors: Mapping[str, float], name: str) -> float:
    return factors[name]
