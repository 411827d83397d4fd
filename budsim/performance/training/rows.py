"""Measured rows as a regressor sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.learned.features import Matrix, feature_matrix
from budsim.performance.learned.intervals import (
    Regime,
)
from budsim.performance.measured.clients import served_traffic
from budsim.performance.measured.measurements import Measurements
from budsim.performance.measured.protocols import party_of
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import MemoryUse, latency
from budsim.performance.serving.replay.answers import ReplayedService
from budsim.performance.serving.replay.rows import replay_served, with_room
from budsim.performance.serving.steady_state import Modelled, steady_state

# Columns without which nobody can tell which rows may teach.
CHOSEN_BY = ("device_type", "mode", "quality")

# Weight of a row by the quality its table states; chosen by us.
QUALITY_WEIGHT = {"A": 1.0, "B": 0.5}

# Note of rows that leave open how many requests each replica had in flight.
UNKNOWN_LOAD = "(replicas or dp, not stated)"

# Modes of rows from a server under load.
SERVING_MODES = ("serving",)

# Requests in flight, by Little's law, over those a row states: medians stand for means, so that
# rows of others reach 1.27; those above 1.3 contradict themselves.
MOST_IN_FLIGHT = 1.3
_LITTLES_COLUMNS = (
    "ttft_ms_p50",
    "ttft_ms_mean",
    "tpot_ms_p50",
    "tpot_ms_mean",
    "output_tokens",
    "output_tokens_per_s_total",
    "requests_per_s",
    "concurrency",
)

# What rows of one run share, times among them.
_TIMES = ("ttft_ms_mean", "tpot_ms_mean")
_OF_ONE_RUN = (
    *("source", "engine", "model", "model_hf", "tp"),
    *("input_tokens", "output_tokens", "concurrency"),
    *_TIMES,
)

# Modes the analytic model knows.
TRAINED_MODES = (*SERVING_MODES, "static_batch", "offline")

# A source of n rows weighs n**0.95. With 0.8, TTFT of withheld curves was a point worse and the
# small sources hardly better.
SOURCE_EXPONENT = 0.95

# Weight of TTFT for rows that measured only end-to-end latency; at 1.0 TTFT of serving is worse.
DERIVED_WEIGHT = 0.3

# Columns that rows of one curve share; only concurrency differs.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Training rows of one kind of hardware; arrays of shape (n,) and (n, features).

    Times in seconds, nan where unknown. ``modelled`` is the replay of what the row's client sent,
    and the closed form where all prompts are one batch. ``percentiles`` are log(measured /
    modelled) of percentiles over requests.
    """

    features: Matrix
    modelled: Mapping[str, Floats]
    measured: Mapping[str, Floats]
    percentiles: Mapping[str, Floats]
    output_tokens: Floats
    weights: Floats
    groups: Mapping[str, Integers]
    names: pd.DataFrame

    def log_ratio(self, target: str) -> Floats:
        """Return log(measured / modelled) of a target."""
        return np.asarray(np.log(self.measured[target] / self.modelled[target]), dtype=np.float64)

    def lesson(self, target: str) -> Floats:
        """Return the log ratio a regressor learns.

        That of the latency in rows that measured nothing else.
        """
        return np.where(self._derived(target), self.log_ratio("tpot"), self.log_ratio(target))

    def weight(self, target: str) -> Floats:
        """Return the weight of each row for a target."""
        return np.where(self._derived(target), DERIVED_WEIGHT, 1.0) * self.weights

    def _derived(self, target: str) -> Booleans:
        return np.isnan(self.measured[target]) & np.isfinite(self.measured["e2e"])

    def regimes(self) -> dict[Regime, Booleans]:
        """Return which rows belong to each regime."""
        static = self.names.static.to_numpy(dtype=bool)
        return {Regime.SERVING: ~static, Regime.STATIC: static}

    def parts(self) -> dict[tuple[Regime, str], Booleans]:
        """Return the rows of each regime (engine ""), and those of each engine in it."""
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


def usable_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows worth learning from: trusted, of a known mode, under a known load.

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
    wrong = _contradicts_littles_law(table) | _names_two_devices(table)
    return table[worth & ~wrong].reset_index(drop=True)


def _names_two_devices(table: pd.DataFrame) -> pd.Series:
    """Return which rows state the times of another device's row to the last digit.

    Times copied from one page to another are wrong on one of them, and rows do not tell which.
    """
    if not {"source", "device_name", *_TIMES} <= set(table):
        return pd.Series(False, table.index)
    same = [name for name in _OF_ONE_RUN if name in table]
    stated = (table[[*_TIMES]].astype(str) != "").all(axis=1)
    return stated & (table.groupby(same)["device_name"].transform("nunique") > 1)


def _contradicts_littles_law(table: pd.DataFrame) -> pd.Series:
    """Return which rows finish more requests than those in flight can.

    Requests a second times the seconds of one are the requests in flight. Where they are more than
    the row states, its concurrency is wrong: 45 a second of 20 s each are 900, not 4.
    """
    number = {name: _number(table, name) for name in _LITTLES_COLUMNS}
    ttft = number["ttft_ms_p50"].fillna(number["ttft_ms_mean"])
    tpot = number["tpot_ms_p50"].fillna(number["tpot_ms_mean"])
    output = number["output_tokens"]
    rate = number["requests_per_s"].fillna(number["output_tokens_per_s_total"] / output)
    in_flight = rate * (ttft + tpot * (output - 1.0)) * MILLI
    return (table["mode"].isin(SERVING_MODES)) & (
        in_flight > MOST_IN_FLIGHT * number["concurrency"]
    )


def _number(table: pd.DataFrame, name: str) -> pd.Series:
    return pd.to_numeric(table.get(name, pd.Series(np.nan, index=table.index)), errors="coerce")


def training_rows(measurements: Measurements) -> Rows:
    """Return features and targets.

    TPOT of rows that report only throughput or latency follows from those.
    """
    ranks = prepare(measurements.candidates)
    memory = memory_use(ranks)
    modelled = steady_state(ranks, memory)
    served = replayed(measurements, memory)
    times = modelled_times(modelled, served, measurements.median)
    measured = measured_times(measurements, times)
    names = _names(measurements)
    return Rows(
        features=feature_matrix(ranks, memory, modelled, measurements.median.astype(np.float64)),
        modelled=times,
        measured=measured,
        percentiles=_percentile_ratios(measurements, served),
        output_tokens=measurements.candidates.output_tokens,
        weights=_weights(names),
        groups={
            "curve": _codes(names[[*CURVE]]),
            "model": _codes(names[["shape"]]),
            "device": _codes(names[["device"]]),
            "party": _codes(names[["party"]]),
        },
        names=names,
    )


def replayed(measurements: Measurements, memory: MemoryUse) -> ReplayedService:
    """Return the replay of every row a server answered, shape (n,); nan for static batches."""
    candidates = measurements.candidates
    traffic = served_traffic(measurements)
    return replay_served(candidates, with_room(memory, candidates, traffic), traffic)


def modelled_times(
    modelled: Modelled, served: ReplayedService, median: Booleans
) -> dict[str, Floats]:
    """Return TTFT and TPOT as each row reports them: medians where ``median``, else means.

    The closed form holds where nothing was replayed.
    """
    closed_form = {"ttft": modelled.ttft_s, "tpot": modelled.tpot_s}
    return {
        name: np.where(np.isfinite(times), times, closed_form[name])
        for name, times in served.times(median).items()
    }


def _percentile_ratios(measurements: Measurements, served: ReplayedService) -> dict[str, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            name: np.asarray(np.log(measured / served.percentile_s(name)))
            for name, measured in measurements.percentiles_s.items()
        }


def measured_times(measurements: Measurements, modelled: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return measured TTFT, TPOT and end-to-end latency in seconds, nan where unknown.

    TPOT of rows that report only throughput or latency follows from it: less the TTFT where that
    was measured, else both are taken to be off by the same factor.
    """
    output = measurements.candidates.output_tokens
    concurrency = measurements.candidates.concurrency
    with np.errstate(divide="ignore", invalid="ignore"):
        by_throughput = concurrency * output / (measurements.tokens_per_s / measurements.replicas)
        e2e = np.where(np.isfinite(measurements.e2e_s), measurements.e2e_s, by_throughput)
        ttft = np.where(measurements.ttft_s > 0, measurements.ttft_s, np.nan)
        less_first = np.where(output > 1.5, (e2e - ttft) / (output - 1.0), np.nan)
        in_proportion = modelled["tpot"] * e2e / latency(modelled["ttft"], modelled["tpot"], output)
        implied = np.where(
            np.isfinite(ttft), less_first, np.where(output > 1.5, in_proportion, np.nan)
        )
        tpot = np.where(
            measurements.tpot_s > 0, measurements.tpot_s, np.where(implied > 0, implied, np.nan)
        )
        whole = np.where(measurements.tpot_s > 0, latency(ttft, tpot, output), e2e)
    return {"ttft": ttft, "tpot": tpot, "e2e": whole}


def _names(measurements: Measurements) -> pd.DataFrame:
    table = measurements.candidates
    shape = [f"{a.hidden_size}x{a.layer_count}x{a.parameters}" for a in table.architectures]
    return pd.DataFrame(
        {
            "source": list(measurements.source),
            "party": [party_of(source) for source in measurements.source],
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
            "year": table.stack_year,
        }
    )


def _weights(names: pd.DataFrame) -> Floats:
    rows = names.groupby("source").source.transform("size").to_numpy()
    quality = names.quality.map(QUALITY_WEIGHT).fillna(min(QUALITY_WEIGHT.values())).to_numpy()
    weights = quality * rows ** (SOURCE_EXPONENT - 1.0)
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def _codes(columns: pd.DataFrame) -> Integers:
    return np.asarray(columns.astype(str).agg("|".join, axis=1).factorize()[0], dtype=np.int64)
