"""Rows measured on disaggregated deployments: the workers of both pools, from columns or notes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from budsim.performance.candidates import Floats

# Mode of such rows.
MODE = "serving_disagg"

# Optional columns that state the pools; ranks count all devices of one worker.
COLUMNS = ("prefill_tp", "prefill_workers", "decode_tp", "decode_workers")

# Further columns of one worker, each by itself optional: the stages of prefill pipelines, attention
# ranks, and over how many devices experts are spread. Sizes in `COLUMNS` are of one stage.
LAYOUT_COLUMNS = ("prefill_pp", "prefill_dp", "prefill_ep", "decode_dp", "decode_ep")

# Devices a worker may have, in the order they are tried where a row states attention ranks alone.
SIZES = (4, 8, 16, 24, 32, 40, 48, 56, 64)

# Largest size or number of workers that a row may state.
MOST_DEVICES = 4096.0

# Devices of a prefill worker that is known to have attention ranks, but not how many.
PREFILL_SIZES = {"fp8": (8, 4, 16), "": (4, 8, 16)}

_WITH_WORKERS = r"prefill tp(\d+) x(\d+) workers, decode tp(\d+) x(\d+)"
_WITH_RANKS = r"prefill tp(\d+) dp(\d+), decode tp(\d+) dp(\d+)"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPools:
    """Workers of both pools of each row; arrays of shape (n,), nan where nothing is known.

    ``..._devices`` are those of one stage of a worker; only prefill workers have several stages
    (``prefill_pp``). ``..._dp`` are attention ranks of a worker, and ``..._ep`` the devices over
    which it spreads experts. ``stated`` is 1 where the row gives workers and sizes, 0 where some of
    them were inferred.
    """

    prefill_devices: Floats
    prefill_workers: Floats
    prefill_dp: Floats
    decode_devices: Floats
    decode_workers: Floats
    decode_dp: Floats
    stated: Floats
    prefill_pp: Floats
    prefill_ep: Floats
    decode_ep: Floats


def stated_pools(rows: pd.DataFrame) -> StatedPools:
    """Return the pools of rows in the columns of ``measurements.csv``, numbers as numbers."""
    records = (
        {str(name): value for name, value in each.items()} for each in rows.to_dict("records")
    )
    columns = np.array([_pools(row) for row in records], dtype=np.float64).reshape(-1, 7)
    names = (
        "prefill_devices prefill_workers prefill_dp decode_devices decode_workers decode_dp stated"
    ).split()
    found = dict(zip(names, columns.T, strict=True))
    own = {name: _column(rows, name) for name in LAYOUT_COLUMNS}
    for pool in ("prefill", "decode"):
        ranks = _or_else(own[f"{pool}_dp"], found[f"{pool}_dp"])
        usual = np.where(ranks > 1, found[f"{pool}_devices"], 1.0)
        found[f"{pool}_dp"] = ranks
        found[f"{pool}_ep"] = _or_else(own[f"{pool}_ep"], usual)
    found["prefill_pp"] = _or_else(own["prefill_pp"], np.ones(len(rows)))
    return StatedPools(**found)


def _column(rows: pd.DataFrame, name: str) -> Floats:
    """Return the sizes in a column, nan where there is none."""
    if name not in rows:
        return np.full(len(rows), np.nan)
    found = pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=np.float64)
    return np.where((found >= 1.0) & (found <= MOST_DEVICES) & (found % 1.0 == 0.0), found, np.nan)


def _or_else(stated: Floats, otherwise: Floats) -> Floats:
    return np.where(np.isnan(stated), otherwise, stated)


def _pools(row: dict[str, object]) -> tuple[float, ...]:
    """Return devices, workers and ranks of both pools of one row, and whether all were stated."""
    own = [_number(row.get(name)) for name in COLUMNS]
    ranked = "dp_attention" in str(row["notes"])
    if all(number % 1 == 0 and 1 <= number <= MOST_DEVICES for number in own):
        return _ranked(own[0], own[1], own[2], own[3], ranked, 1.0)
    devices, precision = _number(row["n_devices"]), str(row["precision"]).lower()
    if found := re.search(_WITH_WORKERS, str(row["notes"])):
        prefill, p_workers, decode, d_workers = map(float, found.groups())
        return _from_workers(prefill, p_workers, decode, d_workers, devices, ranked, precision)
    if found := re.search(_WITH_RANKS, str(row["notes"])):
        p_tp, p_dp, d_tp, d_dp = map(float, found.groups())
        return _from_ranks(p_tp, p_dp, d_tp, d_dp, precision)
    return (np.nan,) * 6 + (0.0,)


def _ranked(
    prefill: float, p_workers: float, decode: float, d_workers: float, ranked: bool, stated: float
) -> tuple[float, ...]:
    return (
        prefill,
        p_workers,
        prefill if ranked else 1.0,
        decode,
        d_workers,
        decode if ranked else 1.0,
        stated,
    )


def _from_workers(
    prefill: float,
    p_workers: float,
    decode: float,
    d_workers: float,
    devices: float,
    ranked: bool,
    precision: str,
) -> tuple[float, ...]:
    """Complete sizes by the devices of the whole deployment.

    InferenceX writes a worker of attention ranks alone as tp 1: its devices are what is left. Rows
    without workers (x0) give the devices of the whole deployment twice.
    """
    if not p_workers or not d_workers:
        return _whole(prefill, precision)
    size = _node_of_experts(prefill, decode, devices / (p_workers + d_workers), ranked)
    if size:
        return _ranked(size, p_workers, size, d_workers, ranked, 1.0)
    unknown_prefill, unknown_decode = ranked and prefill == 1, ranked and decode == 1
    if np.isnan(devices) or not (unknown_prefill or unknown_decode):
        return _ranked(prefill, p_workers, decode, d_workers, ranked, 1.0)
    sizes = PREFILL_SIZES["fp8" if "fp8" in precision else ""] if unknown_prefill else (prefill,)
    for each in sizes:
        left = (devices - p_workers * each) / d_workers
        if left in SIZES:
            return _ranked(each, p_workers, left, d_workers, ranked, 1.0)
    return _ranked(prefill, p_workers, decode, d_workers, ranked, 0.0)


def _node_of_experts(prefill: float, decode: float, devices: float, ranked: bool) -> float:
    """Return the devices of each worker whose experts take a whole node, written as tp 1; else 0.

    24 devices of three workers: 8 each.
    """
    return devices if not ranked and prefill == decode == 1 and devices in SIZES else 0.0


def _from_ranks(
    p_tp: float, p_dp: float, d_tp: float, d_dp: float, precision: str
) -> tuple[float, ...]:
    """Return one worker of each pool: such rows do not state how many there are.

    Equal sizes that no worker of one node has are the devices of the whole deployment.
    """
    if p_tp == d_tp and p_tp > max(PREFILL_SIZES[""]):
        return _whole(p_tp, precision)
    return (p_tp * p_dp, 1.0, p_dp, d_tp * d_dp, 1.0, d_dp, 0.0)


def _whole(devices: float, precision: str) -> tuple[float, ...]:
    """Return a guess of how so many devices are divided: one prefill worker, decoding the rest."""
    size = float(PREFILL_SIZES["fp8" if "fp8" in precision else ""][0])
    if devices <= 2 * size:
        return _ranked(devices / 2.0, 1.0, devices / 2.0, 1.0, False, 0.0)
    decode = min(devices - size, 32.0)
    workers = max((devices - decode) // size, 1.0)
    return _ranked(size, workers, decode, 1.0, True, 0.0)


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return float("nan")
