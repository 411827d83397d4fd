"""A site's own correction: a few of its measurements correct all predictions near them.

The log errors, log(measured / predicted), are correlated: rows of one device, engine, model and
layout err alike under a similar load, and hardly under another. They are a Gaussian process with
the covariance

    c(i, j) = exp(-d**2 / (2 LENGTH**2)) sum of SHARES over what i and j have in common
              + NOISE if i is j

where d is the distance of their loads in the logarithm of prompt tokens, output tokens and the
requests that run at a time: steps do not see those that wait for a place. The best guess for a
configuration is the conditional mean given the site's rows, and no correction where nothing is
shared. The variance that is left narrows the shipped intervals (Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, eq. 2.25, 2.26).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from budsim.commons.errors import InvalidInput, Unavailable
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.learned.intervals import reciprocal
from budsim.performance.predictions import Interval, Predictions, Service

# Version of a stored calibration.
FORMAT = 1
TARGETS = ("ttft", "tpot")

# Shares of the variance of a prediction's error, 1 together with `NOISE`, and a length in logs.
#
# Chosen on physics' errors in 900 serving rows of seven parties: 1, 3 or 10 drawn rows of a device
# and engine correct the others of their party. Mean |log error|, TTFT / TPOT, all parties counting
# alike and each withheld from the choice: rows of the same layout 0.51 / 0.28 without correction
# and 0.42 / 0.19 with it, those of the model in other layouts 0.56 / 0.44 and 0.44 / 0.35. With
# shares that do not fade with the load far loads were worse than without correction (0.46 / 0.20
# and 0.46 / 0.37 in all). Scales on the times of prefill and decode steps in place of these ratios,
# which a replay carries to other loads, did no better; see docs/decisions.
SHARES = {"device": 0.10, "engine": 0.10, "model": 0.40, "layout": 0.30}
NOISE, LENGTH = 0.10, 2.0

# A load is near-identical to a measured one when lengths and concurrency are each within this
# factor of it (log).
NEAR = float(np.log(1.25))

# Rows a calibration may hold: its cost grows with their square.
MOST_POINTS = 500

# What configurations have in common.
KEYS = ("device", "engine", "model", "precision", "kv_precision", "tp", "pp", "ep", "dp")

# What loads differ by; of ``concurrency`` the requests that may run at a time.
LOAD = ("input_tokens", "output_tokens", "concurrency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Configurations under load: ``keys`` (n, 9) as `KEYS`, ``load`` (n, 3) logs of `LOAD`."""

    keys: Integers
    load: Floats

    def __getitem__(self, at: Integers | Booleans) -> Points:
        """Return some of the points."""
        return Points(keys=self.keys[at], load=self.load[at])

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the site's rows say of one target.

    Their points, log(measured / predicted), and how much wider intervals must be.
    """

    points: Points
    residuals: Floats
    inverse: Floats
    widening: float

    def conditional(self, points: Points) -> tuple[Floats, Floats]:
        """Return mean log(measured / predicted) and the share of variance left, 0..1."""
        shared = covariance(points, self.points)
        explained = shared @ self.inverse
        left = 1.0 - np.einsum("ij,ij->i", explained, shared)
        return explained @ self.residuals, np.clip(left, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A site's correction.

    Attributes
    ----------
    names : tuple of str
        The names the codes in the points stand for.
    learned : mapping of target to Learned
        Only targets whose correction passed its own check.
    document : mapping
        As stored: rows, provenance and checks.
    """

    names: tuple[str, ...]
    learned: Mapping[str, Learned]
    document: Mapping[str, Any]

    def factors(self, candidates: Candidates, running: Floats) -> dict[str, Floats]:
        """Return measured over predicted TTFT and TPOT by target, shape (n,); 1 for static batches.

        ``running`` (n,) are the requests that run at a time.
        1 where nothing the site measured is shared.
        """
        at = points_of(candidates, running, self.names)
        found = {target: np.ones(len(at)) for target in TARGETS}
        for target, learned in self.learned.items():
            mean, left = learned.conditional(at)
            told = ~candidates.static_batch & (left < 1.0)
            found[target] = np.where(told, np.exp(mean), 1.0)
        return found

    def applied(
        self, candidates: Candidates, predictions: Predictions, running: Floats, waiting: Floats
    ) -> Predictions:
        """Return predictions corrected by the site's measurements; static batches stay as they are.

        ``running`` as in `factors`; ``waiting`` (n,) is the part of TTFT in which requests wait for
        a place, see `waiting_share`. Places are freed as fast as tokens come, so that it is
        corrected as TPOT.
        Intervals shrink with the variance that is left and widen where the site's rows left them.
        ``measured_targets`` is set where that quantity of a near-identical configuration was
        measured.
        """
        at = points_of(candidates, running, self.names)
        serving = ~candidates.static_batch
        factor, width = self.factors(candidates, running), {t: np.ones(len(at)) for t in TARGETS}
        factor["ttft"] = factor["ttft"] ** (1.0 - waiting) * factor["tpot"] ** waiting
        measured = {target: np.zeros(len(at), dtype=bool) for target in TARGETS}
        for target, learned in self.learned.items():
            _, left = learned.conditional(at)
            told = serving & (left < 1.0)
            width[target] = np.where(told, np.sqrt(left) * learned.widening, 1.0)
            measured[target] = serving & near(at, learned.points)
        measured["ttft"] &= waiting < NEAR
        return _corrected(predictions, factor, width, measured)


def waiting_share(candidates: Candidates, running: Floats, service: Service) -> Floats:
    """Return the part of TTFT in which requests of a closed loop wait for a place, 0..1, (n,).

    ``running`` (n,) of those in flight have one. By Little's law requests wait for the share of
    their end-to-end latency that the others are of all.
    """
    waiting_s = service.e2e_s * (1.0 - running / candidates.concurrency)
    share = np.divide(
        waiting_s, service.ttft_s, out=np.zeros(len(candidates)), where=service.ttft_s > 0
    )
    return np.where(candidates.static_batch, 0.0, np.clip(np.nan_to_num(share), 0.0, 1.0))


def _corrected(
    predictions: Predictions,
    factor: Mapping[str, Floats],
    width: Mapping[str, Floats],
    measured: Mapping[str, Booleans],
) -> Predictions:
    before = predictions.service
    service = replace(
        before, ttft_s=before.ttft_s * factor["ttft"], tpot_s=before.tpot_s * factor["tpot"]
    )
    tpot = _around(service.tpot_s, before.tpot_s, predictions.tpot_s, width["tpot"])
    widest = np.maximum(width["ttft"], width["tpot"])
    calibrated = (width["ttft"] != 1.0) | (width["tpot"] != 1.0)
    return replace(
        predictions,
        service=service,
        ttft_s=_around(service.ttft_s, before.ttft_s, predictions.ttft_s, width["ttft"]),
        tpot_s=tpot,
        e2e_s=_around(service.e2e_s, before.e2e_s, predictions.e2e_s, widest),
        tokens_per_s_per_user={
            coverage: reciprocal(interval) for coverage, interval in tpot.items()
        },
        middles={
            name: np.where(calibrated, 0.0, each) for name, each in predictions.middles.items()
        },
        measured=measured["ttft"] | measured["tpot"],
        measured_targets=measured,
    )


def _around(
    value: Floats, before: Floats, intervals: Mapping[float, Interval], width: Floats
) -> dict[float, Interval]:
    """Return intervals moved from ``before`` to ``value``, ``width`` times as wide in the log."""
    return {
        coverage: Interval(
            low=value * (each.low / before) ** width, high=value * (each.high / before) ** width
        )
        for coverage, each in intervals.items()
    }


def points_of(candidates: Candidates, running: Floats, names: Sequence[str]) -> Points:
    """Return the candidates as points, with the requests that run at a time.

    A name that is not among ``names`` has the code -1 and is like nothing.
    """
    code = {name: number for number, name in enumerate(names)}

    def coded(values: Sequence[str], index: Integers) -> Integers:
        """Return the code of each candidate's value, shape (n,)."""
        return np.array([code.get(value, -1) for value in values], dtype=np.int64)[index]

    precisions = [str(precision) for precision in candidates.precisions]
    keys = [
        coded([device.name for device in candidates.devices], candidates.device),
        coded([engine.name for engine in candidates.engines], candidates.engine),
        coded([model.model_id for model in candidates.architectures], candidates.architecture),
        coded(precisions, candidates.weight_precision),
        coded(precisions, candidates.kv_precision),
        candidates.tp,
        candidates.pp,
        candidates.ep,
        candidates.dp,
    ]
    load = [candidates.input_tokens, candidates.output_tokens, running]
    return Points(keys=np.stack(keys, axis=1), load=np.log(np.stack(load, axis=1)))


def covariance(one: Points, other: Points) -> Floats:
    """Return the share of error variance each of ``one`` shares with each of ``other``, (n, m).

    Without noise.
    """
    device, engine, model, layout = _common(one, other)
    distance = ((one.load[:, None, :] - other.load[None, :, :]) ** 2).sum(axis=2)
    common = (
        SHARES["device"] * device
        + SHARES["engine"] * engine
        + SHARES["model"] * model
        + SHARES["layout"] * layout
    )
    return np.asarray(common * np.exp(-distance / (2.0 * LENGTH**2)), dtype=np.float64)


def near(one: Points, other: Points) -> Booleans:
    """Return which of ``one`` have the layout of some of ``other`` and its load, within `NEAR`."""
    layout = _common(one, other)[-1]
    apart = np.abs(one.load[:, None, :] - other.load[None, :, :]).max(axis=2)
    return np.asarray((layout & (apart <= NEAR)).any(axis=1), dtype=bool)


def _common(one: Points, other: Points) -> tuple[Booleans, Booleans, Booleans, Booleans]:
    """Return which pairs share the device; also the engine; also the model; also the layout.

    The layout is precisions and parallelism.
    """
    same = one.keys[:, None, :] == other.keys[None, :, :]
    device = same[..., 0]
    engine = device & same[..., 1]
    model = engine & same[..., 2]
    return device, engine, model, model & same[..., 3:].all(axis=2)


def learn(points: Points, residuals: Floats, widening: float) -> Learned:
    """Return what rows with these log(measured / predicted) say."""
    return Learned(
        points=points, residuals=residuals, inverse=inverse_covariance(points), widening=widening
    )


def inverse_covariance(points: Points) -> Floats:
    """Return the inverse of the covariance of measured values, noise included, shape (n, n)."""
    return np.asarray(
        np.linalg.inv(covariance(points, points) + NOISE * np.eye(len(points))), dtype=np.float64
    )


def from_document(document: Mapping[str, Any]) -> Calibration:
    """Return the calibration a stored document describes."""
    rows = document["rows"]
    names = tuple(sorted({row[key] for row in rows for key in KEYS[:5]}))
    points = _points_of_document(rows, names)
    learned = {}
    for target in TARGETS:
        stated = document["targets"][target]
        residuals = _residuals_of_document(rows, f"log_{target}")
        known = np.isfinite(residuals)
        if stated["used"] and known.any():
            learned[target] = learn(points[known], residuals[known], float(stated["widening"]))
    return Calibration(names=names, learned=learned, document=document)


def _points_of_document(rows: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> Points:
    """Return the configuration and load of stored rows, their names as places in ``names``."""
    keys = np.array(
        [
            [names.index(row[key]) for key in KEYS[:5]] + [int(row[key]) for key in KEYS[5:]]
            for row in rows
        ]
    )
    load = np.array([[row[name] for name in LOAD] for row in rows], dtype=np.float64)
    return Points(keys=keys.astype(np.int64), load=np.log(load))


def _residuals_of_document(rows: Sequence[Mapping[str, Any]], column: str) -> Floats:
    """Return a column of stored rows; nan where a row has no value."""
    return np.array([np.nan if row[column] is None else row[column] for row in rows], dtype=float)


def load_calibration(path: Path, models_sha256: str) -> Calibration:
    """Read a calibration that `budsim calibrate` made for the models with hash ``models_sha256``.

    Raises
    ------
    InvalidInput
        When the file is missing or not a calibration.
    Unavailable
        When it was made for other trained models: its corrections are relative to their
        predictions.
    """
    expected = "a file written by `budsim calibrate`"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        made_for, stated = document["models_sha256"], document["format"]
        found = from_document(document)
    except OSError as error:
        raise InvalidInput("calibration", f"{path.name} cannot be read", expected) from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        np.linalg.LinAlgError,
    ) as error:
        raise InvalidInput("calibration", f"{path.name} is not a calibration", expected) from error
    if stated != FORMAT or made_for != models_sha256:
        raise Unavailable(
            f"calibration {path.name} was made for other trained models; "
            "run `budsim calibrate` again"
        )
    return found
