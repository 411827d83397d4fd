"""Candidates in, predictions out: the analytic model, corrected by regressors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.learned.calibration import Calibration, load_calibration
from budsim.performance.learned.features import Matrix, feature_matrix
from budsim.performance.learned.intervals import (
    ANALYTIC_SPREADS,
    COVERAGES,
    Spread,
    Strata,
    reciprocal,
)
from budsim.performance.learned.regressors import TARGETS, Regressors, load_regressors
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import Interval, MemoryUse, Predictions, Service
from budsim.performance.serving.steady_state import Modelled, steady_state

# Trained models inside an installed package.
INSTALLED = Path(__file__).parent.parent / "_pretrained_models"

# Trained models of a checkout.
CHECKOUT = Path(__file__).parent.parent.parent / "cache" / "pretrained_models"


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts with the regressors of each kind of hardware, with physics where it has none.

    ``calibration`` corrects the result by a site's measurements.
    """

    regressors: Mapping[DeviceKind, Regressors]
    calibration: Calibration | None = None

    @property
    def models_sha256(self) -> str:
        """Return the hash of the trained models, which a calibration is made for."""
        stated = {kind.value: each.manifest["artefacts"] for kind, each in self.regressors.items()}
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()

    def predict(
        self, candidates: Candidates, median: Floats | None = None
    ) -> tuple[MemoryUse, Predictions]:
        """Return memory and predicted service of each candidate.

        Pooling models have no regressors. ``median`` marks rows (1.0) whose measured values were
        medians over requests; leave it out to predict means.
        """
        ranks = prepare(candidates)
        memory = memory_use(ranks)
        modelled = steady_state(ranks, memory)
        generating = bool(candidates.output_tokens.all())
        learned = bool(self.regressors) and generating
        corrections = self._corrections(
            candidates, feature_matrix(ranks, memory, modelled, median) if learned else None
        )
        service = Service(
            ttft_s=modelled.ttft_s * corrections.factors["ttft"],
            tpot_s=modelled.tpot_s * corrections.factors["tpot"],
            output_tokens=candidates.output_tokens,
            concurrency=candidates.concurrency,
        )
        tpot = corrections.intervals("tpot", service.tpot_s)
        predictions = Predictions(
            service=service,
            ttft_s=corrections.intervals("ttft", service.ttft_s),
            tpot_s=tpot,
            e2e_s=corrections.intervals("e2e" if generating else "ttft", service.e2e_s),
            tokens_per_s_per_user={
                coverage: reciprocal(interval) for coverage, interval in tpot.items()
            },
            learned=corrections.learned,
            in_range=corrections.in_range,
            measured=np.zeros(len(candidates), dtype=bool),
            time_s=time_by_cause(modelled, candidates),
        )
        return memory, self.calibration.applied(
            candidates, predictions
        ) if self.calibration and generating else predictions

    def _corrections(self, candidates: Candidates, features: Matrix | None) -> _Corrections:
        """Return the corrections of each kind of hardware; none without regressors or features."""
        rows = len(candidates)
        factors = {target: np.ones(rows) for target in TARGETS}
        learned, in_range = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        stratum = np.where(candidates.static_batch, 1, 0)
        spreads: list[tuple[Integers, Mapping[str, Spread]]] = []
        kinds = np.array([list(DeviceKind).index(device.kind) for device in candidates.devices])[
            candidates.device
        ]
        for code in np.unique(kinds):
            at = np.flatnonzero(kinds == code)
            regressors = None if features is None else self.regressors.get(list(DeviceKind)[code])
            spreads.append((at, regressors.spreads if regressors else ANALYTIC_SPREADS))
            if regressors is None or features is None:
                continue
            stratum[at] = regressors.stratum(candidates)[at]
            for target, factor in factors.items():
                factor[at] = regressors.correct(target, features[at], stratum[at])
            learned[at], in_range[at] = True, regressors.in_range(features[at])
        engines = tuple(dict.fromkeys(engine.name for engine in candidates.engines))
        engine = np.array([engines.index(engine.name) for engine in candidates.engines])[
            candidates.engine
        ]
        strata = Strata(stratum=stratum, engines=engines, engine=engine)
        return _Corrections(
            factors=factors, learned=learned, in_range=in_range, strata=strata, spreads=spreads
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corrections:
    """Factors on the analytic model by target, and ``spreads`` with the rows they hold for."""

    factors: Mapping[str, Floats]
    learned: Booleans
    in_range: Booleans
    strata: Strata
    spreads: list[tuple[Integers, Mapping[str, Spread]]]

    def intervals(self, name: str, value: Floats) -> dict[float, Interval]:
        """Return the intervals of one quantity by coverage."""
        return {coverage: self._interval(name, value, coverage) for coverage in COVERAGES}

    def _interval(self, name: str, value: Floats, coverage: float) -> Interval:
        low, high = np.empty(len(value)), np.empty(len(value))
        certain = self.in_range | ~self.learned
        for at, spreads in self.spreads:
            part = spreads[name].interval(value[at], coverage, self.strata.at(at), certain[at])
            low[at], high[at] = part.low, part.high
        return Interval(low=low, high=high)


def time_by_cause(modelled: Modelled, candidates: Candidates) -> Floats:
    """Return where physics sees a request's time go, seconds by cause, shape (len(`BOUNDS`), n).

    Queueing first, then the steps that prefill its prompt, then those that decode its output. What
    a lone request waits for is the engine.
    """
    names = ("weights_s", "cache_s", "compute_s", "link_s", "overhead_s")
    mixed, decode = (
        np.stack([getattr(step, name) for name in names])
        for step in (modelled.mixed, modelled.decode)
    )
    share = np.minimum(modelled.prefill_share, 1.0)
    mean = (1.0 - share) * decode + share * mixed
    decoding = (
        mean / mean.sum(axis=0) * modelled.tpot_s * np.maximum(candidates.output_tokens - 1.0, 0.0)
    )
    spent = decoding + mixed / mixed.sum(axis=0) * modelled.service_s
    queue = np.where(candidates.concurrency > 1, modelled.queue_s, 0.0)
    spent[names.index("overhead_s")] += modelled.queue_s - queue
    return np.concatenate([spent, queue[None, :]])


def load_predictor(folder: Path | None = None, calibration: Path | None = None) -> Predictor:
    """Load the trained models in ``folder`` (default: the shipped ones).

    ``calibration`` names a site's correction.

    Raises
    ------
    Unavailable
        When an artefact is missing or not what its manifest says, or the calibration was made for
        others.
    InvalidInput
        When the calibration is none.
    """
    shipped = CHECKOUT if CHECKOUT.is_dir() else INSTALLED
    predictor = Predictor(load_regressors(folder or shipped))
    if calibration is None:
        return predictor
    return replace(predictor, calibration=load_calibration(calibration, predictor.models_sha256))


def AnalyticPredictor() -> Predictor:  # noqa: N802 - reads as the value it makes
    """Return a predictor without regressors."""
    return Predictor({})
