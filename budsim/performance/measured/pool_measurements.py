"""Measured rows of disaggregated deployments as pools of candidates."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from budsim.performance.candidates import Booleans, Candidates, Floats, Integers, rows_of
from budsim.performance.measured.client_columns import is_steady
from budsim.performance.measured.measurements import Measurements, read_measurements
from budsim.performance.measured.pool_columns import (
    COLUMNS,
    LAYOUT_COLUMNS,
    MODE,
    StatedPools,
    stated_pools,
)
from budsim.performance.measured.pool_recipes import FoundRecipes, found_recipes
from budsim.performance.measured.protocols import SOURCES
from budsim.performance.serving.pools.pool_times import Pools

# Columns that are read here and may be missing.
_READ = (
    "mode",
    "notes",
    "n_devices",
    "precision",
    "concurrency",
    "engine",
    "date",
    "device_name",
)

_UNKNOWN = (
    "prefill_tp: expected whole sizes and workers of both pools, 1 to 4096, in prefill_tp, "
    "prefill_workers, decode_tp and decode_workers or in notes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMeasurements:
    """Readable rows as pools; arrays of shape (n,).

    ``rows`` are positions in the table; ``problems`` says for every row of it why it was not read.
    ``stated`` rows give the workers of both pools, or have one published recipe only: then they
    are ``by_recipe``. ``median`` ones report medians, ``steady`` ones were seen after many turns;
    those of a ``known_party`` were measured by whom the correction was fitted on.
    """

    pools: Pools
    rows: Integers
    stated: Booleans
    by_recipe: Booleans
    median: Booleans
    steady: Booleans
    known_party: Booleans
    problems: list[str]

    def __len__(self) -> int:
        """Return the number of readable rows."""
        return len(self.rows)


def _other_counts(table: pd.DataFrame, stated: StatedPools) -> list[str]:
    """Return why the devices of a row are not those of its stated workers, "" where they are.

    Two prefill workers of one device and a decode worker of one are three devices, not eight. Only
    rows that state both pools in columns of their own are asked.
    """
    if not set(COLUMNS) <= set(table.columns):
        return [""] * len(table)
    own = table[list(COLUMNS)].apply(pd.to_numeric, errors="coerce").notna().all(axis=1)
    count = pd.to_numeric(table["n_devices"], errors="coerce").where(own).to_numpy(dtype=np.float64)
    used = (
        stated.prefill_devices * stated.prefill_pp * stated.prefill_workers
        + stated.decode_devices * stated.decode_workers
    )
    return [
        f"n_devices: {has:g} are not the {needs:g} of all workers; expected {needs:g}, or blank"
        if np.isfinite(has) and has != needs
        else ""
        for has, needs in zip(count, used, strict=True)
    ]


def read_pools(table: pd.DataFrame) -> PoolMeasurements:
    """Read rows of disaggregated deployments: each pool's worker as a server of its own."""
    fresh = table.reset_index(drop=True)
    missing = [name for name in _READ if name not in fresh]
    fresh = fresh.assign(**dict.fromkeys(missing, ""))
    known_party = _sources(fresh).isin(SOURCES).to_numpy(dtype=bool)
    own = stated_pools(fresh)
    recipes = found_recipes(fresh, own, known_party)
    stated = recipes.completed(own)
    guessing = _with_guesses(fresh, recipes)
    prefill = read_measurements(_workers(fresh, stated, "prefill"))
    decode = read_measurements(_workers(guessing, stated, "decode"))
    known = np.isfinite(stated.prefill_devices)
    wrong = zip(_other_counts(fresh, stated), _not_in_flight(fresh), strict=True)
    problems = [
        ((first or second) if fine else _UNKNOWN) or count or load
        for first, second, fine, (count, load) in zip(
            prefill.problems, decode.problems, known, wrong, strict=True
        )
    ]
    rows = np.array([row for row, each in enumerate(problems) if not each], dtype=np.int64)
    load = pd.to_numeric(fresh.concurrency, errors="coerce").to_numpy(dtype=np.float64)
    return PoolMeasurements(
        pools=Pools(
            prefill=_limited(_plain(_picked(prefill, rows)), recipes, rows),
            decode=_without_guesses(_picked(decode, rows), recipes, rows),
            prefill_workers=stated.prefill_workers[rows],
            decode_workers=stated.decode_workers[rows],
            concurrency=load[rows],
            most_decoding=recipes.most_decoding[rows],
        ),
        rows=rows,
        stated=stated.stated[rows] > 0,
        by_recipe=(stated.stated > own.stated)[rows],
        median=decode.median[_places(decode, rows)],
        steady=_arrivals(fresh).map(is_steady).to_numpy(dtype=bool)[rows],
        known_party=known_party[rows],
        problems=problems,
    )


def _not_in_flight(table: pd.DataFrame) -> list[str]:
    """Return why a row is not answered that states no requests in flight, "" for others."""
    load = pd.to_numeric(table["concurrency"], errors="coerce").to_numpy(dtype=np.float64)
    told = (
        "concurrency: is blank; rows of prefill and decode pools are answered for requests in "
        "flight, not for a request_rate; expected at least 1 (budsim simulate takes rates)"
    )
    return ["" if each >= 1.0 else told for each in load.tolist()]


def _arrivals(table: pd.DataFrame) -> pd.Series:
    return table.get("arrival", pd.Series("", index=table.index)).astype(str)


def _sources(table: pd.DataFrame) -> pd.Series:
    return table.get("source", pd.Series("", index=table.index)).astype(str).str.strip()


def _places(measurements: Measurements, rows: Integers) -> Integers:
    """Return where rows of the table are among the readable ones."""
    place = {int(row): at for at, row in enumerate(measurements.rows)}
    return np.array([place[int(row)] for row in rows], dtype=np.int64)


def _picked(measurements: Measurements, rows: Integers) -> Candidates:
    return rows_of(measurements.candidates, _places(measurements, rows))


def _plain(candidates: Candidates) -> Candidates:
    """Return prefill workers: they read prompts and guess nothing."""
    return replace(candidates, speculations=(), speculation=None)


def _limited(prefill: Candidates, recipes: FoundRecipes, rows: Integers) -> Candidates:
    """Return prefill workers with the steps that recipes start them for."""
    tokens = recipes.columns["prefill_tokens"][rows]
    prompts = recipes.columns["prefill_prompts"][rows]
    return replace(
        prefill,
        token_budget=np.where(np.isfinite(tokens), tokens, prefill.token_budget),
        max_num_seqs=np.where(np.isfinite(prompts), prompts, prefill.max_num_seqs),
    )


def _with_guesses(table: pd.DataFrame, recipes: FoundRecipes) -> pd.DataFrame:
    """Return rows with the method and the tokens that their recipes guess ahead."""
    tokens = recipes.columns["draft_tokens"]
    method = table.get("speculative_method", pd.Series("", index=table.index)).astype(str)
    drafts = table.get("draft_tokens", pd.Series("", index=table.index)).astype(str)
    guess = recipes.known & (tokens > 0) & (drafts == "").to_numpy(dtype=bool)
    told = pd.Series(tokens, index=table.index).map(lambda value: f"{value:g}")
    return table.assign(
        speculative_method=method.where(~(guess & (method == "")), "mtp"),
        draft_tokens=drafts.where(~guess, told),
    )


def _without_guesses(decode: Candidates, recipes: FoundRecipes, rows: Integers) -> Candidates:
    """Return decode workers that guess nothing where their recipe does not."""
    if decode.speculation is None:
        return decode
    none = recipes.columns["draft_tokens"][rows] == 0
    return replace(decode, speculation=np.where(none, 0, decode.speculation))


def _workers(table: pd.DataFrame, stated: StatedPools, pool: str) -> pd.DataFrame:
    """Return one worker of a pool as a row of a server of its own, with its share of the load."""
    devices = getattr(stated, f"{pool}_devices")
    workers, ranks = getattr(stated, f"{pool}_workers"), getattr(stated, f"{pool}_dp")
    stages = stated.prefill_pp if pool == "prefill" else np.ones(len(table))
    load = pd.to_numeric(table.concurrency, errors="coerce") / workers

    def written(values: Floats | pd.Series) -> pd.Series:
        return pd.Series(values, index=table.index).map(lambda v: "" if np.isnan(v) else f"{v:g}")

    return table.drop(columns=[*COLUMNS, *LAYOUT_COLUMNS], errors="ignore").assign(
        mode=table["mode"].where(table["mode"] != MODE, "serving"),
        n_devices=written(devices * stages),
        tp=written(devices),
        pp=written(stages),
        dp=written(ranks),
        ep=written(getattr(stated, f"{pool}_ep")),
        concurrency=written(load.clip(lower=1.0)),
        notes=table["notes"].astype(str).map(lambda notes: _notes_of(notes, pool)),
    )


def _notes_of(notes: str, pool: str) -> str:
    """Return a row's notes with the flags of one pool: ``prefill args: ... decode args: ...``."""
    found = re.search(rf"\b{pool} args:(.*?)(?=\b(?:prefill|decode) args:|$)", notes, re.DOTALL)
    return f"args:{found.group(1)}" if found else notes
