"""The traffic behind each measured row: what its client sent, as its columns and its source say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from budsim.commons.catalog import Entry
from budsim.performance.candidates import Floats
from budsim.performance.lengths import (
    EmpiricalLength,
    FixedLength,
    LengthLaw,
    UniformLength,
    lengths_about,
    parse_lengths,
)
from budsim.performance.limits import MOST_REQUESTS
from budsim.performance.measured.client_columns import is_steady
from budsim.performance.measured.measurements import Measurements
from budsim.performance.measured.protocols import client_entries, first_waves
from budsim.performance.prefixes import prefix_of
from budsim.performance.traffic import LEAST_RATE, ClosedLoop, OpenLoop, Process, Start, Traffic

# Clients of the InferenceX benchmark draw lengths from this share of the stated one upwards.
NOMINAL_LOW = 0.8

# Requests sent for each one in flight, where their number is not stated. InferenceX's scripts send
# 10; medians of eight parties' rows lie between 1 and 10, and at 109. With 5 to 15 the median
# errors of withheld parties are alike; endless traffic errs more, above all in TTFT.
USUAL_PROMPTS = 10

# Tokens of ShareGPT's prompts and answers at every twentieth quantile, as vLLM's benchmark samples
# them: requests of Llama-3.1-405B (dstackai/benchmarks, results of 2024-11-09, one by one), answers
# of those that did not end at once. Their means, 215 and 201, are those of GPUStack's runs.
SHAREGPT = {
    "prompt": "4 8 10 13 15 19 24 31 43 58 83 140 210 259 316 357 427 520 623 757 997",
    "output": "4 8 14 22 30 43 62 99 120 150 175 204 223 254 285 309 334 374 429 520 780",
}
# Lengths drawn of them; a run with more requests repeats them.
SHAREGPT_LENGTHS = 1_000

# Extra spread of TTFT in a run whose number of requests nobody states: log half width of 90 %. The
# true number makes TTFT half to twice as long. With 1.0 the 90 % range made of other parties' rows
# holds 89 % of a party's TTFT, every party counting alike (6), with 0.8 86 %; without it 77 %.
CLIENT_SPREAD = 1.0

# Optional columns that say more of a client than its source does.
COLUMNS = (
    "arrival",
    "length_law",
)
COUNTS = ("n_requests", "prefix_hit_share", "prefix_set_tokens", "warmup")


def client_traffic(measurements: Measurements) -> list[Traffic]:
    """Return the traffic one replica of each readable row received.

    A row is a benchmark's run: all requests in flight start at once, and so many are sent as the
    row or its source says, else `USUAL_PROMPTS` for each in flight. A row whose ``arrival`` is
    `STEADY` is a deployment that has run for long.

    Raises
    ------
    InvalidInput
        When a column names no arrival process or no law of lengths.
    """
    rows, entries = _client_table(measurements)
    waves = first_waves(rows)
    columns: list[dict[str, object]] = [
        {str(name): value for name, value in each.items()} for each in rows.to_dict("records")
    ]
    return [
        _row_traffic(measurements, row, each, entry, float(wave))
        for row, (each, entry, wave) in enumerate(zip(columns, entries, waves, strict=True))
    ]


def served_traffic(measurements: Measurements) -> list[Traffic | None]:
    """Return `client_traffic`, and None for rows whose prompts are one static batch."""
    static = measurements.candidates.static_batch
    return [
        None if batch else each
        for each, batch in zip(client_traffic(measurements), static, strict=True)
    ]


def client_spread(measurements: Measurements) -> Floats:
    """Return the extra spread of each readable row's TTFT where its client is assumed, (n,).

    It is a log half width of 90 %: `CLIENT_SPREAD`, or 0 where a row or its source says how many
    requests were sent, and in steady or open traffic.
    """
    table, entries = _client_table(measurements)
    assumed = (
        table.n_requests.isna()
        & ~table.arrival.map(is_steady)
        & ~np.array(["prompts" in entry for entry in entries], dtype=bool)
    )
    closed = ~measurements.open_loop & ~measurements.candidates.static_batch
    return np.where(assumed.to_numpy() & closed, CLIENT_SPREAD, 0.0)


_TEXTS = ("source", "engine", "model", "device_name", "precision", "date")
_NUMBERS = ("input_tokens", "output_tokens", "concurrency", "tp", "dp", *COUNTS)


def _client_table(measurements: Measurements) -> tuple[pd.DataFrame, list[Entry]]:
    """Return what readable rows say of their clients, and what is known of their sources'."""
    table = measurements.table.iloc[measurements.rows].reset_index(drop=True)
    text = pd.DataFrame({name: _text(table, name) for name in (*_TEXTS, *COLUMNS)})
    numbers = pd.DataFrame({name: _numbers(table, name) for name in _NUMBERS})
    rows = text.join(numbers)
    return rows, client_entries(rows)


def _text(table: pd.DataFrame, name: str) -> pd.Series:
    return table.get(name, pd.Series("", index=table.index)).astype(str).str.strip()


def _numbers(table: pd.DataFrame, name: str) -> pd.Series:
    return pd.to_numeric(_text(table, name), errors="coerce")


def _row_traffic(
    measurements: Measurements,
    row: int,
    columns: Mapping[str, object],
    entry: Mapping[str, object],
    first_wave_s: float,
) -> Traffic:
    candidates = measurements.candidates
    concurrency = max(round(float(candidates.concurrency[row])), 1)
    replicas = float(measurements.replicas[row])
    requests = stated = _stated_requests(columns, replicas)
    arrivals: ClosedLoop | OpenLoop
    if measurements.open_loop[row]:
        rate = max(float(measurements.request_rate[row]) / replicas, LEAST_RATE)
        arrivals = OpenLoop.named(str(columns["arrival"]) or Process.POISSON, rate)
    elif is_steady(str(columns["arrival"])):
        arrivals = ClosedLoop(concurrency=concurrency, first_wave_s=first_wave_s)
    else:
        prompts = int(str(entry.get("prompts", USUAL_PROMPTS)))
        requests = requests or min(prompts * concurrency, MOST_REQUESTS)
        arrivals = ClosedLoop(
            concurrency=min(concurrency, requests),
            start=Start.AT_ONCE,
            first_wave_s=first_wave_s,
        )
    asked = Traffic(
        arrivals=arrivals,
        prompt=_law(columns, entry, "prompt", float(candidates.input_tokens[row])),
        output=_law(columns, entry, "output", float(candidates.output_tokens[row])),
        prefix=prefix_of(
            _number(columns, "prefix_hit_share"), _number(columns, "prefix_set_tokens") or None
        ),
        requests=requests,
    )
    left_out = _number(columns, "warmup", math.nan) / replicas
    return asked if math.isnan(left_out) else _leaving_out(asked, int(left_out), stated)


def _leaving_out(asked: Traffic, warmup: int, stated: int | None) -> Traffic:
    """Return traffic whose first requests are left out; those not ``stated`` come beside them."""
    sent = stated or min(asked.run_requests + warmup, MOST_REQUESTS)
    return replace(asked, requests=sent, warmup=min(warmup, sent - 1))


def _stated_requests(columns: Mapping[str, object], replicas: float) -> int | None:
    """Return how many requests one replica's run had, None where the row does not say."""
    stated = _number(columns, "n_requests")
    return max(round(stated / replicas), 1) if stated >= 1.0 else None


def _law(
    columns: Mapping[str, object], entry: Mapping[str, object], which: str, mean: float
) -> LengthLaw:
    """Return the law of a length; the entry of a source where the row itself names none."""
    tokens = max(round(mean), 1)
    name = str(columns["length_law"] or entry.get(f"{which}_law", ""))
    if not name:
        return lengths_about(mean)
    if name == "nominal":
        most = max(round(mean * 2.0 / (1.0 + NOMINAL_LOW)), 1)
        return UniformLength(low=max(round(NOMINAL_LOW * most), 1), high=most)
    if name == "uniform" and not columns["length_law"]:
        return UniformLength(low=1, high=max(2 * tokens - 1, 1))
    if name == "sharegpt":
        return _sharegpt(which, mean)
    return parse_lengths(name, tokens) if name != "fixed" else FixedLength(tokens=tokens)


@lru_cache(maxsize=256)
def _sharegpt(which: str, mean: float) -> EmpiricalLength:
    """Return lengths of ShareGPT's prompts or answers, scaled to a mean, in a drawn order."""
    knots = np.array(SHAREGPT[which].split(), dtype=np.float64)
    middles = (np.arange(SHAREGPT_LENGTHS) + 0.5) / SHAREGPT_LENGTHS
    lengths = np.interp(middles, np.linspace(0.0, 1.0, len(knots)), knots)
    seed = list(SHAREGPT).index(which)
    drawn = np.random.default_rng(seed).permutation(lengths * mean / lengths.mean())
    return EmpiricalLength(values=tuple(int(each) for each in np.maximum(np.rint(drawn), 2.0)))


def _number(columns: Mapping[str, object], name: str, blank: float = 0.0) -> float:
    value = float(str(columns[name]))
    return blank if math.isnan(value) else value
