"""Makes a site's calibration from its measurements.

Each row, and each sweep, is left out in turn to check it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.performance.candidates import Candidates, Floats, Integers
from budsim.performance.learned.calibration import (
    FORMAT,
    KEYS,
    LOAD,
    MOST_POINTS,
    TARGETS,
    Calibration,
    Points,
    from_document,
    inverse_covariance,
    waiting_share,
)
from budsim.performance.learned.intervals import conformal_ends
from budsim.performance.measured.measurements import Measurements, read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.measured.tables import table_digest, without_repeats
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictor import Predictor
from budsim.performance.serving.steady_state import running_of
from budsim.performance.traffic import Traffic
from budsim.performance.training.errors import error_figures
from budsim.performance.training.physics_fit import modelled
from budsim.performance.training.rows import measured_times, modelled_times
from budsim.performance.training.score import predict

# Rows further than a factor of e**3 from their prediction are mislabelled and left out.
LARGEST_LOG_RATIO = 3.0

# The conformal rank of a 90 % interval exists from nine rows on (9 of 10).
FEWEST_TO_WIDEN = 10

# Columns that rows of one sweep share; only concurrency differs.
SWEEP = (
    "device",
    "engine",
    "model",
    "precision",
    "kv_precision",
    "tp",
    "pp",
    "ep",
    "dp",
    "input_tokens",
    "output_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How far off withheld rows were, before and after the correction; nan where there were none.

    ``inside90`` is the share inside the corrected 90 % interval, before it was widened.
    """

    target: str
    withheld: str
    rows: int
    before: float
    after: float
    inside90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What one accepted row said of one quantity, milliseconds.

    ``predicted_ms`` is of the traffic the benchmark sent, so that a burst at its start counts on
    both sides. ``steady_ms`` is what the corrected prediction says of the same load in steady
    traffic, as an answer about such a load would.
    """

    target: str
    configuration: str
    load: str
    measured_ms: float
    predicted_ms: float
    steady_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration, what it used, its checks on withheld rows, and why rows were left out."""

    calibration: Calibration
    used: Sequence[Used]
    checks: Sequence[Check]
    problems: Sequence[str]


def calibrate(table: pd.DataFrame, predictor: Predictor, *, created: str) -> Calibrated:
    """Learn a site's correction from rows in the measurements' columns.

    A target whose correction does not lessen the median error of withheld sweeps is not used.
    Intervals that held too few of the withheld rows are widened until they hold 90 %
    (split-conformal, from ten rows on).

    Raises
    ------
    InvalidInput
        When no row can be used, or more than `MOST_POINTS` distinct ones are left: those are for
        training.
    """
    measurements, problems = _usable(table)
    predictions, served = predict(measurements, predictor)
    times = modelled_times(modelled(measurements), served, measurements.median)
    measured = measured_times(measurements, times)
    predicted = {"ttft": predictions.service.ttft_s, "tpot": predictions.service.tpot_s}
    half = {
        "ttft": _half_width(predictions.ttft_s[0.9]),
        "tpot": _half_width(predictions.tpot_s[0.9]),
    }
    ratios = {target: _log_ratio(measured[target], predicted[target]) for target in TARGETS}
    candidates = measurements.candidates
    runs = running_of(candidates, memory_use(prepare(candidates)))
    waits = waiting_share(candidates, runs, predictions.service)
    ratios["ttft"] = without_waiting(ratios["ttft"], ratios["tpot"], waits)
    for target in TARGETS:
        problems += _too_far(target, measured[target], predicted[target])
    rows = _rows(measurements, runs, ratios, half)
    if len(rows) > MOST_POINTS:
        raise InvalidInput(
            "rows",
            f"hold {len(rows)} configurations",
            f"at most {MOST_POINTS}; more are for training",
        )
    checks, targets = [], {}
    for target in TARGETS:
        found = _check(target, rows)
        checks += found
        targets[target] = _verdict(found, rows, target)
    if not any(stated["rows"] for stated in targets.values()):
        raise InvalidInput(
            "rows", "none gives TTFT, TPOT, latency or throughput of serving", "measured values"
        )
    document = {
        "format": FORMAT,
        "created": created,
        "models_sha256": predictor.models_sha256,
        "rows_sha256": table_digest(table),
        "rows_read": len(table),
        "rows_left_out": len(problems),
        "sources": sorted(set(measurements.source)),
        "targets": targets,
        "rows": _stored(rows),
    }
    calibration = from_document(json.loads(json.dumps(document)))
    used = _used(
        measurements, measured, predicted, ratios, replace(predictor, calibration=calibration)
    )
    return Calibrated(calibration=calibration, used=used, checks=checks, problems=problems)


def _usable(table: pd.DataFrame) -> tuple[Measurements, list[str]]:
    """Return the distinct serving rows without drafts, and why others are left out."""
    kept, problems = without_repeats(table, set())
    serving = (
        kept["mode"].isin(["serving", ""]) if "mode" in kept else pd.Series(True, index=kept.index)
    )
    problems += ["mode: not serving; a site's correction is learned from serving"] * int(
        (~serving).sum()
    )
    drafts = (
        kept["notes"].str.contains("mtp", case=False)
        if "notes" in kept
        else pd.Series(False, index=kept.index)
    )
    problems += ["notes: speculative decoding (mtp) is not modelled"] * int(
        (drafts & serving).sum()
    )
    measurements = settle(read_measurements(kept[serving & ~drafts].reset_index(drop=True)))
    problems += [problem for problem in measurements.problems if problem]
    if not len(measurements):
        raise InvalidInput("rows", "none can be used", problems[0] if problems else "serving rows")
    return measurements, problems


def _log_ratio(measured: Floats, predicted: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(measured / predicted)
    return np.where(np.abs(ratio) <= LARGEST_LOG_RATIO, ratio, np.nan)


def without_waiting(ttft: Floats, tpot: Floats, waiting: Floats) -> Floats:
    """Return log ratios of TTFT without the part ``waiting`` (0..1), which follows that of TPOT.

    nan where more than half of TTFT is such waiting: it says nothing of prompts.
    """
    rest = np.where(waiting > 0.5, np.nan, 1.0 - waiting)
    return np.where(waiting > 0.0, (ttft - waiting * np.nan_to_num(tpot)) / rest, ttft)


def _too_far(target: str, measured: Floats, predicted: Floats) -> list[str]:
    """Return which values are not believed, because they contradict the prediction too much."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = measured / predicted
        far = np.abs(np.log(ratio)) > LARGEST_LOG_RATIO
    return [
        f"{target}: measured {measured[row] / MILLI:,.4g} ms is {ratio[row]:.3g} times the "
        f"predicted; more than {np.exp(LARGEST_LOG_RATIO):.0f} times is taken for a mislabelled row"
        for row in np.flatnonzero(far)
    ]


def _used(
    measurements: Measurements,
    measured: Mapping[str, Floats],
    predicted: Mapping[str, Floats],
    ratios: Mapping[str, Floats],
    corrected: Predictor,
) -> list[Used]:
    """Return what was taken from each row for each quantity."""
    table = measurements.candidates
    service = corrected.predict_traffic(table, _steady(table), measured=True)[1].service
    steady = {"ttft": service.ttft_s, "tpot": service.tpot_s}
    names = _names_of_rows(table)
    return [
        Used(
            target=target,
            configuration=f"{names['model'][row]}, {names['device'][row]} tp{table.tp[row]}, "
            f"{names['engine'][row]}",
            load=f"{table.input_tokens[row]:.0f} + {table.output_tokens[row]:.0f} tokens, "
            f"{table.concurrency[row]:.3g} in flight",
            measured_ms=float(measured[target][row]) / MILLI,
            predicted_ms=float(predicted[target][row]) / MILLI,
            steady_ms=float(steady[target][row]) / MILLI,
        )
        for row in range(len(measurements))
        for target in TARGETS
        if np.isfinite(ratios[target][row])
    ]


def _steady(table: Candidates) -> list[Traffic]:
    """Return traffic of each row's load as a question asks about it: in a steady state."""
    columns = (table.concurrency, table.input_tokens, table.output_tokens, table.prefix_hit_share)
    return [
        Traffic.closed(
            concurrency=max(round(concurrency), 1),
            input_tokens=max(round(prompt), 1),
            output_tokens=round(output),
            prefix_hit_share=share,
        ).with_usual_spread()
        for concurrency, prompt, output, share in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _half_width(interval: Any) -> Floats:
    return np.asarray(np.log(interval.high / interval.low) / 2.0, dtype=np.float64)


def _names_of_rows(table: Candidates) -> dict[str, list[str]]:
    """Return what each row runs, one list of names a column."""
    return {
        "device": [table.devices[i].name for i in table.device],
        "engine": [table.engines[i].name for i in table.engine],
        "model": [table.architectures[i].model_id for i in table.architecture],
        "precision": [table.precisions[i].value for i in table.weight_precision],
        "kv_precision": [table.precisions[i].value for i in table.kv_precision],
    }


def _rows(
    measurements: Measurements,
    running: Floats,
    residuals: Mapping[str, Floats],
    half: Mapping[str, Floats],
) -> pd.DataFrame:
    """Return one row for each measured configuration and load; repeats are averaged."""
    table = measurements.candidates
    frame = pd.DataFrame(
        {
            **_names_of_rows(table),
            "tp": table.tp,
            "pp": table.pp,
            "ep": table.ep,
            "dp": table.dp,
            **{name: getattr(table, name).round(3) for name in LOAD},
            "concurrency": running.round(3),
            **{f"log_{target}": residuals[target] for target in TARGETS},
            **{f"half_{target}": half[target] for target in TARGETS},
        }
    )
    frame = frame[frame[[f"log_{target}" for target in TARGETS]].notna().any(axis=1)]
    return frame.groupby([*KEYS, *LOAD], sort=True, as_index=False).mean()


def _check(target: str, rows: pd.DataFrame) -> list[Check]:
    known = rows[rows[f"log_{target}"].notna()]
    if known.empty:
        return []
    residuals = known[f"log_{target}"].to_numpy()
    sweeps = known.groupby(list(SWEEP)).ngroup().to_numpy()
    checks = []
    for withheld, groups in (
        ("each row", np.arange(len(known))),
        ("each sweep", np.asarray(sweeps, dtype=np.int64)),
    ):
        if len(np.unique(groups)) < 2:
            continue
        errors, scores = _left_out(
            _points(known), residuals, groups, known[f"half_{target}"].to_numpy()
        )
        checks.append(
            Check(
                target=target,
                withheld=withheld,
                rows=len(known),
                before=error_figures(residuals)["median"],
                after=error_figures(errors)["median"],
                inside90=float((np.abs(scores) <= 1.0).mean()),
            )
        )
    return checks


def _points(rows: pd.DataFrame) -> Points:
    keys = np.stack([rows[key].astype(str).factorize()[0] for key in KEYS], axis=1)
    return Points(
        keys=keys.astype(np.int64), load=np.log(rows[list(LOAD)].to_numpy(dtype=np.float64))
    )


def _left_out(
    points: Points, residuals: Floats, groups: Integers, half: Floats
) -> tuple[Floats, Floats]:
    """Return the rest of each residual when its group is withheld, in logs and in half widths.

    Half widths are those of its corrected interval. For a block b of the inverse Q of the
    covariance, the withheld residual is inv(Q_bb) (Q r)_b and its covariance inv(Q_bb) (Rasmussen
    and Williams 2006, eq. 5.12, for blocks).
    """
    precision = inverse_covariance(points)
    weighted = precision @ residuals
    errors, left = np.empty(len(points)), np.empty(len(points))
    for group in np.unique(groups):
        at = groups == group
        block = np.linalg.inv(precision[np.ix_(at, at)])
        errors[at], left[at] = block @ weighted[at], np.diag(block)
    return errors, errors / (half * np.sqrt(np.clip(left, 1e-9, 1.0)))


def _verdict(checks: Sequence[Check], rows: pd.DataFrame, target: str) -> dict[str, Any]:
    """Return whether a target's correction is used and by how much its intervals are widened."""
    known = rows[rows[f"log_{target}"].notna()]
    strictest = checks[-1] if checks else None
    widening = 1.0
    if len(known) >= FEWEST_TO_WIDEN and strictest:
        residuals, half = known[f"log_{target}"].to_numpy(), known[f"half_{target}"].to_numpy()
        scores = _left_out(_points(known), residuals, np.arange(len(known)), half)[1]
        widening = max(
            1.0, conformal_ends(np.abs(scores), 0.8)[1]
        )  # nine tenths lie below the upper end of eight tenths
    return {
        "rows": len(known),
        "used": bool(len(known)) and (strictest is None or strictest.after <= strictest.before),
        "widening": round(widening, 4),
    }


def _stored(rows: pd.DataFrame) -> list[dict[str, Any]]:
    columns = [*KEYS, *LOAD, *(f"log_{target}" for target in TARGETS)]
    stored = rows[columns].round(6).astype(object)
    return [
        {str(name): value for name, value in row.items()}
        for row in stored.where(stored.notna(), None).to_dict("records")
    ]
