"""Fit the correction of disaggregated deployments: `python scripts/fit_pools.py MEASUREMENTS.csv`.

Prints errors and intervals on withheld curves and devices, physics beside the correction, and
writes `cache/pretrained_models/pools`. Same table, same bytes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xgboost
from scipy.optimize import minimize

from budsim.performance.candidates import rows_of
from budsim.performance.learned.pool_correction import (
    BUSY,
    PoolCorrection,
    save_pools,
    strata,
)
from budsim.performance.learned.pool_intervals import FULL, LOADED
from budsim.performance.learned.pool_speeds import SPEED_TERMS, speed_terms
from budsim.performance.measured.pool_columns import MODE
from budsim.performance.measured.pool_measurements import PoolMeasurements, read_pools
from budsim.performance.measured.pool_predictions import reported_ttft, run_features
from budsim.performance.predictor import CHECKOUT
from budsim.performance.serving.pools.pool_times import Pools, decode_ranks, token_time
from budsim.performance.serving.pools.runs import (
    CLIENT_LENGTHS,
    PoolRuns,
    Speeds,
    run_pools,
)

ROUNDS, FOLDS = 200, 5
# Errors differ by a tenth with the draw of the folds, so that they are told over several draws.
FOLD_SEEDS = (0, 1, 2, 3, 4)
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

# Quantiles between which withheld rows of a stratum are meant to lie: more than 90 %, because ends
# that are taken from other curves hold less than of their own, most of all of full workers.
ENDS, ENDS_OF_FULL = (0.04, 0.96), (0.025, 0.975)

# Logs of factors on prefill seconds at which rows are replayed; between them TTFT is interpolated.
GRID = np.linspace(-1.6, 1.6, 13)
# Errors of TTFT in the log far beyond this count little: the median is what is asked for.
CAP = 2.0
# Weight of the 99th percentile of TTFT, which the first wave makes, beside the mean or median.
TAIL = 0.1
# Ridge on the weights of standardised terms. Configurations measured n times count as sqrt(n), here
# and in trees.
RIDGE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Measured rows, and what fitting needs of each; arrays of shape (n,), seconds.

    ``tables`` (2, n, len(`GRID`)) are logs of the modelled TTFT and its 99th percentile by the
    speed of prefill; of rows that do not state their workers nan.
    """

    measurements: PoolMeasurements
    ttft_s: np.ndarray
    tail_s: np.ndarray
    tpot_s: np.ndarray
    repeats: np.ndarray
    terms: np.ndarray
    tables: np.ndarray

    @property
    def stated(self) -> np.ndarray:
        """Whether a row states the workers of both pools."""
        return self.measurements.stated


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """What is left of each row by a correction that did not know its group, and its stratum."""

    tpot: np.ndarray
    ttft: np.ndarray
    strata: np.ndarray
    folds: np.ndarray


def read(table: pd.DataFrame) -> tuple[Rows, pd.DataFrame]:
    """Return the readable rows, with their tables."""
    measurements = read_pools(table)
    rows = table.iloc[measurements.rows].reset_index(drop=True)
    ttft, tpot = (
        _first(rows, "ttft_ms_mean", "ttft_ms_p50"),
        _first(rows, "tpot_ms_mean", "tpot_ms_p50"),
    )
    keys = configurations(rows, measurements)
    found = Rows(
        measurements=measurements,
        ttft_s=ttft,
        tail_s=_first(rows, "ttft_ms_p99"),
        tpot_s=tpot,
        repeats=keys.map(keys.value_counts()).to_numpy(dtype=np.float64),
        terms=speed_terms(measurements.pools),
        tables=np.full((2, len(rows), len(GRID)), np.nan),
    )
    return replace(found, tables=_tables(found)), rows


def _first(rows: pd.DataFrame, *names: str) -> np.ndarray:
    columns = [pd.to_numeric(rows[name], errors="coerce") for name in names]
    return pd.concat(columns, axis=1).bfill(axis=1).iloc[:, 0].to_numpy(dtype=np.float64) / 1e3


def _tables(rows: Rows) -> np.ndarray:
    """Return TTFT by the speed of prefill, with tokens as fast as they were measured."""
    at = np.flatnonzero(rows.stated)
    pools, median = _some(rows.measurements.pools, at), rows.measurements.median[at]
    ttft, tpot = rows.ttft_s[at], rows.tpot_s[at]
    decoding = (pools.decode.output_tokens - 1.0) * tpot
    running = np.maximum(pools.concurrency * decoding / (ttft + decoding), 1.0)
    token = tpot / token_time(decode_ranks(pools.decode), running / pools.decode_workers)
    tables = np.full_like(rows.tables, np.nan)
    for step, log in enumerate(GRID):
        speeds = Speeds(prefill=np.full(len(at), np.exp(log)), token=token)
        runs = run_pools(pools, CLIENT_LENGTHS, speeds)
        tables[0, at, step] = np.log(np.where(median, runs.ttft_p50, runs.ttft_mean))
        tables[1, at, step] = np.log(runs.ttft_p99)
    return tables


def _some(pools: Pools, at: np.ndarray) -> Pools:
    picked = {
        name: None if getattr(pools, name) is None else getattr(pools, name)[at]
        for name in "prefill_workers decode_workers concurrency most_decoding".split()
    }
    return Pools(prefill=rows_of(pools.prefill, at), decode=rows_of(pools.decode, at), **picked)


def fit_speeds(rows: Rows, known: np.ndarray) -> np.ndarray:
    """Return weights of `SPEED_TERMS` that make the replayed TTFT of ``known`` rows right."""
    at = np.flatnonzero(known & rows.stated)
    mean, spread = rows.terms.mean(axis=0), rows.terms.std(axis=0) + 1e-9
    mean[0], spread[0] = 0.0, 1.0
    terms, weight = (rows.terms[at] - mean) / spread, rows.repeats[at] ** -0.5
    sides = (
        (rows.tables[0, at], rows.ttft_s[at], 1.0),
        (rows.tables[1, at], rows.tail_s[at], TAIL),
    )

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = RIDGE * float((weights[1:] ** 2).sum()), 2.0 * RIDGE * weights
        slope[0] = 0.0
        for table, measured, share in sides:
            modelled, change = _between(table, terms @ weights)
            error = modelled - np.log(measured)
            fine = np.isfinite(error)
            error, change = np.where(fine, error, 0.0), np.where(fine, change, 0.0)
            size = np.sqrt(error**2 + 0.02**2)
            total += share * float((weight * size / (size + CAP)).sum())
            slope += share * terms.T @ (weight * error / size * CAP / (size + CAP) ** 2 * change)
        return total, slope

    found = minimize(loss, np.zeros(terms.shape[1]), jac=True, method="L-BFGS-B").x / spread
    found[0] -= float((found[1:] * mean[1:]).sum())
    return found


def _between(table: np.ndarray, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values of tables over `GRID` between its points, and their slopes."""
    step = GRID[1] - GRID[0]
    place = np.clip((log - GRID[0]) / step, 0.0, len(GRID) - 1.001)
    low, every = place.astype(int), np.arange(len(log))
    first, second = table[every, low], table[every, low + 1]
    return first + (place - low) * (second - first), (second - first) / step


def train(
    features: np.ndarray, target: np.ndarray, repeats: np.ndarray, used: np.ndarray
) -> xgboost.Booster:
    """Return trees that minimise the mean absolute log error of the ``used`` rows (n,)."""
    at = np.flatnonzero(used & np.isfinite(target))
    known = xgboost.DMatrix(features[at], target[at], weight=repeats[at] ** -0.5)
    return xgboost.train(PARAMETERS, known, ROUNDS)


def withheld(rows: Rows, groups: np.ndarray, seed: int) -> Withheld:
    """Return what is left of rows whose group was withheld from each part, five folds of groups."""
    codes = np.unique(groups, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(codes.max() + 1)
    folds = np.zeros(len(codes), dtype=int)
    for fold in range(FOLDS):
        folds[np.isin(codes, order[fold::FOLDS])] = fold
    prefill, stated = np.ones(len(codes)), rows.stated
    for fold in np.unique(folds):
        held = folds == fold
        weights = fit_speeds(rows, ~held)
        prefill[held] = np.exp(np.clip(rows.terms[held] @ weights, GRID[0], GRID[-1]))
    first, tpot = _tpot_left(rows, prefill, folds)
    token = rows.tpot_s / np.exp(tpot) / first.tpot_s
    speeds = Speeds(prefill=prefill, token=np.where(np.isfinite(token), token, 1.0))
    runs = run_pools(rows.measurements.pools, CLIENT_LENGTHS, speeds)
    left = np.log(rows.ttft_s / reported_ttft(rows.measurements, runs))
    features = run_features(rows.measurements, runs)
    ttft = np.where(stated, left, left - _apart(rows, features, left, folds, np.ones_like(stated)))
    return Withheld(tpot=tpot, ttft=ttft, strata=np.array(strata(runs, stated)), folds=folds)


def _tpot_left(rows: Rows, prefill: np.ndarray, folds: np.ndarray) -> tuple[PoolRuns, np.ndarray]:
    speeds = Speeds(prefill=prefill, token=np.ones(len(prefill)))
    runs = run_pools(rows.measurements.pools, CLIENT_LENGTHS, speeds)
    target, features = np.log(rows.tpot_s / runs.tpot_s), run_features(rows.measurements, runs)
    own = _apart(rows, features, target, folds, rows.stated)
    every = _apart(rows, features, target, folds, np.ones_like(rows.stated))
    return runs, target - np.where(rows.stated, own, every)


def _apart(
    rows: Rows, features: np.ndarray, target: np.ndarray, folds: np.ndarray, used: np.ndarray
) -> np.ndarray:
    """Return predictions of every fold by trees that saw the ``used`` rows of the others."""
    found = np.zeros(len(target))
    for fold in np.unique(folds):
        held = folds == fold
        trees = train(features, target, rows.repeats, used & ~held)
        found[held] = trees.inplace_predict(features[held])
    return found


def fit(rows: Rows, spreads: dict[str, dict[str, tuple[float, float]]]) -> PoolCorrection:
    """Return the correction of all rows."""
    every = np.ones(len(rows.ttft_s), dtype=bool)
    weights = fit_speeds(rows, every).round(4)
    prefill = np.exp(np.clip(rows.terms @ weights, GRID[0], GRID[-1]))
    speeds = Speeds(prefill=prefill, token=np.ones(len(prefill)))
    first = run_pools(rows.measurements.pools, CLIENT_LENGTHS, speeds)
    features, target = run_features(rows.measurements, first), np.log(rows.tpot_s / first.tpot_s)
    boosters = {
        "tpot_stated": train(features, target, rows.repeats, rows.stated),
        "tpot_inferred": train(features, target, rows.repeats, every),
    }
    found = PoolCorrection(weights=weights, boosters=boosters, spreads=spreads)
    token = found.tpot_factors(rows.stated, features)
    runs = run_pools(rows.measurements.pools, CLIENT_LENGTHS, replace(speeds, token=token))
    left = np.log(rows.ttft_s / reported_ttft(rows.measurements, runs))
    left_features = run_features(rows.measurements, runs)
    boosters["ttft_inferred"] = train(left_features, left, rows.repeats, every)
    return found


def ends_of(part: str) -> tuple[float, float]:
    """Return the quantiles of a stratum's interval."""
    return ENDS_OF_FULL if part == "full" else ENDS


def spreads_of(found: list[Withheld]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the logs between which 90 % of withheld rows lie, by quantity and stratum."""
    strata_found = np.concatenate([each.strata for each in found])
    spreads: dict[str, dict[str, tuple[float, float]]] = {}
    for name in ("tpot", "ttft"):
        left = np.concatenate([getattr(each, name) for each in found])
        spreads[name] = {
            part: tuple(np.nanquantile(left[strata_found == part], ends_of(part)).round(4).tolist())
            for part in (*BUSY, "inferred")
        }
    return spreads


def tell(name: str, left: np.ndarray, at: np.ndarray) -> None:
    """Print the median and third quartile of absolute errors, and the bias."""
    errors = left[..., at]
    middle, most = np.expm1(np.nanquantile(np.abs(errors), (0.5, 0.75)))
    factor = np.exp(np.nanquantile(np.abs(errors), 0.9))
    more = f"75 % below {most:.2f}, 90 % within a factor of {factor:.1f}"
    print(f"{name:44} {middle:.3f}, {more}, bias {np.nanmedian(errors):+.2f}")


def tell_coverage(found: list[Withheld]) -> None:
    """Print how often intervals hold whose ends come from the other folds, and their width."""
    for name in ("tpot", "ttft"):
        for part in (*BUSY, "inferred"):
            inside, widths = [], []
            for each in found:
                left, own = getattr(each, name), each.strata == part
                for fold in np.unique(each.folds):
                    others = left[own & (each.folds != fold)]
                    low, high = np.nanquantile(others, ends_of(part))
                    held = left[own & (each.folds == fold)]
                    held = held[np.isfinite(held)]
                    inside += ((held >= min(low, 0.0)) & (held <= max(high, 0.0))).tolist()
                    widths += [np.exp(high - low)] * len(held)
            told = f"{np.mean(inside):.2f} inside, median high / low {np.median(widths):.1f}"
            print(f"{name}, {part} ({len(inside)} rows over the draws): {told}")


def tell_physics(name: str, left: np.ndarray, stated: np.ndarray, busy: np.ndarray) -> None:
    """Print the constants of `learned.pool_intervals`: what physics alone leaves.

    Questions are about loops that have run for long, whose prefill workers are ``busy``.
    """
    known = stated & np.isfinite(left)
    parts = {
        "idle": busy < LOADED,
        "loaded": (busy >= LOADED) & (busy < FULL),
        "full": busy >= FULL,
    }
    for part, within in {**parts, "all": np.ones_like(known)}.items():
        at = known & within
        ends = np.quantile(left[at], (0.05, 0.1, 0.9, 0.95)).round(2).tolist()
        print(f"{name}, physics alone, {part} ({at.sum()}): 5, 10, 90, 95 %: {ends}")


def curves(rows: pd.DataFrame, measurements: PoolMeasurements) -> pd.Series:
    """Return the curve of each row: all loads of one device, engine, lengths and layout."""
    tensorrt = rows.engine.str.contains("trtllm").astype(str)
    pools = measurements.pools
    sizes = [pools.prefill.tp, pools.decode.tp, pools.decode.dp]
    columns = [tensorrt, rows.precision, rows.input_tokens, rows.output_tokens]
    columns += [pd.Series(each).astype(str) for each in sizes]
    return rows.device_name.str.cat(columns, "|")


def configurations(rows: pd.DataFrame, measurements: PoolMeasurements) -> pd.Series:
    """Return what was measured again where two rows have the same."""
    pools = measurements.pools
    numbers = pools.prefill_workers, pools.decode_workers, pools.decode.draft_tokens
    columns = [rows.concurrency, *(pd.Series(each).astype(str) for each in numbers)]
    return curves(rows, measurements).str.cat(columns, "|")


def tell_groups(found: list[Withheld], rows: pd.DataFrame, stated: np.ndarray) -> None:
    """Print errors by device and engine."""
    for (device, engine), group in rows.groupby(["device_name", "engine"]):
        at = np.zeros(len(rows), dtype=bool)
        at[group.index] = True
        for name in ("tpot", "ttft"):
            left = np.stack([getattr(each, name) for each in found])
            if (at & stated).any():
                tell(f"  {device}, {engine}: {name}", left, at & stated)


def main(path: str) -> None:
    """Fit, judge and write."""
    table = pd.read_csv(path, dtype=str).fillna("")
    rows, columns = read(table[table["mode"] == MODE].reset_index(drop=True))
    measurements, stated = rows.measurements, rows.stated
    plain = run_pools(measurements.pools, CLIENT_LENGTHS)
    physics = {
        "tpot": np.log(rows.tpot_s / plain.tpot_s),
        "ttft": np.log(rows.ttft_s / reported_ttft(measurements, plain)),
    }
    groups = {
        "curve": curves(columns, measurements).to_numpy(str),
        "device": columns.device_name.to_numpy(str),
    }
    found = {
        name: [withheld(rows, each, seed) for seed in (FOLD_SEEDS if name == "curve" else (0,))]
        for name, each in groups.items()
    }
    parts = {
        "stated": stated & ~measurements.by_recipe,
        "by recipe": measurements.by_recipe,
        "inferred": ~stated,
    }
    for part, at in parts.items():
        for name, left in physics.items():
            tell(f"{name}, {part}, physics", left, at)
            for group, each in found.items():
                held = np.stack([getattr(one, name) for one in each])
                tell(f"{name}, {part}, each {group} withheld", held, at)
    tell_groups(found["curve"], columns, stated)
    tell_coverage(found["curve"])
    steady = run_pools(measurements.pools, CLIENT_LENGTHS, steady=np.ones(len(stated), dtype=bool))
    for name, left in physics.items():
        tell_physics(name, left, stated, steady.prefill_busy)
    correction = fit(rows, spreads_of(found["curve"]))
    print(dict(zip(SPEED_TERMS, correction.weights.tolist(), strict=True)))
    print(correction.spreads)
    save_pools(CHECKOUT, correction, {"rows": len(columns), "parties": ["inferencex"]})


if __name__ == "__main__":
    main(sys.argv[1])
