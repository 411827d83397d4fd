"""Benchmark results in the columns of ``measurements.csv`` as candidates and measured values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from budsim.commons.precision import Precision
from budsim.commons.units import MILLI
from budsim.engine_ops.engine_profile import EngineProfile, version_pair
from budsim.engine_ops.releases import calendar_year, release_year
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.measured.adapter_columns import NUMBERS as ADAPTER_NUMBERS
from budsim.performance.measured.adapter_columns import adapter_ranks, mark_unreadable_adapters
from budsim.performance.measured.client_columns import TEXTS as CLIENT_TEXTS
from budsim.performance.measured.client_columns import (
    mark_unkept_prefixes,
    mark_unreadable,
    prefix_columns,
)
from budsim.performance.measured.item_columns import NUMBERS as ITEM_NUMBERS
from budsim.performance.measured.item_columns import TEXTS as ITEM_TEXTS
from budsim.performance.measured.item_columns import items_of, mark_unreadable_items
from budsim.performance.measured.modes import OFFLINE_MODES, STATIC_MODES, mark_modes
from budsim.performance.measured.parallelism import device_layout
from budsim.performance.measured.problems import mark
from budsim.performance.measured.processors import (
    bandwidth_share,
    physical_cores,
    stated_threads,
)
from budsim.performance.measured.protocols import (
    SOURCES,
    admission_steps,
    cache_formats,
    cold_starts,
    drafting,
    memory_fractions,
    other_engines_flags,
    stated_cache_formats,
    stated_flags,
    token_budgets,
    with_drafts,
)
from budsim.performance.measured.resolved_names import (
    automatic_cache,
    cache_format_of,
    device_of,
    engine_names,
    engine_profile,
    model_of,
    precision_of,
    profile_of,
    resolve_all,
    stored_format,
)
from budsim.performance.measured.server_columns import eager, mark_unreadable_servers
from budsim.performance.measured.speculations import (
    TEXTS as SPECULATION_TEXTS,
)
from budsim.performance.measured.speculations import (
    mark_unreadable_drafts,
    speculations,
)
from budsim.performance.measured.tables import UNREADABLE
from budsim.performance.predictions import PERCENTILES

# Columns read as numbers.
NUMBERS = (
    "n_devices tp pp ep dp input_tokens output_tokens concurrency request_rate n_requests "
    "draft_tokens acceptance temperature cores "
    "prefix_hit_share prefix_set_tokens kv_offload_gib kv_store_gib kv_store_gb_per_s warmup "
    "ttft_ms_mean ttft_ms_p50 ttft_ms_p99 tpot_ms_mean tpot_ms_p50 "
    "tpot_ms_p99 itl_ms e2e_latency_ms e2e_ms_p50 e2e_ms_p99 output_tokens_per_s_total "
    "output_tok_per_s_per_user"
).split() + list(ITEM_NUMBERS + ADAPTER_NUMBERS)

# Columns read as text.
TEXTS = (
    "source",
    "device_type",
    "device_name",
    "engine",
    "engine_version",
    "model",
    "model_hf",
    "precision",
    "kv_cache_dtype",
    "mode",
    "quality",
    "notes",
    "date",
    "enforce_eager",
    *CLIENT_TEXTS,
    *SPECULATION_TEXTS,
    *ITEM_TEXTS,
)

# Larger numbers are errors of the table.
LARGEST = 1e9

# A TPOT this many times as long as throughput allows is the time of a whole generation.
LARGEST_CONTRADICTION = 20.0

# Cells that mean nothing is known.
BLANKS = ("", "nan", "none", "null")

# These sources draw lengths uniformly from 0.8 to 1.0 of the nominal ones.
MEAN_OF_NOMINAL = 0.9

# Note of rows from other sources that draw lengths so.
NOMINAL_LENGTHS_NOTE = "lengths are nominal"

# Mean prompt and output of vLLM's ShareGPT sample, for rows that name only the data set.
SHAREGPT_TOKENS = (220.0, 190.0)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Readable rows as candidates, with what was measured; arrays of shape (n,).

    ``rows`` are positions in the table. ``ttft_s`` and ``tpot_s`` are means where given, else
    medians (``median`` says which), nan where blank. ``open_loop`` rows give a ``request_rate``
    (1/s) and no concurrency. ``tokens_per_s`` is output tokens per second of all ``replicas``
    together. ``percentiles_s`` has what was measured of `PERCENTILES`. ``problems`` says for every
    row of the table why it could not be read, empty when it could.
    """

    candidates: Candidates
    rows: Integers
    replicas: Floats
    request_rate: Floats
    open_loop: Booleans
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    tokens_per_s: Floats
    median: Booleans
    percentiles_s: Mapping[str, Floats]
    source: Sequence[str]
    quality: Sequence[str]
    problems: Sequence[str]
    table: pd.DataFrame

    def __len__(self) -> int:
        """Return the number of readable rows."""
        return len(self.rows)


def read_measurements(table: pd.DataFrame) -> Measurements:
    """Turn a table of text into candidates and measured values.

    Rows that cannot be read keep a reason in ``problems`` instead.
    """
    text = pd.DataFrame(
        {
            name: table.get(name, pd.Series("", index=table.index)).astype(str).str.strip()
            for name in TEXTS
        }
    )
    problems = table.get(UNREADABLE, pd.Series("", index=table.index)).copy()
    numbers = pd.DataFrame({name: _numbers(table, name, problems) for name in NUMBERS})
    models = _models(text, problems)
    devices = resolve_all(text.device_name, device_of, problems)
    engines = resolve_all(engine_names(text), engine_profile, problems, "engine")
    precisions = resolve_all(text.precision.str.lower(), precision_of, problems)
    formats = text.kv_cache_dtype.str.lower()
    formats = formats.where(formats != "", stated_cache_formats(text.notes))
    numbers = _with_lengths(text, numbers)
    caches = resolve_all(
        formats.where(formats != "", cache_formats(text.join(numbers))), cache_format_of, problems
    )
    text["notes"] = with_drafts(text.join(numbers))
    _mark_all(table, text, numbers, models, problems)
    ok = np.flatnonzero((problems == "").to_numpy())
    picked = _Picked(
        text=text.iloc[ok].reset_index(drop=True),
        numbers=numbers.iloc[ok].reset_index(drop=True),
        models=[models[row] for row in ok],
        devices=[devices[row] for row in ok],
        engines=[profile_of(engines[row], devices[row].kind) for row in ok],
        precisions=[
            stored_format(text.precision.iloc[row], precisions[row], models[row], devices[row].kind)
            for row in ok
        ],
        caches=[caches[row] for row in ok],
    )
    return _measured(picked, ok, list(problems), table)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picked:
    text: pd.DataFrame
    numbers: pd.DataFrame
    models: list[Architecture]
    devices: list[Device]
    engines: list[EngineProfile]
    precisions: list[Precision]
    caches: list[Precision | None]


def _mark_all(
    table: pd.DataFrame,
    text: pd.DataFrame,
    numbers: pd.DataFrame,
    models: list[Architecture],
    problems: pd.Series,
) -> None:
    """Mark the rows that cannot be read, each with its first reason."""
    _require_traffic(text, numbers, problems)
    mark_unreadable(text, numbers, problems)
    mark_unreadable_drafts(text, numbers, problems)
    mark_unreadable_items(text, numbers, models, problems)
    mark_unkept_prefixes(numbers, models, problems)
    mark_unreadable_adapters(numbers, problems)
    mark_unreadable_servers(text, problems)
    mark_modes(table, text["mode"], problems)
    foreign = "engine: the serve command in the notes has flags of another engine; expected its own"
    mark(problems, other_engines_flags(text), foreign)
    disaggregated = (
        "mode: disaggregated prefill and decode is not modelled; expected serving or a static batch"
    )
    mark(problems, text["mode"] == "serving_disagg", disaggregated)


def _models(text: pd.DataFrame, problems: pd.Series) -> list[Architecture]:
    """Return the model of each row; problems name the column that names it."""
    full = text.model_hf != ""
    models = resolve_all(text.model_hf.where(full, text.model), model_of, problems)
    unknown = full & problems.str.startswith("model: ")
    problems[unknown] = "model_hf" + problems[unknown].str.removeprefix("model")
    return models


def _numbers(table: pd.DataFrame, name: str, problems: pd.Series) -> pd.Series:
    """Read one column of numbers.

    Text, infinities, negative and absurd values become a problem of their row.
    """
    if name not in table:
        return pd.Series(np.nan, index=table.index)
    text = table[name].astype(str).str.strip()
    values = pd.to_numeric(text, errors="coerce").astype(np.float64)
    blank = text.str.lower().isin(BLANKS if name != "request_rate" else (*BLANKS, "inf"))
    wrong = ~blank & (values.isna() | (values < 0) | (values > LARGEST))
    for row in np.flatnonzero(wrong & (problems == "")):
        problems.iloc[int(row)] = (
            f"{name}: {text.iloc[row][:40]!r} is not a number between 0 and {LARGEST:g}"
        )
    return values.where(~wrong & ~blank)


def _with_lengths(text: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """Fill in what serve commands and protocols say and columns do not.

    Ranks, ShareGPT's lengths, and all requests at once where no rate is given.
    """
    numbers = numbers.copy()
    told = stated_flags(text.notes)
    for name in ("pp", "ep"):
        numbers[name] = told[name].fillna(numbers[name])
    for name in ("tp", "dp"):
        numbers[name] = numbers[name].fillna(told[name])
    unlimited = numbers.concurrency.isna() & numbers.request_rate.isna()
    numbers["concurrency"] = numbers.concurrency.where(~unlimited, numbers.n_requests)
    sharegpt = text.notes.str.contains("sharegpt", case=False)
    for name, tokens in zip(("input_tokens", "output_tokens"), SHAREGPT_TOKENS, strict=True):
        numbers[name] = numbers[name].where(numbers[name].notna() | ~sharegpt, tokens)
    return numbers


def _require_traffic(text: pd.DataFrame, numbers: pd.DataFrame, problems: pd.Series) -> None:
    for name in ("input_tokens", "output_tokens"):
        mark(
            problems,
            ~(numbers[name] > 0),
            f"{name}: is blank or 0; expected the mean tokens of a request, at least 1",
        )
    loaded = (
        (numbers.concurrency > 0) | (numbers.request_rate > 0) | text["mode"].isin(OFFLINE_MODES)
    )
    mark(
        problems,
        ~loaded,
        "concurrency: is blank or 0; expected requests in flight, at least 1, or a request_rate",
    )
    for name in ("tp", "pp", "ep", "dp", "n_devices"):
        mark(
            problems,
            (numbers[name] < 1) | (numbers[name] > 4096) | (numbers[name] % 1 > 0),
            f"{name}: expected a whole number from 1 to 4096",
        )


def _measured(
    picked: _Picked, rows: Integers, problems: list[str], table: pd.DataFrame
) -> Measurements:
    text, numbers = picked.text, picked.numbers
    candidates, replicas = _candidates(picked)
    ttft = numbers.ttft_ms_mean.fillna(numbers.ttft_ms_p50)
    tpot = _per_token(numbers.tpot_ms_mean.fillna(numbers.tpot_ms_p50), numbers)
    return Measurements(
        candidates=candidates,
        rows=np.asarray(rows, dtype=np.int64),
        replicas=replicas,
        request_rate=numbers.request_rate.to_numpy(),
        open_loop=(numbers.concurrency.isna() & (numbers.request_rate > 0)).to_numpy(),
        ttft_s=ttft.to_numpy() * MILLI,
        tpot_s=tpot.to_numpy() * MILLI,
        e2e_s=numbers.e2e_latency_ms.fillna(numbers.e2e_ms_p50).to_numpy() * MILLI,
        tokens_per_s=numbers.output_tokens_per_s_total.to_numpy(),
        median=_median(text, numbers),
        percentiles_s={
            name: numbers[name.replace("_", "_ms_")].to_numpy() * MILLI for name in PERCENTILES
        },
        source=text.source.tolist(),
        quality=text.quality.tolist(),
        problems=problems,
        table=table,
    )


def _shares_of_nominal(text: pd.DataFrame) -> Floats:
    """Return the true mean length over the one a row states, (n,)."""
    nominal = text.source.isin(SOURCES) | text.notes.str.contains(NOMINAL_LENGTHS_NOTE, regex=False)
    return np.where(nominal, MEAN_OF_NOMINAL, 1.0)


def _per_token(tpot_ms: pd.Series, numbers: pd.DataFrame) -> pd.Series:
    """Return TPOT per token.

    Rows of AmpereOne M give the time of a whole generation in this column: they contradict their
    own throughput by the number of output tokens. A TPOT cannot exceed concurrency / throughput by
    much.
    """
    contradiction = tpot_ms * MILLI * numbers.output_tokens_per_s_total / numbers.concurrency
    return tpot_ms.where(~(contradiction > LARGEST_CONTRADICTION), tpot_ms / numbers.output_tokens)


def _median(text: pd.DataFrame, numbers: pd.DataFrame) -> Booleans:
    """Return whether a row reports medians: no mean, and its source or columns say median."""
    return np.asarray(
        numbers.ttft_ms_mean.isna() & ((text.source == "inferencex") | numbers.ttft_ms_p50.notna()),
        dtype=bool,
    )


def _candidates(picked: _Picked) -> tuple[Candidates, Floats]:
    """Return the candidates, each one of ``replicas`` equal replicas that share a row's traffic."""
    rows, moe = len(picked.text), np.array([model.is_moe for model in picked.models], dtype=bool)
    cpu = np.array([device.kind is DeviceKind.CPU for device in picked.devices], dtype=bool)
    tp, pp, ep, dp, replicas = device_layout(picked.numbers, moe, cpu)
    architectures, architecture = _coded(picked.models)
    devices, device = _coded(picked.devices)
    engines, engine = _coded(picked.engines)
    asked = zip(picked.engines, picked.models, picked.devices, picked.precisions, strict=True)
    caches = [
        stated or automatic_cache(engine.name, model, device, weights)
        for stated, (engine, model, device, weights) in zip(picked.caches, asked, strict=True)
    ]
    precisions, codes = _coded([*picked.precisions, *caches])
    limits = _limits(picked, dp)
    ways, way = speculations(picked.text, picked.numbers, picked.models)
    media, medium, item_tokens = items_of(picked.text, picked.numbers, picked.models)
    threads = stated_threads(picked.text.notes, picked.numbers.cores)
    return Candidates(
        architectures=architectures,
        devices=devices,
        engines=engines,
        precisions=precisions,
        architecture=architecture,
        device=device,
        engine=engine,
        weight_precision=codes[:rows],
        kv_precision=codes[rows:],
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        chunked_prefill=np.ones(rows, dtype=bool),
        cores=physical_cores(np.where(cpu, threads, 0.0), picked.devices, replicas),
        compute_share=np.where(
            cpu, bandwidth_share(picked.text.source, picked.devices, replicas) / replicas, 1.0
        ),
        memory_free_bytes=np.array([device.memory_bytes for device in picked.devices]),
        speculative=drafting(picked.text.notes),
        speculations=ways,
        speculation=way,
        eager=eager(picked.text),
        adapter_ranks=adapter_ranks(picked.text, picked.numbers),
        media=media,
        medium=medium,
        **prefix_columns(picked.numbers, tp * pp),
        **_traffic(picked, replicas, limits[:, 1], item_tokens),
        **_protocol(picked, limits[:, 0]),
    ), replicas


def _traffic(
    picked: _Picked, replicas: Floats, sequences: Floats, item_tokens: Floats
) -> dict[str, Any]:
    """Return the columns of requests: their lengths, and how they arrive.

    The engine runs ``sequences`` (n,) at a time by default. A prompt is its text and
    ``item_tokens`` (n,).
    """
    text, numbers = picked.text, picked.numbers
    lengths = _shares_of_nominal(text)
    concurrency = numbers.concurrency.fillna(pd.Series(sequences)).to_numpy() / replicas
    static = text["mode"].isin((*STATIC_MODES, "offline")).to_numpy()
    return {
        "input_tokens": np.maximum(numbers.input_tokens.to_numpy() * lengths, 1.0) + item_tokens,
        "output_tokens": np.maximum(numbers.output_tokens.to_numpy() * lengths, 1.0),
        "concurrency": np.maximum(concurrency, 1e-3),
        "prefix_hit_share": numbers.prefix_hit_share.fillna(0.0).to_numpy(),
        "max_num_seqs": np.where(static, np.maximum(concurrency, 1.0), np.maximum(sequences, 1.0)),
        "static_batch": static,
    }


def _protocol(picked: _Picked, tokens: Floats) -> dict[str, Any]:
    """Return the columns of the server's start and of its software's age.

    A step takes ``tokens`` (n,) by default.
    """
    text, rows = picked.text, picked.text.join(picked.numbers)
    usual = memory_fractions(rows, np.array([engine.memory_fraction for engine in picked.engines]))
    told = stated_flags(text.notes)
    receives = told.receive_interval.where(text.engine == "sglang")  # no other engine has the flag
    loads = zip(picked.engines, rows.output_tokens, rows.concurrency.fillna(np.inf), strict=True)
    gathering = [engine.gathering_steps(output, load) for engine, output, load in loads]
    waited = pd.Series(np.maximum(admission_steps(rows), gathering))
    return {
        "token_budget": token_budgets(rows, tokens),
        "admission_steps": (receives / 2.0).fillna(waited).to_numpy(),
        "cold_start": cold_starts(rows),
        "memory_fraction": told.memory_fraction.fillna(pd.Series(usual)).to_numpy(),
        "stack_year": np.array([_year(date) for date in text.date]),
        "engine_year": np.array(
            [release_year(*each) for each in zip(text.engine, text.engine_version, strict=True)]
        ),
    }


def _limits(picked: _Picked, dp: Integers) -> Floats:
    """Return the tokens of a step and the running sequences of each attention rank, shape (n, 2).

    Those its serve command sets, else the engine's defaults on the device. SGLang is told those of
    all ``dp`` (n,) ranks together and divides them (`ServerArgs`, `enable_dp_attention`).
    """
    versions = [version_pair(text) or (0, 0) for text in picked.text.engine_version]
    served = zip(picked.engines, picked.devices, versions, strict=True)
    default = np.array(
        [engine.limits_on(device, version) for engine, device, version in served],
        dtype=np.float64,
    ).reshape(-1, 2)
    told = stated_flags(picked.text.notes)[["tokens", "sequences"]].to_numpy(dtype=np.float64)
    parts = np.where(picked.text.engine == "sglang", dp, 1)[:, None]
    return np.where(told > 0, told / parts, default)


@lru_cache(maxsize=8192)
def _year(stated: str) -> float:
    """Return a date, month or year as a calendar year with its fraction.

    Anything else (``v5.0``, ``2024-2026``) is nan.
    """
    for missing in ("", "-15", "-07-01"):
        try:
            return calendar_year(date.fromisoformat(stated + missing))
        except ValueError:
            continue
    return float("nan")


def _coded(values: Sequence[Value]) -> tuple[tuple[Value, ...], Integers]:
    """Return the distinct values in order of appearance, and each value's position among them."""
    seen: dict[int, int] = {}
    distinct: list[Value] = []
    codes = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        key = id(value)
        if key not in seen:
            seen[key] = len(distinct)
            distinct.append(value)
        codes[row] = seen[key]
    return tuple(distinct), codes
