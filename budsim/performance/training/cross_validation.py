"""Grouped cross-validation: every row predicted by a regressor that saw none of its group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.learned.features import feature_names
from budsim.performance.learned.intervals import (
    Novelty,
    Regime,
)
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.predictions import latency
from budsim.performance.training.rows import Rows

# Trees of each regressor.
ROUNDS = 600

# XGBoost's parameters, chosen by training.tune on CUDA rows with curves withheld. Nearby parameters
# differ in error by less than folds do.
PARAMETERS = {
    "objective": "reg:absoluteerror",
    "max_depth": 7,
    "eta": 0.04,
    "subsample": 0.9,
    "colsample_bynode": 0.3,
    "min_child_weight": 10.0,
    "lambda": 0.3,
    "tree_method": "hist",
}

# By target, the features in which its correction may only rise. Other features change with them, so
# a longer prompt can still be given a shorter TTFT. Of 1,470 longer prompts 71 are, by at most 18 %
# (without this constraint 122, by at most 31 %).
MONOTONE = {"ttft": {"log_input": 1, "log_concurrency": 1}, "tpot": {"log_concurrency": 1}}

# Parts the curves are divided into.
CURVE_FOLDS = 10

# Number of the largest models or devices that are a fold each; the others share two folds.
LARGEST_GROUPS = 10

# Parties with at least this many rows count when the share of a correction is chosen.
FEWEST_OF_PARTY = 20

# Shares of a correction that are tried.
SHRINKAGES = (0.0, 0.25, 0.5, 0.75, 1.0)

# A kind of hardware with fewer rows has no regressor; a fold with fewer than half has none.
FEWEST_ROWS = 60

# Folds fitted side by side by one thread each: two threads of one fit wait for each other longer
# than they work.
FOLDS_AT_A_TIME = 2

# Rows further than a factor of e**3 from physics are broken or mislabelled. They are left out of
# training, never of the error report.
LARGEST_LOG_RATIO = 3.0

# The groups withheld for each kind of novelty.
SPLITS = {
    Novelty.KNOWN: "curve",
    Novelty.NEW_MODEL: "model",
    Novelty.NEW_DEVICE: "device",
    Novelty.NEW_PARTY: "party",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """How regressors are fitted: the seed, the number of trees, and XGBoost's parameters."""

    seed: int
    rounds: int
    parameters: Mapping[str, object] = field(default_factory=lambda: PARAMETERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Out-of-fold log(measured / predicted) of each quantity under one way of withholding.

    ``shrinkage`` is, by target and regime, the share of a correction that is applied.
    ``corrections`` (n,) are the log corrections before shrinkage, by regressors that saw none of a
    row's group.
    """

    residuals: Mapping[str, Floats]
    shrinkage: Mapping[str, Mapping[Regime, float]]
    corrections: Mapping[str, Floats]


def validate(rows: Rows, split: str, fitting: Fitting) -> Validation:
    """Predict every row by a model that saw none of its group, and choose the shrinkage.

    The shrinkage is one number for each target and regime: 1 with curves withheld, else chosen
    among `SHRINKAGES` by median absolute log error.
    """
    corrections = {target: out_of_fold(rows, target, split, fitting) for target in TARGETS}
    shrinkage, scaled = {}, {}
    for target, correction in corrections.items():
        shrinkage[target] = {
            regime: _best_share(rows, target, correction, at, split)
            for regime, at in rows.regimes().items()
        }
        shares = np.where(
            rows.names.static, shrinkage[target][Regime.STATIC], shrinkage[target][Regime.SERVING]
        )
        scaled[target] = shares * correction
    residuals = {target: rows.log_ratio(target) - scaled[target] for target in TARGETS}
    residuals["e2e"] = e2e_residuals(rows, scaled)
    residuals |= percentile_residuals(rows, scaled)
    return Validation(residuals=residuals, shrinkage=shrinkage, corrections=corrections)


def _best_share(rows: Rows, target: str, correction: Floats, at: Booleans, split: str) -> float:
    """Return the share of a correction that is applied: all with curves withheld."""
    ratio = rows.lesson(target)[at]
    if not np.isfinite(ratio).any():
        return 0.0
    return 1.0 if split == "curve" else _harmless_share(rows, target, correction, at)


def _harmless_share(rows: Rows, target: str, correction: Floats, at: Booleans) -> float:
    """Return the best share of those that make no party's median error larger than physics alone.

    The best share has the smallest mean over parties of their median errors. Every party with
    `FEWEST_OF_PARTY` rows or more counts the same.
    """
    parties = rows.names.party.to_numpy()
    errors = np.array(
        [
            [np.median(np.abs(ratio - share * correction[known])) for share in SHRINKAGES]
            for party in np.unique(parties)
            if (known := at & (parties == party) & np.isfinite(rows.lesson(target))).sum()
            >= FEWEST_OF_PARTY
            for ratio in (rows.lesson(target)[known],)
        ]
    )
    if not len(errors):
        return 0.0
    harmless = (errors <= errors[:, :1]).all(axis=0)
    means = np.where(harmless, errors.mean(axis=0), np.inf)
    return SHRINKAGES[int(np.argmin(means))]


def out_of_fold(rows: Rows, target: str, split: str, fitting: Fitting) -> Floats:
    """Return the log correction (n,) of every row by a regressor that saw none of its group."""
    folds = list(_folds(rows.groups[split], split, fitting.seed))
    with ThreadPoolExecutor(FOLDS_AT_A_TIME) as pool:
        found = list(
            pool.map(
                lambda withheld: corrected_by(rows, target, ~withheld, withheld, fitting), folds
            )
        )
    correction = np.zeros(len(rows))
    for withheld, corrections in zip(folds, found, strict=True):
        if corrections is not None:
            correction[withheld] = corrections
    return correction


def corrected_by(
    rows: Rows, target: str, teachers: Booleans, asked: Booleans, fitting: Fitting
) -> Floats | None:
    """Return the log corrections of the ``asked`` rows by a regressor that saw the ``teachers``.

    None where there are too few teachers.
    """
    import xgboost

    use = trainable(rows, target) & teachers
    if use.sum() < FEWEST_ROWS // 2:
        return None
    booster = fit_booster(rows, target, use, fitting)
    data = xgboost.DMatrix(rows.features[asked], feature_names=list(feature_names()))
    return np.asarray(booster.predict(data), dtype=np.float64)


def _folds(groups: Integers, split: str, seed: int) -> Iterator[Booleans]:
    """Yield the rows each fold withholds, shape (n,).

    Curves in ten random parts; parties one by one; the largest models or devices in turn, and the
    rest in two.
    """
    count = int(groups.max()) + 1
    part = np.random.default_rng(seed).permutation(count) % CURVE_FOLDS
    if split == "party":
        part = np.arange(count)
    elif split != "curve":
        rank = np.argsort(
            np.argsort(-np.bincount(groups, minlength=count), kind="stable"), kind="stable"
        )
        part = np.minimum(rank, LARGEST_GROUPS + rank % 2)
    yield from (part[groups] == fold for fold in np.unique(part))


def trainable(rows: Rows, target: str) -> Booleans:
    """Return which rows teach a target: measured, and not too far from physics."""
    ratio = rows.lesson(target)
    return np.isfinite(ratio) & (np.abs(np.nan_to_num(ratio)) < LARGEST_LOG_RATIO)


def fit_booster(rows: Rows, target: str, use: Booleans, fitting: Fitting) -> Any:
    """Return a regressor of a target, fitted on the rows ``use``."""
    import xgboost

    ratio = rows.lesson(target)
    weight = rows.weight(target)[use]
    data = xgboost.DMatrix(
        rows.features[use], ratio[use], weight=weight, feature_names=list(feature_names())
    )
    parameters = {
        **fitting.parameters,
        "monotone_constraints": MONOTONE[target],
        "seed": fitting.seed,
        "nthread": 1,
    }
    return xgboost.train(parameters, data, fitting.rounds)


def e2e_residuals(rows: Rows, corrections: Mapping[str, Floats]) -> Floats:
    """Return log(measured / predicted) of end-to-end latency under log corrections."""
    ttft, tpot = (
        rows.modelled[target] * np.exp(corrections[target]) for target in ("ttft", "tpot")
    )
    return np.asarray(
        np.log(rows.measured["e2e"] / latency(ttft, tpot, rows.output_tokens)), dtype=np.float64
    )


def percentile_residuals(rows: Rows, corrections: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return log(measured / predicted) of percentiles; each is corrected as its mean is."""
    uncorrected = {target: np.zeros(len(rows)) for target in TARGETS}
    of_e2e = e2e_residuals(rows, uncorrected) - e2e_residuals(rows, corrections)
    each = {**corrections, "e2e": of_e2e}
    return {
        name: ratio - np.nan_to_num(each[name.split("_")[0]])
        for name, ratio in rows.percentiles.items()
    }
