"""Predicts rows in the measurements' columns, and scores predictions against measured values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from budsim.commons.units import MILLI
from budsim.performance.candidates import Floats, Integers
from budsim.performance.learned.pool_correction import load_pools
from budsim.performance.measured.clients import client_spread, served_traffic
from budsim.performance.measured.contradictions import why_impossible
from budsim.performance.measured.measurements import Measurements, read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.measured.pool_columns import MODE
from budsim.performance.measured.pool_measurements import PoolMeasurements, read_pools
from budsim.performance.measured.pool_predictions import predict_pools
from budsim.performance.measured.protocols import party_of
from budsim.performance.measured.tables import UNREADABLE, read_parts, without_repeats
from budsim.performance.predictions import PERCENTILES, Basis, Interval, Predictions
from budsim.performance.predictor import Predictor, trained_folder
from budsim.performance.serving.replay.answers import ReplayedService
from budsim.performance.training.errors import error_figures
from budsim.performance.training.pool_scores import (
    DISAGGREGATED,
    is_disaggregated,
    judged_pools,
)

# A coverage below 90 % counts as drift where chance explains it once in a hundred times at most.
CHANCE = 0.01
GROUPINGS = ("device", "engine", "model", "mode", "source")
Quantity = tuple[Floats, Interval]
QUANTITIES = ("ttft_ms", "tpot_ms", "e2e_ms", "output_tokens_per_s")
COLUMNS = (
    *(f"pred_{name}{end}" for name in QUANTITIES for end in ("", "_lo90", "_hi90")),
    *(f"pred_{name}_ms" for name in PERCENTILES),
    "pred_basis",
    "pred_in_range",
    "pred_error",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well one quantity was predicted: rows, and median, mean and 90th percentile error.

    Errors are absolute and relative. ``coverage90`` is the share of measured values inside the 90 %
    interval, ``bias`` the median of measured / predicted.
    """

    quantity: str
    group: str
    rows: int
    median: float
    mean: float
    p90: float
    coverage90: float
    bias: float

    @property
    def drifts(self) -> bool:
        """Whether too few rows lie inside their 90 % interval for chance to explain it."""
        from scipy.stats import binom  # type: ignore[import-untyped]

        inside = np.round(self.coverage90 * self.rows)
        return bool(self.coverage90 < 0.9 and binom.cdf(inside, self.rows, 0.9) < CHANCE)


def predict_file(
    file: Path,
    output: TextIO,
    predictor: Predictor,
    *,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[int, int]:
    """Write a CSV with prediction columns beside its own, part by part: any length will do.

    Returns
    -------
    rows, predicted : int
        How many there are, and how many were predicted; the others say why in ``pred_error``.

    Raises
    ------
    InvalidInput
        When the file is not a CSV table.
    """
    rows = predicted = 0
    for number, (part, share) in enumerate(read_parts(file)):
        table = predict_table(part, predictor)
        table.to_csv(output, index=False, header=number == 0)
        rows, predicted = rows + len(table), predicted + int((table["pred_error"] == "").sum())
        progress(share)
    return rows, predicted


def predict_table(table: pd.DataFrame, predictor: Predictor) -> pd.DataFrame:
    """Return ``table`` with the prediction columns, in input order.

    Rows that cannot be predicted say why in ``pred_error``.
    """
    fresh = table.reset_index(drop=True)
    result = pd.DataFrame("", index=table.index, columns=list(COLUMNS), dtype=object)
    measurements = settle(read_measurements(fresh))
    result["pred_error"] = list(measurements.problems)
    if len(measurements):
        columns, unstable = _columns(measurements, predictor)
        reasons = why_impossible(measurements)
        result.loc[result.index[measurements.rows], "pred_error"] = [
            reason or problem for reason, problem in zip(reasons, unstable, strict=True)
        ]
        for name, values in columns.items():
            column = np.full(len(table), "", dtype=object)
            column[measurements.rows] = [
                "" if why else v for why, v in zip(reasons, values, strict=True)
            ]
            result[name] = column
    _write_pools(fresh, result, predictor)
    return pd.concat(
        [table.drop(columns=[c for c in (*COLUMNS, UNREADABLE) if c in table]), result], axis=1
    )


def _write_pools(table: pd.DataFrame, result: pd.DataFrame, predictor: Predictor) -> None:
    """Write the columns of rows of disaggregated deployments into ``result``, in place."""
    if "mode" not in table:
        return
    at = np.flatnonzero((table["mode"] == MODE).to_numpy())
    if not len(at):
        return
    measurements = read_pools(table.iloc[at])
    result.loc[result.index[at], "pred_error"] = measurements.problems
    if not len(measurements):
        return
    for name, values in _pool_columns(measurements, predictor).items():
        column = result[name].to_numpy(dtype=object, copy=True)
        column[at[measurements.rows]] = values
        result[name] = column


def _pool_columns(measurements: PoolMeasurements, predictor: Predictor) -> dict[str, list[object]]:
    """Return the prediction columns of disaggregated deployments."""
    correction = load_pools(trained_folder()) if predictor.regressors else None
    found = predict_pools(measurements, correction)
    columns: dict[str, list[object]] = {}
    for name, ends in found.quantities.items():
        for ending, numbers in zip(("", "_lo90", "_hi90"), ends, strict=True):
            columns[f"pred_{name}{ending}"] = _written(numbers)
    columns |= {f"pred_{name}_ms": _written(each) for name, each in found.percentiles.items()}
    bases = np.where(found.learned, Basis.LEARNED.value, Basis.ANALYTIC.value)
    columns["pred_basis"] = bases.tolist()
    columns["pred_in_range"] = ["true" if each else "false" for each in measurements.stated]
    return columns


def _columns(
    measurements: Measurements, predictor: Predictor
) -> tuple[dict[str, list[object]], list[str]]:
    """Return the prediction columns, and why a row has none: its rate is too high."""
    predictions, served = predict(measurements, predictor)
    columns: dict[str, list[object]] = {}
    for name, (value, interval) in quantities(measurements, predictions, served).items():
        for ending, numbers in (("", value), ("_lo90", interval.low), ("_hi90", interval.high)):
            columns[f"pred_{name}{ending}"] = _written(numbers)
    for name in PERCENTILES:
        columns[f"pred_{name}_ms"] = _written(served.percentile_s(name) / MILLI)
    columns["pred_basis"] = [predictions.basis(row).value for row in range(len(measurements))]
    columns["pred_in_range"] = ["true" if each else "false" for each in predictions.in_range]
    unknown = ~np.isfinite(predictions.service.ttft_s)
    unstable = [str(served.row(row)) if unknown[row] else "" for row in range(len(measurements))]
    return columns, unstable


def _written(numbers: Floats) -> list[object]:
    """Return six figures of each number, blank where it is unknown."""
    return [float(f"{number:.6g}") if np.isfinite(number) else "" for number in numbers]


def predict(
    measurements: Measurements, predictor: Predictor
) -> tuple[Predictions, ReplayedService]:
    """Return predictions and replay of the readable rows, medians where a row reports medians."""
    _, predictions, served = predictor.predict_traffic(
        measurements.candidates,
        served_traffic(measurements),
        median=measurements.median.astype(np.float64),
        parties=[party_of(source) for source in measurements.source],
        measured=True,
        client_spread=client_spread(measurements),
    )
    return predictions, served


def quantities(
    measurements: Measurements, predictions: Predictions, served: ReplayedService
) -> dict[str, tuple[Floats, Interval]]:
    """Return value and 90 % interval of each of `QUANTITIES`.

    Milliseconds, and output tokens per second of all replicas together. Latency and throughput are
    those of the replayed run where there is one: lengths vary, and runs begin and end.
    """
    service, latency = predictions.service, predictions.e2e_s[0.9]
    run = np.isfinite(served.e2e_s.mean)
    whole = np.where(measurements.median, served.e2e_s.p50, served.e2e_s.mean)
    e2e = np.where(run, whole, service.e2e_s)
    per_e2e = e2e / service.e2e_s
    steady = service.concurrency * service.output_tokens / service.e2e_s
    tokens = measurements.replicas * np.where(run, served.output_tokens_per_s, steady)

    def scaled(value: Floats, interval: Interval, factor: Floats | float = 1.0) -> Quantity:
        """Return a time in milliseconds and its 90 % interval times ``factor``."""
        ends = Interval(low=interval.low * factor / MILLI, high=interval.high * factor / MILLI)
        return value / MILLI, ends

    faster, slower = service.e2e_s / latency.low, service.e2e_s / latency.high
    return {
        "ttft_ms": scaled(service.ttft_s, predictions.ttft_s[0.9]),
        "tpot_ms": scaled(service.tpot_s, predictions.tpot_s[0.9]),
        "e2e_ms": scaled(e2e, latency, per_e2e),
        "output_tokens_per_s": (tokens, Interval(low=tokens * slower, high=tokens * faster)),
    }


def evaluate(
    table: pd.DataFrame, predictor: Predictor, by: str = "device"
) -> tuple[list[Score], list[str]]:
    """Score the predictor on measured rows: overall and by one of `GROUPINGS`.

    Returns
    -------
    scores : list of Score
        See `scores`.
    problems : list of str
        Why rows were left out, one entry per row.
    """
    judged, problems = judge([(table, 1.0)], predictor)
    return scores(judged, by), problems


def judge(
    parts: Iterable[tuple[pd.DataFrame, float]],
    predictor: Predictor,
    *,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[pd.DataFrame, list[str]]:
    """Predict measured rows and put what was measured beside it.

    ``parts`` are tables with the share done after each.

    Returns
    -------
    judged : DataFrame
        One row for each readable one: the columns of `GROUPINGS`, ``input`` and ``output`` tokens,
        and each of `QUANTITIES` as measured (nan where unknown) and, with ``_pred``, ``_low`` and
        ``_high`` after its name, as predicted with the ends of the 90 % interval.
    problems : list of str
        Why rows were left out, one entry a row; exact copies of earlier rows are.
    """
    found, problems, seen = [], [], set[int]()
    for part, share in parts:
        rows, repeated = without_repeats(part, seen)
        pools = is_disaggregated(rows)
        measurements = settle(read_measurements(rows[~pools]))
        problems += repeated + [problem for problem in measurements.problems if problem]
        if len(measurements):
            found.append(_judged(measurements, *predict(measurements, predictor)))
        if pools.any():
            of_pools, unread = judged_pools(rows[pools], predictor)
            problems += unread
            found += [of_pools] if len(of_pools) else []
        progress(share)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(
        columns=list(GROUPINGS)
    ), problems


def _judged(
    measurements: Measurements, predictions: Predictions, served: ReplayedService
) -> pd.DataFrame:
    table = measurements.candidates
    columns: dict[str, object] = {
        "device": [table.devices[i].name for i in table.device],
        "engine": [table.engines[i].name for i in table.engine],
        "model": [table.architectures[i].model_id for i in table.architecture],
        "mode": ["static batch" if static else "serving" for static in table.static_batch],
        "source": list(measurements.source),
        "input": table.input_tokens,
        "output": table.output_tokens,
    }
    measured = _measured(measurements)
    for name, (value, interval) in quantities(measurements, predictions, served).items():
        columns |= {
            name: measured[name],
            f"{name}_pred": value,
            f"{name}_low": interval.low,
            f"{name}_high": interval.high,
        }
    return pd.DataFrame(columns)


def _measured(measurements: Measurements) -> dict[str, Floats]:
    return {
        "ttft_ms": measurements.ttft_s / MILLI,
        "tpot_ms": measurements.tpot_s / MILLI,
        "e2e_ms": measurements.e2e_s / MILLI,
        "output_tokens_per_s": measurements.tokens_per_s,
    }


def scores(judged: pd.DataFrame, by: str = "device") -> list[Score]:
    """Return how well each quantity was predicted: of all rows, then by each group of a column.

    Disaggregated rows stand by themselves: nothing that is learned of others is learned of them.
    """
    groups = _whole_groups(judged)
    groups |= {
        f"{by} {name}": np.asarray(at) for name, at in sorted(judged.groupby(by).indices.items())
    }
    found = []
    for name in QUANTITIES if len(judged) else ():
        measured, value, low, high = (
            judged[f"{name}{end}"].to_numpy() for end in ("", "_pred", "_low", "_high")
        )
        for group, at in groups.items():
            score = _score(name, group, measured[at], value[at], low[at], high[at])
            if score.rows:
                found.append(score)
    return found


def _whole_groups(judged: pd.DataFrame) -> dict[str, Integers]:
    """Return all rows of replicas that serve whole requests, and those of pools beside them."""
    if not len(judged):
        return {}
    pools = (judged["mode"] == DISAGGREGATED).to_numpy(dtype=bool)
    if pools.all():
        return {"all": np.arange(len(judged))}
    groups = {"all": np.flatnonzero(~pools), DISAGGREGATED: np.flatnonzero(pools)}
    return {name: at for name, at in groups.items() if len(at)}


def _score(
    quantity: str, group: str, measured: Floats, value: Floats, low: Floats, high: Floats
) -> Score:
    known = np.isfinite(measured) & (measured > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = error_figures(np.where(known, np.log(measured / value), np.nan))
    inside = ((measured >= low) & (measured <= high))[known]
    return Score(
        quantity=quantity,
        group=group,
        rows=int(figures["rows"]),
        median=figures.get("median", np.nan),
        mean=figures.get("mean", np.nan),
        p90=figures.get("p90", np.nan),
        coverage90=float(inside.mean()) if len(inside) else float("nan"),
        bias=float(np.median(measured[known] / value[known])) if known.any() else float("nan"),
    )
