"""Predictions for measured rows of disaggregated deployments, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from budsim.commons.units import MILLI
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.pool_correction import (
    BUSY,
    PoolCorrection,
    pool_features,
    strata,
)
from budsim.performance.measured.pool_measurements import PoolMeasurements
from budsim.performance.serving.pools.runs import (
    CLIENT_LENGTHS,
    PoolRuns,
    Speeds,
    run_pools,
)

# Factors that hold 90 % of 433 rows of InferenceX that state their workers, and of 350 of whose
# workers nobody is sure (physics alone; scripts/fit_pools.py).
FACTORS_STATED = {"ttft": 9.1, "tpot": 2.0}
FACTORS_INFERRED = {"ttft": 9.1, "tpot": 2.1}

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
    learned = measurements.known_party & (correction is not None)
    runs, tpot, own = corrected_runs(measurements, correction, learned)
    ends = _ends(measurements, runs, learned, correction)
    ttft_p50, ttft_p99 = runs.ttft_p50 * own, runs.ttft_p99 * own
    ttft = reported_ttft(measurements, runs) * own
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


def reported_ttft(measurements: PoolMeasurements, runs: PoolRuns) -> Floats:
    """Return the modelled TTFT that each row reports: the median or the mean, seconds."""
    return np.where(measurements.median, runs.ttft_p50, runs.ttft_mean)


def corrected_runs(
    measurements: PoolMeasurements, correction: PoolCorrection | None, learned: Booleans
) -> tuple[PoolRuns, Floats, Floats]:
    """Return runs as corrected, the time between tokens, and factors on their TTFT.

    The first run, with the learned speed of prefill, tells the load that the correction of TPOT
    looks at; the second has tokens of that speed.
    """
    pools, ones, steady = measurements.pools, np.ones(len(measurements)), measurements.steady
    if correction is None:
        runs = run_pools(pools, CLIENT_LENGTHS, steady=steady)
        return runs, runs.tpot_s, ones
    prefill = np.where(learned, correction.prefill_factors(pools), 1.0)
    speeds = Speeds(prefill=prefill, token=ones)
    first = run_pools(pools, CLIENT_LENGTHS, speeds, steady=steady)
    factors = correction.tpot_factors(measurements.stated, run_features(measurements, first))
    token = np.where(learned, factors, 1.0)
    runs = run_pools(pools, CLIENT_LENGTHS, replace(speeds, token=token), steady=steady)
    left = correction.ttft_factors(measurements.stated, run_features(measurements, runs))
    return runs, first.tpot_s * token, np.where(learned, left, 1.0)


def run_features(measurements: PoolMeasurements, runs: PoolRuns) -> Floats:
    """Return what the regressors see of each row."""
    ttft = reported_ttft(measurements, runs)
    return pool_features(measurements.pools, runs, measurements.stated, measurements.median, ttft)


def _ends(
    measurements: PoolMeasurements,
    runs: PoolRuns,
    learned: Booleans,
    correction: PoolCorrection | None,
) -> dict[str, tuple[Floats, Floats]]:
    """Return the factors at both ends of the intervals of TPOT and TTFT."""
    found = {}
    for name, factor in FACTORS_STATED.items():
        wide = np.where(measurements.stated, factor, FACTORS_INFERRED[name])
        low, high = 1.0 / wide, wide
        if correction is not None:
            own = correction.ends(name, strata(runs, measurements.stated))
            low, high = np.where(learned, own[0], low), np.where(learned, own[1], high)
        if name == "ttft" and correction is not None:
            low = np.maximum(low, _least(measurements, runs, correction))
        found[name] = (low, high)
    return found


def _least(measurements: PoolMeasurements, runs: PoolRuns, correction: PoolCorrection) -> Floats:
    """Return the least factor on TTFT, 0 where workers are not stated.

    However wrong a queue is, no prompt is read sooner than by an idle worker.
    """
    idle, _ = correction.ends("ttft", [next(iter(BUSY))] * len(measurements))
    least = runs.idle_s * idle / reported_ttft(measurements, runs)
    return np.where(measurements.stated, np.minimum(least, 1.0), 0.0)


def _ranged(value: Floats, low: Floats, high: Floats) -> Ranged:
    return value, value * low, value * high
