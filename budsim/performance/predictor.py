"""Candidates in, predictions out: the analytic model, corrected by regressors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.learned.calibration import (
    Calibration,
    load_calibration,
    waiting_share,
)
from budsim.performance.learned.features import Matrix, feature_matrix
from budsim.performance.learned.intervals import (
    ANALYTIC_SPREADS,
    COVERAGES,
    SERVED_STRANGER,
    Spread,
    Strata,
    bounded,
    reciprocal,
    widened,
)
from budsim.performance.learned.regressors import TARGETS, Regressors, load_regressors
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import Ranks, prepare
from budsim.performance.predictions import (
    PERCENTILES,
    Interval,
    MemoryUse,
    Predictions,
    Service,
    latency,
)
from budsim.performance.serving.replay.answers import Limits, ReplayedService
from budsim.performance.serving.replay.replay import Factors
from budsim.performance.serving.replay.rows import replay_served, with_room
from budsim.performance.serving.steady_state import Modelled, running_of, steady_state
from budsim.performance.traffic import Traffic

# Trained models inside an installed package.
INSTALLED = Path(__file__).parent.parent / "_pretrained_models"

# Trained models of a checkout.
CHECKOUT = Path(__file__).parent.parent.parent / "cache" / "pretrained_models"


# Bounds of a site's factors on step times. They correct means, queue included, so that no more than
# a factor of two is credited to the steps; chosen by us.
FACTOR_BOUNDS = (0.5, 2.0)


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
        """Return memory and predicted service of each candidate, in a steady closed loop.

        Pooling models have no regressors. ``median`` marks rows (1.0) whose measured values were
        medians over requests; leave it out to predict means.
        """
        known = _Known(median=median)
        ranks = prepare(candidates)
        memory = memory_use(ranks)
        return memory, self._predictions(_Analysis.of(ranks, memory), known)[0]

    def predict_traffic(
        self,
        candidates: Candidates,
        traffic: Sequence[Traffic | None],
        *,
        median: Floats | None = None,
        parties: Sequence[str] | None = None,
        limits: Limits | None = None,
        measured: bool = False,
        client_spread: Floats | None = None,
        seed: int = 0,
    ) -> tuple[MemoryUse, Predictions, ReplayedService]:
        """Return memory, predictions and replay of candidates under any traffic.

        Parameters
        ----------
        candidates : Candidates
            n rows; ask for some fifty at a time.
        traffic : sequence of Traffic or None
            What one replica of each row receives; None for static batches.
        median : float array, shape (n,), optional
            1.0 where the value to predict is a median over requests; by default means are.
        parties : sequence of str, optional
            Who measured each row; by default nobody whom the models know.
        limits : Limits, optional
            What makes a request good.
        measured : bool
            The rows were measured, so that their longest requests do fit the cache.
        client_spread : float array, shape (n,), optional
            Log half width of 90 % by which TTFT is less sure, because ``traffic`` was assumed.
        seed : int
            Of the requests drawn.

        Returns
        -------
        memory, predictions, service
            nan where a replica cannot carry its traffic (``service.stable``). Percentiles of
            ``service`` are corrected as the means are.
        """
        ranks = prepare(candidates)
        memory = memory_use(ranks)
        room = with_room(memory, candidates, traffic) if measured else memory
        factors = self.step_factors(candidates, traffic)
        served = replay_served(candidates, room, traffic, limits=limits, factors=factors, seed=seed)
        medians = np.zeros(len(candidates)) if median is None else median
        analysis = _Analysis.of(ranks, memory).replayed(served, medians > 0.0)
        is_open = _are_open(traffic)
        known = _Known(median=median, parties=parties, client_spread=client_spread, is_open=is_open)
        predictions, corrections = self._predictions(analysis.before(factors), known)
        service = predictions.service
        corrected = served.scaled(
            {"ttft": _over(service.ttft_s, analysis.ttft_s)}
            | {"tpot": _over(service.tpot_s, analysis.tpot_s)},
            _over(service.e2e_s, analysis.e2e_s(candidates.output_tokens)),
        )
        percentiles = {
            name: corrections.intervals(name, corrected.percentile_s(name)) for name in PERCENTILES
        }
        middles = dict(predictions.middles)
        if self.calibration is None:  # a site's own measurements take its middle away
            middles |= {name: corrections.middle(name) for name in PERCENTILES}
        found = replace(predictions, percentiles=percentiles, middles=middles)
        return memory, found, corrected

    def step_factors(
        self, candidates: Candidates, traffic: Sequence[Traffic | None]
    ) -> Factors | None:
        """Return how much slower a site's steps are than ours, for rows that come at a rate.

        Slower steps carry less, and queues grow faster than steps. A closed loop has the site's
        latencies as they were measured, in one. None without a calibration.
        """
        if self.calibration is None:
            return None
        is_open = _are_open(traffic)
        running = running_of(candidates, memory_use(prepare(candidates)))
        found = {
            target: np.where(is_open, np.clip(factor, *FACTOR_BOUNDS), 1.0)
            for target, factor in self.calibration.factors(candidates, running).items()
        }
        return Factors(prefill=found["ttft"], decode=found["tpot"])

    def _predictions(self, analysis: _Analysis, known: _Known) -> tuple[Predictions, _Corrections]:
        """Return the service with intervals, corrected by regressors and by a calibration."""
        candidates = analysis.ranks.candidates
        generating = bool(candidates.output_tokens.all())
        corrections = self._corrections(
            analysis,
            analysis.features(known.median) if self.regressors and generating else None,
            known,
        )
        service = Service(
            ttft_s=analysis.ttft_s * corrections.factors["ttft"],
            tpot_s=analysis.tpot_s * corrections.factors["tpot"],
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
            time_s=time_by_cause(analysis.modelled, candidates),
            middles={
                name: corrections.middle(name if generating else "ttft")
                for name in ("ttft", "tpot", "e2e")
            },
        )
        if self.calibration and generating:
            running = running_of(candidates, analysis.memory)
            waiting = waiting_share(candidates, running, service)
            if known.is_open is not None:  # their replay had the site's steps
                waiting[known.is_open] = 0.0
            predictions = self.calibration.applied(candidates, predictions, running, waiting)
        return predictions, corrections

    def _corrections(
        self, analysis: _Analysis, features: Matrix | None, known: _Known
    ) -> _Corrections:
        """Return the corrections of each kind of hardware; none without regressors or features."""
        candidates = analysis.ranks.candidates
        rows = len(candidates)
        factors = {target: np.ones(rows) for target in TARGETS}
        learned, in_range = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        stratum = np.where(candidates.static_batch, 1, 0)
        spreads: list[tuple[Integers, Mapping[str, Spread]]] = []
        kinds, guesses = _kind_codes(candidates), candidates.draft_tokens > 0
        for code in np.unique(kinds):
            at = np.flatnonzero(kinds == code)
            regressors = None if features is None else self.regressors.get(list(DeviceKind)[code])
            spreads.append((at, regressors.spreads if regressors else ANALYTIC_SPREADS))
            if regressors is None or features is None:
                continue
            stratum[at] = regressors.stratum(candidates, known.parties)[at]
            for target, factor in factors.items():
                factor[at] = regressors.correct(target, features[at], stratum[at])
            learned[at] = regressors.corrects(stratum[at])
            in_range[at] = regressors.in_range(features[at])
        # Regressors learned what drafts were worth from runs of one model: physics knows more.
        for factor in factors.values():
            factor[guesses] = 1.0
        stratum = np.where(guesses & ~candidates.static_batch, SERVED_STRANGER, stratum)
        return _Corrections(
            factors=factors,
            learned=learned & ~guesses,
            in_range=in_range & ~guesses & ~_is_of_unlearned_kind(candidates),
            strata=_strata(candidates, stratum),
            spreads=spreads,
            features=features,
            guessing=_guessing_spread(candidates),
            client=np.zeros(rows) if known.client_spread is None else known.client_spread,
            least=analysis.modelled.least_s(candidates.output_tokens),
        )


def _are_open(traffic: Sequence[Traffic | None]) -> Booleans:
    return np.array([each is not None and each.is_open for each in traffic], dtype=bool)


def _is_of_unlearned_kind(candidates: Candidates) -> Booleans:
    """Return which rows have items or sets of prefixes, of which none were trained on."""
    found = np.zeros(len(candidates), dtype=bool)
    if candidates.medium is not None:
        found |= candidates.has_items
    if candidates.prefix_set_tokens is not None:
        found |= candidates.prefix_set_tokens != 0
    return found


def _guessing_spread(candidates: Candidates) -> Floats:
    """Return how unsure the tokens are that a step yields, log half width of 90 %, (n,)."""
    if candidates.speculation is None:
        return np.zeros(len(candidates))
    return candidates.by_speculation([each.spread for each in candidates.speculations])


def _kind_codes(candidates: Candidates) -> Integers:
    """Return the place of each row's kind of hardware in `DeviceKind`, shape (n,)."""
    codes = [list(DeviceKind).index(device.kind) for device in candidates.devices]
    return np.array(codes)[candidates.device]


def _strata(candidates: Candidates, stratum: Integers) -> Strata:
    """Return the stratum of each row with its engine."""
    engines = tuple(dict.fromkeys(engine.name for engine in candidates.engines))
    codes = [engines.index(engine.name) for engine in candidates.engines]
    return Strata(stratum=stratum, engines=engines, engine=np.array(codes)[candidates.engine])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is known of measured rows beside the candidates.

    Which are medians (n,), who measured them, the extra spread of TTFT where their clients are
    assumed (n,), and which come at a rate (n,); left out, none does.
    """

    median: Floats | None = None
    parties: Sequence[str] | None = None
    client_spread: Floats | None = None
    is_open: Booleans | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Analysis:
    """What physics says of candidates; ``ttft_s`` and ``tpot_s`` (n,) are what is corrected."""

    ranks: Ranks
    memory: MemoryUse
    modelled: Modelled
    ttft_s: Floats
    tpot_s: Floats

    @classmethod
    def of(cls, ranks: Ranks, memory: MemoryUse) -> _Analysis:
        """Return the closed form."""
        modelled = steady_state(ranks, memory)
        return cls(
            ranks=ranks,
            memory=memory,
            modelled=modelled,
            ttft_s=modelled.ttft_s,
            tpot_s=modelled.tpot_s,
        )

    def replayed(self, served: ReplayedService, median: Booleans) -> _Analysis:
        """Return the same with times of the replay, medians or means, where there is one."""
        times = served.times(median)
        static = self.ranks.candidates.static_batch
        # Nothing comes after a single token, so that no gap was seen.
        gapless = np.isnan(times["tpot"]) & np.isfinite(times["ttft"])
        return replace(
            self,
            ttft_s=np.where(static, self.ttft_s, times["ttft"]),
            tpot_s=np.where(static | gapless, self.tpot_s, times["tpot"]),
        )

    def before(self, factors: Factors | None) -> _Analysis:
        """Return the same without the site's factors that a replay held already."""
        if factors is None:
            return self
        return replace(
            self, ttft_s=self.ttft_s / factors.prefill, tpot_s=self.tpot_s / factors.decode
        )

    def features(self, median: Floats | None) -> Matrix:
        """Return what regressors see."""
        return feature_matrix(self.ranks, self.memory, self.modelled, median)

    def e2e_s(self, output_tokens: Floats) -> Floats:
        """Return the end-to-end latency before any correction."""
        return latency(self.ttft_s, self.tpot_s, output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corrections:
    """Factors on the analytic model by target, and ``spreads`` with the rows they hold for.

    ``features`` are what regressors see of all rows; None where there are none.
    ``guessing`` is the log half width of the tokens a step yields, of 90 % coverage, (n,);
    ``client`` the further one of TTFT where the client is assumed; ``least`` the times that no
    request is faster than, by target, seconds, (n,).
    """

    factors: Mapping[str, Floats]
    learned: Booleans
    in_range: Booleans
    strata: Strata
    spreads: list[tuple[Integers, Mapping[str, Spread]]]
    features: Matrix | None
    guessing: Floats
    client: Floats
    least: Mapping[str, Floats]

    def intervals(self, name: str, value: Floats) -> dict[float, Interval]:
        """Return the intervals of one quantity by coverage."""
        return {coverage: self._interval(name, value, coverage) for coverage in COVERAGES}

    def middle(self, name: str) -> Floats:
        """Return the median of log(measured / predicted) of one quantity, (n,)."""
        found = np.zeros(len(self.learned))
        for at, spreads in self.spreads:
            found[at] = spreads[name].middle(self.strata.at(at), self._features(at))
        return found

    def _features(self, at: Integers) -> Matrix | None:
        return None if self.features is None else self.features[at]

    def _interval(self, name: str, value: Floats, coverage: float) -> Interval:
        low, high = np.empty(len(value)), np.empty(len(value))
        certain = self.in_range | ~self.learned
        for at, spreads in self.spreads:
            part = spreads[name].interval(
                value[at], coverage, self.strata.at(at), certain[at], self._features(at)
            )
            low[at], high[at] = part.low, part.high
        interval = Interval(low=low, high=high)
        unsure = self.client if name.startswith("ttft") else self.guessing
        interval = widened(interval, value, unsure)
        return bounded(interval, value, self.least[name.split("_", 1)[0]])


def _over(corrected: Floats, before: Floats) -> Floats:
    """Return the factor from ``before`` to ``corrected``, 1 where both are 0."""
    return np.divide(corrected, before, out=np.ones_like(before), where=before != 0)


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


def trained_folder() -> Path:
    """Return the folder of the shipped trained models."""
    return CHECKOUT if CHECKOUT.is_dir() else INSTALLED


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
    predictor = Predictor(load_regressors(folder or trained_folder()))
    if calibration is None:
        return predictor
    return replace(predictor, calibration=load_calibration(calibration, predictor.models_sha256))


def AnalyticPredictor() -> Predictor:  # noqa: N802 - reads as the value it makes
    """Return a predictor without regressors."""
    return Predictor({})
