"""Trained XGBoost models of one kind of hardware.

UBJ files beside a manifest with their hashes, so that an altered file is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from budsim.commons.errors import Unavailable
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.learned.features import Matrix, feature_names
from budsim.performance.learned.intervals import (
    COVERAGES,
    MIDDLE,
    STRATA,
    Novelty,
    Regime,
    Spread,
    stratum_name,
)
from budsim.performance.learned.scatter import Scatter

if TYPE_CHECKING:
    import xgboost

# Version of the manifest.
FORMAT = 2
TARGETS = ("ttft", "tpot")
MANIFEST = "manifest.json"

# A regressor corrects the analytic model by a factor of e**3 at most; leaves beyond that come from
# broken rows.
LARGEST_CORRECTION = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Regressors:
    """What corrects the analytic model on one kind of hardware.

    Attributes
    ----------
    boosters : mapping of target to Booster
        Predict log(measured / modelled) of TTFT and TPOT.
    spreads : mapping
        Residual quantiles of ``ttft``, ``tpot`` and ``e2e``.
    models, devices, parties : frozenset of str
        Names trained on.
    low, high : float32 arrays, shape (features,)
        Range of each feature in training.
    manifest : mapping
        As stored; shown by readiness and reports.
    """

    kind: DeviceKind
    boosters: Mapping[str, xgboost.Booster]
    spreads: Mapping[str, Spread]
    models: frozenset[str]
    devices: frozenset[str]
    parties: frozenset[str]
    low: Matrix
    high: Matrix
    manifest: Mapping[str, Any]

    def correct(self, target: str, features: Matrix, stratum: Integers) -> Floats:
        """Return the factors (n,) on the modelled ``target``, weaker for what was never seen."""
        trust = self._trust(target)[stratum]
        # Most questions are of strangers, for whom nothing learned is trusted: trees cost most.
        if not trust.any():
            return np.ones(len(features))
        raw = np.asarray(self.boosters[target].inplace_predict(features), dtype=np.float64)
        return np.asarray(
            np.exp(trust * np.clip(raw, -LARGEST_CORRECTION, LARGEST_CORRECTION)), dtype=np.float64
        )

    def corrects(self, stratum: Integers) -> Booleans:
        """Return whether any correction is trusted in a row's stratum."""
        trusted = np.any([self._trust(target) > 0.0 for target in TARGETS], axis=0)
        return np.asarray(trusted[stratum], dtype=bool)

    def _trust(self, target: str) -> Floats:
        """Return the share of a correction that is applied in each of `STRATA`, 0..1."""
        shares = self.manifest["shrinkage"][target]
        return np.array([shares[stratum_name(*each)] for each in STRATA], dtype=np.float64)

    def in_range(self, features: Matrix) -> Booleans:
        """Return whether every known feature lies in the training range, give or take 0.5.

        That is half a unit, or half a log unit.
        """
        outside = (features < self.low - 0.5) | (features > self.high + 0.5)
        return np.asarray(~outside.any(axis=1))

    def stratum(self, candidates: Candidates, parties: Sequence[str] | None = None) -> Integers:
        """Return each row's index into `STRATA`: what was not trained on, and how requests come.

        A new party weighs more than a new device, and that more than a new model. ``parties``
        names who measured each row; without it every row is somebody's whom nobody measured.
        """
        models = np.array([a.model_id in self.models for a in candidates.architectures])[
            candidates.architecture
        ]
        devices = np.array([d.name in self.devices for d in candidates.devices])[candidates.device]
        known = np.array([name in self.parties for name in parties or [""] * len(candidates)])
        novelty = np.select(
            [~known, ~devices, ~models],
            [_CODES[each] for each in (Novelty.NEW_PARTY, Novelty.NEW_DEVICE, Novelty.NEW_MODEL)],
            _CODES[Novelty.KNOWN],
        )
        return np.asarray(novelty * len(Regime) + candidates.static_batch, dtype=np.int64)


# `STRATA` lists novelties in this order, the two regimes of each side by side.
_CODES = {novelty: number for number, novelty in enumerate(Novelty)}


def load_regressors(folder: Path) -> dict[DeviceKind, Regressors]:
    """Load every kind found below ``folder``.

    Raises
    ------
    Unavailable
        When the folder has no artefacts, or one is missing, truncated, altered, or made for other
        features or another format.
    """
    found = sorted(folder.glob(f"*/{MANIFEST}"))
    if not found:
        raise Unavailable(
            f"no trained models in {folder.name}/<kind>/{MANIFEST}; run `budsim train`"
        )
    loaded = {}
    for path in found:
        try:
            kind = DeviceKind(path.parent.name)
            loaded[kind] = _load(kind, path)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            wrong = f"{path.parent.name}/{MANIFEST} is not one this version reads ({reason})"
            raise Unavailable(f"{wrong[:200]}; run `budsim train`") from error
    return loaded


def _load(kind: DeviceKind, path: Path) -> Regressors:
    import xgboost

    manifest = _manifest(path)
    boosters = {}
    for target in TARGETS:
        content = _verified(path.parent / f"{target}.ubj", manifest["artefacts"][target]["sha256"])
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": 1})
        boosters[target] = booster
    for target, each in product(TARGETS, STRATA):
        float(manifest["shrinkage"][target][stratum_name(*each)])
    return Regressors(
        kind=kind,
        boosters=boosters,
        spreads={
            name: _spread(stored, manifest["scatter"].get(name))
            for name, stored in manifest["intervals"].items()
        },
        models=frozenset(manifest["models"]),
        devices=frozenset(manifest["devices"]),
        parties=frozenset(manifest["parties"]),
        low=np.array(manifest["feature_low"], dtype=np.float32),
        high=np.array(manifest["feature_high"], dtype=np.float32),
        manifest=manifest,
    )


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stated = (manifest["format"], tuple(manifest["features"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            f"{path.parent.name}/{MANIFEST} is not a manifest of trained models; run `budsim train`"
        ) from error
    if stated != (FORMAT, feature_names()):
        raise Unavailable(
            f"{path.parent.name}/{MANIFEST} was made for other features or another format; "
            "run `budsim train`"
        )
    return manifest


def _verified(path: Path, sha256: str) -> bytes:
    name = f"{path.parent.name}/{path.name}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"{name} is missing; run `budsim train`") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unavailable(
            f"{name} is not the file its manifest describes (truncated or altered); "
            "run `budsim train`"
        )
    return content


def _spread(
    stored: Mapping[str, Mapping[str, list[float]]], scatter: Mapping[str, object] | None
) -> Spread:
    return Spread(
        scatter=None if scatter is None else Scatter.read(scatter),
        quantiles={
            name: {
                c: (ends[str(c)][0], ends[str(c)][1])
                for c in (*COVERAGES, *([MIDDLE] if str(MIDDLE) in ends else []))
            }
            for name, ends in stored.items()
        },
    )
