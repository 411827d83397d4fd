"""Fit the correction of disaggregated deployments: `python scripts/fit_pools.py MEASUREMENTS.csv`.

Prints errors on withheld curves and devices, physics beside the correction, and writes
`cache/pretrained_models/pools`. Same table, same bytes.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import xgboost

from budsim.performance.learned.pool_correction import TARGETS, pool_features, save_pools
from budsim.performance.learned.pool_intervals import FULL
from budsim.performance.measured.pool_columns import MODE
from budsim.performance.measured.pool_measurements import PoolMeasurements, read_pools
from budsim.performance.measured.pool_predictions import LENGTH_SHARES
from budsim.performance.predictor import CHECKOUT
from budsim.performance.serving.pools.queues import steady_pools
from budsim.performance.serving.pools.waves import run_pools

ROUNDS, FOLDS = 200, 5
# Errors differ by a tenth with the draw of the folds, so that they are told over several draws.
FOLD_SEEDS = (0, 1, 2)
PARAMETERS = {
    "eta": 0.05,
    "max_depth": 5,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "min_child_weight": 10,
    "objective": "reg:absoluteerror",
    "nthread": 1,
    "seed": 0,
}


def residuals(features: np.ndarray, target: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return what is left of each row with its group withheld, shape (seeds, n)."""
    return np.stack([target - grouped(features, target, groups, seed) for seed in FOLD_SEEDS])


def grouped(features: np.ndarray, target: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return predictions of rows whose group was withheld, five folds of groups."""
    codes = np.unique(groups, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(codes.max() + 1)
    folds = [order[start::FOLDS] for start in range(min(FOLDS, len(order)))]
    found = np.zeros(len(target))
    for fold in folds:
        held = np.isin(codes, fold)
        known = ~held & np.isfinite(target)
        booster = train(features[known], target[known])
        found[held] = booster.inplace_predict(features[held])
    return found


def train(features: np.ndarray, target: np.ndarray) -> xgboost.Booster:
    """Return trees that minimise the mean absolute log error."""
    return xgboost.train(PARAMETERS, xgboost.DMatrix(features, target), ROUNDS)


def told(name: str, errors: np.ndarray, stated: np.ndarray) -> None:
    """Print median absolute errors of rows that state their workers, and of others."""
    each = (errors[..., stated], errors[..., ~stated])
    medians = " ".join(f"{np.expm1(np.nanmedian(np.abs(e))):.3f}" for e in each)
    print(f"{name:42} stated, inferred: {medians}")


def tell_steady(name: str, measured: np.ndarray, measurements: PoolMeasurements) -> None:
    """Print the constants of `learned.pool_intervals`: what the steady state leaves."""
    steady = steady_pools(measurements.pools)
    left = np.log(measured / getattr(steady, f"{name}_s"))
    known = measurements.stated & np.isfinite(left)
    is_full = steady.prefill_busy >= FULL
    for part, at in (("below full", known & ~is_full), ("full", known & is_full), ("all", known)):
        ends = np.quantile(left[at], (0.05, 0.1, 0.9, 0.95)).round(2).tolist()
        print(f"{name}, steady state, {part} ({at.sum()}): 5, 10, 90, 95 %: {ends}")


def main(path: str) -> None:
    """Fit, judge and write."""
    table = pd.read_csv(path, dtype=str).fillna("")
    table = table[table["mode"] == MODE].reset_index(drop=True)
    measurements = read_pools(table)
    rows = table.iloc[measurements.rows].reset_index(drop=True)
    runs = run_pools(measurements.pools, LENGTH_SHARES)
    ttft = np.where(measurements.median, runs.ttft_p50, runs.ttft_mean)
    stated = measurements.stated
    features = pool_features(measurements.pools, runs, stated, measurements.median, ttft)
    modelled = {"tpot": runs.tpot_s, "ttft": ttft}
    decode = measurements.pools.decode
    device = rows.device_name.to_numpy(dtype=str)
    columns = [rows.precision, rows.input_tokens, rows.output_tokens]
    sizes = [measurements.pools.prefill.tp, decode.tp, decode.dp, features[:, 0], features[:, 1]]
    curve = pd.Series(device).str.cat(
        [pd.Series(each).astype(str) for each in columns + sizes], "|"
    )
    boosters, spreads = {}, {}
    for name in TARGETS:
        stated_ms = [
            pd.to_numeric(rows[f"{name}_ms_{each}"], errors="coerce") for each in ("mean", "p50")
        ]
        measured = stated_ms[0].fillna(stated_ms[1]).to_numpy() / 1e3
        target = np.log(measured / modelled[name])
        told(f"{name}, physics", target, stated)
        left = residuals(features, target, curve.to_numpy(dtype=str))
        told(f"{name}, each curve withheld", left, stated)
        told(f"{name}, each device withheld", residuals(features, target, device), stated)
        spreads[name] = {
            part: tuple(np.nanquantile(left[:, at], (0.05, 0.95)).round(4).tolist())
            for part, at in (("stated", stated), ("inferred", ~stated))
        }
        known = np.isfinite(target)
        boosters[name] = train(features[known], target[known])
        tell_steady(name, measured, measurements)
    save_pools(CHECKOUT, boosters, spreads, {"rows": len(rows), "parties": ["inferencex"]})
    print(spreads)


if __name__ == "__main__":
    main(sys.argv[1])
