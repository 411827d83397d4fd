"""Predictions for measured rows of disaggregated deployments, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from budsim.commons.units import MILLI
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.pool_correction import PoolCorrection, pool_features
from budsim.performance.measured.pool_measurements import PoolMeasurements
from budsim.performance.serving.pools.waves import PoolRuns, run_pools

# Clients of InferenceX draw lengths uniformly from 0.8 to 1.0 of the nominal one: 0.89 to 1.11 of
# the mean.
LENGTH_SHARES = (0.8 / 0.9, 1.0 / 0.9)

# Factors that hold 90 % of 433 rows of InferenceX that state their workers, and of 824 that do not
# (physics alone, nothing fitted to them but the handshake's time).
FACTORS_STATED = {"ttft": 14.0, "tpot": 2.2}
FACTORS_INFERRED = {"ttft": 34.0, "tpot": 3.4}

Ranged = tuple[Floats, Floats, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPredictions:
    """Value and both ends of the 90 % interval of each quantity, percentiles, and what it rests on.

    Times in milliseconds, arrays of shape (n,).
    """

    quantities: dict[str, Ranged]
    percentiles: dict[str, Floats]
    learned: Booleans


def predict_pools(
    measurements: PoolMeasurements, correction: PoolCorrection | None = None
) -> PoolPredictions:
    """Return predictions of measured rows, medians where a row reports medians.

    ``correction`` is applied to rows of the party it was fitted on; others stay with physics.
    """
    runs = run_pools(measurements.pools, LENGTH_SHARES)
    ttft = np.where(measurements.median, runs.ttft_p50, runs.ttft_mean)
    learned = measurements.known_party & (correction is not None)
    factors, ends = _corrections(measurements, runs, ttft, learned, correction)
    tpot = runs.tpot_s * factors["tpot"]
    ttft_p50, ttft_p99 = runs.ttft_p50 * factors["ttft"], runs.ttft_p99 * factors["ttft"]
    ttft = ttft * factors["ttft"]
    further = np.maximum(measurements.pools.decode.output_tokens - 1.0, 0.0)
    e2e = ttft + further * tpot
    tokens = measurements.pools.concurrency * (further + 1.0) / e2e
    low, high = ((ttft * t + further * tpot * d) / e2e for t, d in zip(*_pairs(ends), strict=True))
    return PoolPredictions(
        quantities={
            "ttft_ms": _ranged(ttft / MILLI, *ends["ttft"]),
            "tpot_ms": _ranged(tpot / MILLI, *ends["tpot"]),
            "e2e_ms": _ranged(e2e / MILLI, low, high),
            "output_tokens_per_s": _ranged(tokens, 1.0 / high, 1.0 / low),
        },
        percentiles={
            "ttft_p50": ttft_p50 / MILLI,
            "ttft_p99": ttft_p99 / MILLI,
            "tpot_p99": tpot / MILLI,
            "e2e_p99": (ttft_p99 + further * tpot) / MILLI,
        },
        learned=learned,
    )


def _pairs(ends: dict[str, tuple[Floats, Floats]]) -> tuple[tuple[Floats, Floats], ...]:
    return ends["ttft"], ends["tpot"]


def _corrections(
    measurements: PoolMeasurements,
    runs: PoolRuns,
    ttft: Floats,
    learned: Booleans,
    correction: PoolCorrection | None,
) -> tuple[dict[str, Floats], dict[str, tuple[Floats, Floats]]]:
    """Return factors on TPOT and TTFT, and those at the ends of their intervals."""
    stated, ones = measurements.stated, np.ones(len(measurements))
    factors, ends = {}, {}
    for name, factor in FACTORS_STATED.items():
        wide = np.where(stated, factor, FACTORS_INFERRED[name])
        factors[name], ends[name] = ones, (1.0 / wide, wide)
    if correction is None:
        return factors, ends
    features = pool_features(measurements.pools, runs, stated, measurements.median, ttft)
    for name, (low, high) in ends.items():
        own = correction.ends(name, stated)
        factors[name] = np.where(learned, correction.factors(name, features), 1.0)
        ends[name] = (np.where(learned, own[0], low), np.where(learned, own[1], high))
    return factors, ends


def _ranged(value: Floats, low: Floats, high: Floats) -> Ranged:
    return value, value * low, value * high
