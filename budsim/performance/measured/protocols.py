"""How the servers behind published measurements were started, where tables do not say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from budsim.commons.catalog import Entry, load_catalog
from budsim.performance.candidates import Booleans, Floats

# Both stem from runs of one public benchmark; entries that name no ``sources`` are of these.
SOURCES = ("inferencex", "aiconfigurator_silicon")


def party_of(source: str) -> str:
    """Return who measured a source: both tables of the public benchmark are one party."""
    return SOURCES[0] if source in SOURCES else source


_CONDITIONS: Mapping[str, Callable[[pd.DataFrame, Any], pd.Series]] = {
    "engine": lambda rows, name: rows.engine == name,
    "model": lambda rows, part: rows.model.str.contains(part, regex=False),
    "device": lambda rows, part: rows.device_name.str.contains(part, regex=False),
    "precision": lambda rows, part: rows.precision.str.contains(part, regex=False),
    "since": lambda rows, date: rows.date >= date,
    "until": lambda rows, date: (rows.date != "") & (rows.date <= date),
    "input_tokens": lambda rows, tokens: rows.input_tokens == tokens,
    "output_tokens": lambda rows, tokens: rows.output_tokens == tokens,
    "below_input_tokens": lambda rows, tokens: rows.input_tokens < tokens,
    "from_concurrency": lambda rows, load: rows.concurrency >= load,
    "below_tp": lambda rows, tp: rows.tp < tp,
    "attention_dp": lambda rows, least: rows.dp >= least,
    "undated": lambda rows, value: (rows.date == "") == value,
    "sources": lambda rows, names: rows.source.isin(names),
}

# The engines' own spellings of flags in a row's notes (``args: ...``).
FLAGS = {
    "tokens": "max-num-batched-tokens|chunked-prefill-size|max_num_tokens",
    "sequences": "max-num-seqs|max-running-requests|max_batch_size",
    "memory_fraction": "gpu-memory-utilization|mem-fraction-static|free_gpu_memory_fraction",
    "receive_interval": "scheduler-recv-interval",
    "tp": "tensor-parallel-size|tp-size|tp_size|tp",
    "dp": "data-parallel-size|dp-size|dp_size|dp",
    "pp": "pipeline-parallel-size|pp-size|pp_size|pp",
    "ep": "ep-size|ep_size",
    "draft_tokens": "speculative-num-steps|num_nextn_predict_layers|num-speculative-tokens",
    "adapters": "max-loras|max-loras-per-batch",
    "adapter_rank": "max-lora-rank",
}

# What the catalog settles, and the keys its entries may have.
SETTINGS = {
    "kv_cache_dtype": frozenset({*_CONDITIONS, "dtype"}),
    "token_budget": frozenset({*_CONDITIONS, "tokens", "prompts"}),
    "admission_steps": frozenset({*_CONDITIONS, "steps", "for_each_rank", "from_first"}),
    "memory_fraction": frozenset({*_CONDITIONS, "share"}),
    "cold_start": frozenset({*_CONDITIONS}),
    "client": frozenset({*_CONDITIONS, "prompts", "prompt_law", "output_law", "domain"}),
    "first_wave": frozenset({*_CONDITIONS, "seconds"}),
    "draft_tokens": frozenset({*_CONDITIONS, "tokens"}),
    "drafts": frozenset({*_CONDITIONS}),
}


def cache_formats(rows: pd.DataFrame) -> pd.Series:
    """Return the format of each row's KV cache, "" for the engine's default or unknown.

    ``rows`` has the columns of ``measurements.csv`` as text, numbers as numbers.
    """
    formats = pd.Series("", index=rows.index)
    for entry, at in _matches("kv_cache_dtype", rows):
        formats[at] = entry.get("dtype", "")
    return formats


def token_budgets(rows: pd.DataFrame, default: Floats) -> Floats:
    """Return the prompt tokens of one step, ``default`` (n,) where no protocol says it."""
    budgets = default.copy()
    prompts = rows.input_tokens.to_numpy(dtype=np.float64)
    for entry, at in _matches("token_budget", rows):
        budgets[at] = np.maximum(entry["tokens"], entry.get("prompts", 0) * prompts[at])
    return budgets


def admission_steps(rows: pd.DataFrame) -> Floats:
    """Return the mean steps a new request waits for the scheduler to look; 0 if it always does.

    An engine that waits for a prompt for each rank waits longer, the fewer arrive in a step. One
    that gathers prompts for T steps from the first on lets that wait T steps and the others half:
    20 steps in which two more come are (20 + 2 x 10) / 3 = 13.3.
    """
    steps = np.zeros(len(rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (rows.output_tokens / rows.concurrency).fillna(np.inf).to_numpy(dtype=np.float64)
    ranks = rows.dp.fillna(1.0).to_numpy(dtype=np.float64)
    for entry, at in _matches("admission_steps", rows):
        most = float(entry["steps"])
        if entry.get("for_each_rank"):
            steps[at] = np.minimum(most, (ranks * apart)[at])
        elif entry.get("from_first"):
            others = most / apart[at]
            steps[at] = most * (1.0 + others / 2.0) / (1.0 + others)
        else:
            steps[at] = most
    return steps


def cold_starts(rows: pd.DataFrame) -> Booleans:
    """Return whether the first requests of a row met a server that had served none.

    Their mean TTFT holds its compilation.
    """
    cold = np.zeros(len(rows), dtype=bool)
    for _, at in _matches("cold_start", rows):
        cold |= at
    return cold


def first_waves(rows: pd.DataFrame) -> Floats:
    """Return the seconds by which the first wave of each row's requests is slower, 0 if unknown."""
    return _stated("first_wave", "seconds", rows, np.zeros(len(rows)))


def client_entries(rows: pd.DataFrame) -> list[Entry]:
    """Return how the client of each row sent its requests, {} where nothing is known of it."""
    found: list[Entry] = [{} for _ in range(len(rows))]
    for entry, at in _matches("client", rows):
        for row in np.flatnonzero(at):
            found[int(row)] = entry
    return found


def draft_tokens(rows: pd.DataFrame, default: Floats) -> Floats:
    """Return the tokens guessed ahead for a sequence, where a row speculates at all, (n,)."""
    return _stated("draft_tokens", "tokens", rows, default)


def memory_fractions(rows: pd.DataFrame, default: Floats) -> Floats:
    """Return the share of device memory the engine takes, ``default`` (n,) if unsaid."""
    return _stated("memory_fraction", "share", rows, default)


def stated_flags(notes: pd.Series) -> pd.DataFrame:
    """Return the numbers that serve commands in the notes set, one column for each of `FLAGS`.

    nan where a command sets none.
    """
    commands = _commands(notes)
    number = r"[0-9]+(?:\.[0-9]+)?"
    found = {name: _flag(commands, names, number) for name, names in FLAGS.items()}
    return pd.DataFrame(
        {name: pd.to_numeric(values) for name, values in found.items()}, index=notes.index
    )


def stated_cache_formats(notes: pd.Series) -> pd.Series:
    """Return the KV cache's format as serve commands in the notes spell it, "" if they do not."""
    return _flag(_commands(notes), "kv-cache-dtype", r"\w+").fillna("").str.lower()


def _commands(notes: pd.Series) -> pd.Series:
    return notes.str.extract(r"args:(.*)", expand=False).fillna("")


def _flag(commands: pd.Series, names: str, value: str) -> pd.Series:
    """Return what a flag is set to, the last time as engines read it; nan where it is not.

    A value that goes on as something else (1e3 for a whole number) is none.
    """
    flag = rf".*(?:^|\s)--?(?:{names})[= ]({value})(?!\.?\w)"
    return commands.str.extract(flag, expand=False)


def other_engines_flags(text: pd.DataFrame) -> pd.Series:
    """Return which rows state SGLang, but started it with flags only vLLM has."""
    commands = _commands(text.notes)
    flags = commands.str.contains(r"--(?:max-model-len|max-num-seqs|performance-mode)\b")
    return (text.engine == "sglang") & flags


def with_drafts(rows: pd.DataFrame) -> pd.Series:
    """Return the notes of rows; those of runs known to have speculated say so."""
    notes = rows.notes.copy()
    for _, at in _matches("drafts", rows):
        notes[at & ~drafting(notes)] += " spec=mtp"
    return notes


def drafting(notes: pd.Series) -> Booleans:
    """Return whether the notes of a row speak of speculative decoding."""
    return np.asarray(notes.str.contains("mtp|speculative", case=False), dtype=bool)


def _stated(setting: str, key: str, rows: pd.DataFrame, default: Floats) -> Floats:
    values = default.copy()
    for entry, at in _matches(setting, rows):
        values[at] = entry[key]
    return values


def _matches(setting: str, rows: pd.DataFrame) -> Iterator[tuple[Entry, Booleans]]:
    """Yield the entries of a setting that match, with the rows each is the first to match."""
    free = np.ones(len(rows), dtype=bool)
    for entry in _protocols():
        if entry["setting"] != setting:
            continue
        conditions: Entry = {"sources": SOURCES, **entry}
        fits = free.copy()
        for name, wanted in conditions.items():
            if name in _CONDITIONS and fits.any():
                fits &= _CONDITIONS[name](rows, wanted).to_numpy(dtype=bool)
        if fits.any():
            free &= ~fits
            yield entry, fits


@lru_cache(maxsize=1)
def _protocols() -> list[Entry]:
    return load_catalog("budsim.performance.measured", "catalog/protocols.yaml")
