"""Trains the regressors of every kind of hardware, measured by grouped cross-validation: same data and seed, same bytes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.learned.features import Matrix, feature_matrix, feature_names
from budsim.performance.learned.intervals import (
    ANALYTIC_SPREADS,
    COVERAGES,
    FEWEST_OF_ENGINE,
    STRATA,
    Novelty,
    Regime,
    Residuals,
    Spread,
    spread,
    stratum_ends,
    stratum_name,
)
from budsim.performance.learned.regressors import FORMAT, MANIFEST, TARGETS
from budsim.performance.measured.measurements import Measurements, read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import latency
from budsim.performance.serving.steady_state import Modelled, steady_state

ROUNDS = 600
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
"""Chosen by `budsim.performance.training.tune` on CUDA rows with curves withheld; neighbours differ by less than folds do."""
MONOTONE = {"ttft": {"log_input": 1, "log_concurrency": 1}, "tpot": {"log_concurrency": 1}}
"""By target, features that never lessen its correction. Others move with them, so law L4, which physics keeps, can still be
broken, but is less often and by less: of 1,470 longer prompts 71 instead of 122 shorten TTFT, by 18 % at most instead of 31."""
CURVE_FOLDS = 10
CHOSEN_BY = ("device_type", "mode", "quality")
REASONS_TOLD = 3
LARGEST_GROUPS = 10
COVERAGE_FOLDS = 10
KINDS = (DeviceKind.CUDA, DeviceKind.ROCM, DeviceKind.HPU, DeviceKind.CPU)
SHRINKAGES = (0.0, 0.25, 0.5, 0.75, 1.0)
SOURCE_EXPONENT = 0.95
"""A source of n rows weighs n**0.95. With 0.8, TTFT of withheld curves was a point worse and the small sources hardly better."""
QUALITY_WEIGHT = {"A": 1.0, "B": 0.5}
UNKNOWN_LOAD = "(replicas or dp, not stated)"
"""What notes say of rows whose source leaves open how many requests each replica had in flight."""
DERIVED_WEIGHT = 0.3
"""What a lesson in TTFT weighs where only the latency of the whole was measured: at 1.0 TTFT of serving is worse."""
FEWEST_ROWS = 60
FOLDS_AT_A_TIME = 2
"""Folds are fitted side by side, each by one thread: two threads of one fit wait for each other longer than they work."""
SERVING_MODES = ("serving",)
TRAINED_MODES = (*SERVING_MODES, "static_batch", "offline")
LARGEST_LOG_RATIO = 3.0
"""Rows further than e**3 from physics are broken or mislabelled; they are left out of training, never of the error report."""
SPLITS = {Novelty.KNOWN: "curve", Novelty.NEW_MODEL: "model", Novelty.NEW_DEVICE: "device"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Training rows of one kind of hardware; arrays of shape (n,) and (n, features), times in seconds, nan where unknown."""

    features: Matrix
    modelled: Mapping[str, Floats]
    measured: Mapping[str, Floats]
    output_tokens: Floats
    weights: Floats
    groups: Mapping[str, Integers]
    names: pd.DataFrame

    def log_ratio(self, target: str) -> Floats:
        """Return log(measured / modelled) of a target."""
        return np.asarray(np.log(self.measured[target] / self.modelled[target]), dtype=np.float64)

    def lesson(self, target: str) -> Floats:
        """Return what a regressor of a target learns: its log ratio, or the latency's in rows that measured nothing else."""
        return np.where(self._derived(target), self.log_ratio("tpot"), self.log_ratio(target))

    def weight(self, target: str) -> Floats:
        """Return how much each row's lesson counts."""
        return np.where(self._derived(target), DERIVED_WEIGHT, 1.0) * self.weights

    def _derived(self, target: str) -> Booleans:
        return np.isnan(self.measured[target]) & np.isfinite(self.measured["e2e"])

    def regimes(self) -> dict[Regime, Booleans]:
        """Return which rows belong to each regime."""
        static = self.names.static.to_numpy(dtype=bool)
        return {Regime.SERVING: ~static, Regime.STATIC: static}

    def parts(self) -> dict[tuple[Regime, str], Booleans]:
        """Return which rows belong to each regime (engine ""), and to each engine's part of it."""
        engine = self.names.engine.to_numpy()
        own = {
            (regime, str(name)): at & (engine == name)
            for regime, at in self.regimes().items()
            for name in np.unique(engine)
        }
        return {**{(regime, ""): at for regime, at in self.regimes().items()}, **own}

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """How regressors are fitted: the seed of row and column sampling, the number of trees, and XGBoost's parameters."""

    seed: int
    rounds: int
    parameters: Mapping[str, object] = field(default_factory=lambda: PARAMETERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Out-of-fold log(measured / predicted) of ttft, tpot and e2e under one way of withholding.

    ``shrinkage`` is, by target and regime, the share of a correction that is best applied to what was never seen.
    """

    residuals: Mapping[str, Floats]
    shrinkage: Mapping[str, Mapping[Regime, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One kind of hardware after training: rows, validations by novelty, and where the artefacts are."""

    kind: DeviceKind
    rows: Rows
    physics: Mapping[str, Floats]
    validations: Mapping[Novelty, Validation]
    manifest: Mapping[str, Any]


def train(
    table: pd.DataFrame,
    folder: Path,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[DeviceKind, Trained]:
    """Train every kind of hardware with enough rows and write ``folder/<kind>/{ttft,tpot}.ubj`` and ``manifest.json``.

    Parameters
    ----------
    table : DataFrame
        Text in the columns of ``measurements.csv``.
    folder : Path
        Where the artefacts go.
    seed : int
        Of row and column sampling; same table and seed, same bytes.
    rounds : int
        Trees of each regressor.
    progress : callable
        Told what begins, and how many rows cannot be read.

    Raises
    ------
    InvalidInput
        When the table lacks a column that says which rows may teach.
    """
    usable = usable_rows(table)
    trained = {}
    for kind in KINDS:
        part = usable[usable.device_type == kind.value].reset_index(drop=True)
        if len(part) < FEWEST_ROWS:
            continue
        progress(f"{kind.value}: reading {len(part)} rows")
        measurements = settle(read_measurements(part))
        for reason, count in Counter(filter(None, measurements.problems)).most_common(REASONS_TOLD):
            progress(f"{kind.value}: {count} rows left out: {reason}")
        if len(measurements) >= FEWEST_ROWS:
            rows = training_rows(measurements)
            trained[kind] = _train_kind(
                kind,
                rows,
                folder / kind.value,
                Fitting(seed=seed, rounds=rounds),
                _digest(part),
                progress,
            )
    return trained


def usable_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows worth learning from: trusted, of a mode the analytic model knows, and under a load that is known.

    Raises
    ------
    InvalidInput
        When the table lacks a column that says which rows those are.
    """
    missing = [name for name in CHOSEN_BY if name not in table]
    if missing:
        raise InvalidInput(
            "data", f"has no column {', '.join(missing)}", "the columns of measurements.csv"
        )
    worth = table["quality"].isin(list(QUALITY_WEIGHT)) & table["mode"].isin(TRAINED_MODES)
    if "notes" in table:
        worth &= ~table["notes"].astype(str).str.contains(UNKNOWN_LOAD, regex=False)
    return table[worth].reset_index(drop=True)


def training_rows(measurements: Measurements) -> Rows:
    """Return features and targets; TPOT of rows that report only throughput or latency follows from them (law L13)."""
    ranks = prepare(measurements.candidates)
    memory = memory_use(ranks)
    modelled = steady_state(ranks, memory)
    measured = measured_times(measurements, modelled)
    names = _names(measurements)
    return Rows(
        features=feature_matrix(ranks, memory, modelled, measurements.median.astype(np.float64)),
        modelled={"ttft": modelled.ttft_s, "tpot": modelled.tpot_s},
        measured=measured,
        output_tokens=measurements.candidates.output_tokens,
        weights=_weights(names),
        groups={
            "curve": _codes(names[[*CURVE]]),
            "model": _codes(names[["shape"]]),
            "device": _codes(names[["device"]]),
        },
        names=names,
    )


CURVE = (
    "source",
    "shape",
    "device",
    "engine",
    "precision",
    "tp",
    "pp",
    "ep",
    "dp",
    "input",
    "output",
    "speculative",
)


def _names(measurements: Measurements) -> pd.DataFrame:
    table = measurements.candidates
    shape = [f"{a.hidden_size}x{a.layer_count}x{a.parameters}" for a in table.architectures]
    return pd.DataFrame(
        {
            "source": list(measurements.source),
            "quality": list(measurements.quality),
            "model": [table.architectures[i].model_id for i in table.architecture],
            "shape": [shape[i] for i in table.architecture],
            "device": [table.devices[i].name for i in table.device],
            "engine": [table.engines[i].name for i in table.engine],
            "precision": [table.precisions[i].value for i in table.weight_precision],
            "tp": table.tp,
            "pp": table.pp,
            "ep": table.ep,
            "dp": table.dp,
            "input": table.input_tokens,
            "output": table.output_tokens,
            "concurrency": table.concurrency,
            "speculative": table.speculative,
            "static": table.static_batch,
        }
    )


def measured_times(measurements: Measurements, modelled: Modelled) -> dict[str, Floats]:
    """Return measured TTFT, TPOT and end-to-end latency in seconds, nan where unknown.

    TPOT of rows that report only throughput or latency follows from them: less the TTFT where that was measured, else both are
    taken to be off by the same factor.
    """
    output = measurements.candidates.output_tokens
    concurrency = measurements.candidates.concurrency
    with np.errstate(divide="ignore", invalid="ignore"):
        by_throughput = concurrency * output / (measurements.tokens_per_s / measurements.replicas)
        e2e = np.where(np.isfinite(measurements.e2e_s), measurements.e2e_s, by_throughput)
        ttft = np.where(measurements.ttft_s > 0, measurements.ttft_s, np.nan)
        less_first = np.where(output > 1.5, (e2e - ttft) / (output - 1.0), np.nan)
        in_proportion = modelled.tpot_s * e2e / latency(modelled.ttft_s, modelled.tpot_s, output)
        implied = np.where(
            np.isfinite(ttft), less_first, np.where(output > 1.5, in_proportion, np.nan)
        )
        tpot = np.where(
            measurements.tpot_s > 0, measurements.tpot_s, np.where(implied > 0, implied, np.nan)
        )
        whole = np.where(measurements.tpot_s > 0, latency(ttft, tpot, output), e2e)
    return {"ttft": ttft, "tpot": tpot, "e2e": whole}


def _weights(names: pd.DataFrame) -> Floats:
    rows = names.groupby("source").source.transform("size").to_numpy()
    quality = names.quality.map(QUALITY_WEIGHT).fillna(min(QUALITY_WEIGHT.values())).to_numpy()
    weights = quality * rows ** (SOURCE_EXPONENT - 1.0)
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def _codes(columns: pd.DataFrame) -> Integers:
    return np.asarray(columns.astype(str).agg("|".join, axis=1).factorize()[0], dtype=np.int64)


def _train_kind(
    kind: DeviceKind,
    rows: Rows,
    folder: Path,
    fitting: Fitting,
    digest: str,
    progress: Callable[[str], None],
) -> Trained:
    validations = {}
    for novelty, split in SPLITS.items():
        progress(f"{kind.value}: cross-validating, each {split} withheld")
        validations[novelty] = validate(rows, split, fitting)
    progress(f"{kind.value}: fitting {len(rows)} rows")
    contents = {
        target: _fit(rows, target, _trainable(rows, target), fitting).save_raw("ubj")
        for target in TARGETS
    }
    manifest = _manifest(kind, rows, validations, contents, fitting, digest)
    folder.mkdir(parents=True, exist_ok=True)
    for target, content in contents.items():
        (folder / f"{target}.ubj").write_bytes(content)
    (folder / MANIFEST).write_text(
        json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    physics = {**{target: rows.log_ratio(target) for target in TARGETS}}
    physics["e2e"] = _e2e_residuals(rows, {target: np.zeros(len(rows)) for target in TARGETS})
    return Trained(
        kind=kind, rows=rows, physics=physics, validations=validations, manifest=manifest
    )


def _trainable(rows: Rows, target: str) -> Booleans:
    ratio = rows.lesson(target)
    return np.isfinite(ratio) & (np.abs(np.nan_to_num(ratio)) < LARGEST_LOG_RATIO)


def _fit(rows: Rows, target: str, use: Booleans, fitting: Fitting) -> Any:
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


def validate(rows: Rows, split: str, fitting: Fitting) -> Validation:
    """Predict every row by a model that saw none of its group, and find how far to trust corrections of a new one.

    The shrinkage is one number per target, chosen among `SHRINKAGES` by the median absolute log error.
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
    residuals["e2e"] = _e2e_residuals(rows, scaled)
    return Validation(residuals=residuals, shrinkage=shrinkage)


def _best_share(rows: Rows, target: str, correction: Floats, at: Booleans, split: str) -> float:
    """Return the share with the smallest median absolute log error; all for what is known, none where there are no rows."""
    ratio = rows.lesson(target)[at]
    if not np.isfinite(ratio).any():
        return 0.0
    if split == "curve":
        return 1.0
    return min(
        SHRINKAGES, key=lambda share: float(np.nanmedian(np.abs(ratio - share * correction[at])))
    )


def out_of_fold(rows: Rows, target: str, split: str, fitting: Fitting) -> Floats:
    """Return the correction (n,) of log ``target`` of every row by a regressor that saw none of its curve, model or device."""
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
    """Return the log corrections of the ``asked`` rows by a regressor that saw the ``teachers``, None where those are too few."""
    import xgboost

    use = _trainable(rows, target) & teachers
    if use.sum() < FEWEST_ROWS // 2:
        return None
    booster = _fit(rows, target, use, fitting)
    data = xgboost.DMatrix(rows.features[asked], feature_names=list(feature_names()))
    return np.asarray(booster.predict(data), dtype=np.float64)


def _folds(groups: Integers, split: str, seed: int) -> Iterator[Booleans]:
    """Yield what each fold withholds: curves in ten random parts; the largest models or devices in turn, the rest in two."""
    count = int(groups.max()) + 1
    part = np.random.default_rng(seed).permutation(count) % CURVE_FOLDS
    if split != "curve":
        rank = np.argsort(
            np.argsort(-np.bincount(groups, minlength=count), kind="stable"), kind="stable"
        )
        part = np.minimum(rank, LARGEST_GROUPS + rank % 2)
    yield from (part[groups] == fold for fold in np.unique(part))


def _e2e_residuals(rows: Rows, corrections: Mapping[str, Floats]) -> Floats:
    ttft, tpot = (
        rows.modelled[target] * np.exp(corrections[target]) for target in ("ttft", "tpot")
    )
    return np.asarray(
        np.log(rows.measured["e2e"] / latency(ttft, tpot, rows.output_tokens)), dtype=np.float64
    )


def spreads(rows: Rows, validations: Mapping[Novelty, Validation]) -> dict[str, Spread]:
    """Return residual quantiles of each quantity by stratum.

    Where a kind's TTFT was never measured the analytic model's spread holds; end-to-end latency then borrows TPOT's.
    """
    parts = rows.parts()

    def residuals(name: str) -> dict[str, Residuals]:
        return {
            stratum_name(novelty, *part): _known(
                validation.residuals[name], rows.groups[SPLITS[novelty]], at
            )
            for novelty, validation in validations.items()
            for part, at in parts.items()
        }

    found = {name: residuals(name) for name in (*TARGETS, "e2e")}
    known = {
        name: spread(each, ANALYTIC_SPREADS[name])
        for name, each in found.items()
        if any(map(len, each.values()))
    }
    return {"ttft": ANALYTIC_SPREADS["ttft"], "e2e": known["tpot"], **known}


def _known(values: Floats, groups: Integers, at: Booleans) -> Residuals:
    known = at & np.isfinite(values)
    return Residuals(values[known], groups[known])


def coverage90(rows: Rows, residuals: Mapping[str, Floats], novelty: Novelty) -> dict[str, Floats]:
    """Return, per quantity, 1.0 where a row lies in a 90 % interval made from other groups' residuals, nan where unknown.

    A tenth of the groups at a time is judged by the rest of its stratum, so that near duplicates never decide their own interval.
    """
    groups = rows.groups[SPLITS[novelty]]
    fold = groups % COVERAGE_FOLDS
    inside = {name: np.full(len(rows), np.nan) for name in residuals}
    parts = rows.parts()
    for name, values in residuals.items():
        for (
            regime,
            engine,
        ), at in parts.items():  # an engine's part comes after the whole and overrules it
            known = at & np.isfinite(values)
            for own in (known & (fold == number) for number in range(COVERAGE_FOLDS)):
                other = Residuals(values[known & ~own], groups[known & ~own])
                if own.any() and (other.suffice(FEWEST_OF_ENGINE) if engine else len(other)):
                    low, high = stratum_ends(
                        other,
                        0.9,
                        ANALYTIC_SPREADS[name].quantiles[stratum_name(novelty, regime)][0.9],
                    )
                    inside[name][own] = (values[own] >= min(low, 0.0)) & (
                        values[own] <= max(high, 0.0)
                    )
    return inside


def _manifest(
    kind: DeviceKind,
    rows: Rows,
    validations: Mapping[Novelty, Validation],
    contents: Mapping[str, bytearray],
    fitting: Fitting,
    digest: str,
) -> dict[str, Any]:
    import xgboost

    return {
        "format": FORMAT,
        "kind": kind.value,
        "features": list(feature_names()),
        "targets": {
            target: {"meaning": f"log(measured / modelled {target.upper()})", "unit": "1"}
            for target in TARGETS
        },
        "artefacts": {
            target: {"sha256": hashlib.sha256(content).hexdigest()}
            for target, content in contents.items()
        },
        "data_sha256": digest,
        "library": f"xgboost {xgboost.__version__}",
        "parameters": {
            **fitting.parameters,
            "monotone_constraints": MONOTONE,
            "rounds": fitting.rounds,
            "seed": fitting.seed,
        },
        "rows": len(rows),
        "models": sorted(set(rows.names.model)),
        "devices": sorted(set(rows.names.device)),
        "engines": sorted(set(rows.names.engine)),
        "feature_low": _ends(np.fmin, rows.features),
        "feature_high": _ends(np.fmax, rows.features),
        "shrinkage": {
            target: {stratum_name(n, r): validations[n].shrinkage[target][r] for n, r in STRATA}
            for target in TARGETS
        },
        "intervals": {name: _stored(each) for name, each in spreads(rows, validations).items()},
        "errors": {
            novelty.value: error_table(rows, v.residuals) for novelty, v in validations.items()
        },
    }


def _ends(of: np.ufunc, features: Matrix) -> list[float | None]:
    """Return the least or the largest known value of each feature, none where no row knows one."""
    return [None if np.isnan(value) else float(value) for value in of.reduce(features, axis=0)]


def _stored(each: Spread) -> dict[str, dict[str, list[float]]]:
    return {
        name: {str(c): [round(end, 6) for end in ends[c]] for c in COVERAGES}
        for name, ends in each.quantiles.items()
    }


def error_table(
    rows: Rows, residuals: Mapping[str, Floats]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return median, mean and 90th percentile absolute percentage errors by quantity, for all rows, by device and by engine."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, residual in residuals.items():
        table[name] = {"all": error_figures(residual)}
        for column in ("device", "engine"):
            for value, at in rows.names.groupby(column).indices.items():
                table[name][f"{column} {value}"] = error_figures(residual[at])
    return table


def error_figures(residuals: Floats) -> dict[str, float]:
    """Return count, and median, mean and 90th percentile of |predicted / measured - 1| for log(measured / predicted)."""
    known = residuals[np.isfinite(residuals)]
    if not len(known):
        return {"rows": 0}
    errors = np.abs(np.expm1(-known))
    figures = {"median": np.median(errors), "mean": errors.mean(), "p90": np.quantile(errors, 0.9)}
    return {"rows": len(known), **{name: round(float(value), 4) for name, value in figures.items()}}


def _digest(table: pd.DataFrame) -> str:
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
