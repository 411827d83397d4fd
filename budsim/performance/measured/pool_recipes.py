"""What recipes of InferenceX's disaggregated runs have in common, where rows do not state it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from budsim.performance.candidates import Booleans, Floats
from budsim.performance.measured.pool_columns import StatedPools

# TensorRT-LLM's decode workers are started for a power of two of sequences on each attention rank,
# or from 192 on for one and a half of it, and keep 1 to 45 % more requests in flight: 563 with 512,
# 4916 with 4096, 1365 with 1280. The rest waits for a place, as rows show (564 requests, 512
# places: 52 wait, measured 12.7 s, replayed 12.5 s). From the names of its recipes
# (`ctx1_gen5_dep8_batch32` of srt-slurm, which master.yaml of InferenceX lists by concurrency).
MOST_OVER_PLACES = 1.45
LEAST_ONE_AND_A_HALF = 192.0
MOST_OVER_ONE_AND_A_HALF = 1.15

# Since then TensorRT-LLM's prefill workers have attention ranks, whatever the decode workers have;
# those on H200 are as the row says.
RANKS_SINCE = "2026-01-01"


def with_recipes(rows: pd.DataFrame, stated: StatedPools, known_party: Booleans) -> StatedPools:
    """Return pools with the attention ranks that recipes give their prefill workers."""
    ranked = (
        known_party
        & _tensorrt(rows)
        & (rows["date"].astype(str) >= RANKS_SINCE).to_numpy(dtype=bool)
        & ~rows["device_name"].astype(str).str.contains("H200").to_numpy(dtype=bool)
    )
    ranks = np.where(ranked, stated.prefill_devices, stated.prefill_ranks)
    return replace(stated, prefill_ranks=ranks)


def most_decoding(
    rows: pd.DataFrame, stated: StatedPools, concurrency: Floats, known_party: Booleans
) -> Floats:
    """Return the sequences that all decode workers run at most, inf where nothing is known, (n,).

    With attention ranks the batch follows from the load alone. Without, recipes that are started
    for one load have one that is just smaller (6 requests on 3 workers: 1 each); a server of
    several loads has room for all, unless fewer than two requests are in flight for each worker.
    """
    parts = stated.decode_workers * np.where(stated.decode_ranks > 1, stated.decode_ranks, 1.0)
    each = np.maximum(concurrency / parts, 1e-9)
    ranked = _batch_of_ranks(each)
    alone = np.where((each >= 1.0) & (each < 2.0), 1.0, np.inf)
    own = np.where(each >= 1.0, _power_below(each), np.inf)
    batch = np.where(stated.decode_ranks > 1, ranked, np.where(_for_one_load(rows), own, alone))
    recipe = known_party & _tensorrt(rows) & (stated.stated > 0)
    return np.where(recipe, batch * parts, np.inf)


def _batch_of_ranks(each: Floats) -> Floats:
    """Return the sequences of one rank: 35 requests for each run 32 at a time, 55 run freely."""
    power = 2.0 ** np.floor(np.log2(np.maximum(each, 1.0)))
    over = each / power
    whole = (over > 1.0) & (over <= MOST_OVER_PLACES)
    half = 1.5 * power
    part = (half >= LEAST_ONE_AND_A_HALF) & (each > half)
    part &= each <= half * MOST_OVER_ONE_AND_A_HALF
    return np.where(whole, power, np.where(part, half, np.inf))


def _power_below(each: Floats) -> Floats:
    """Return the largest power of two below, at least one: 10 gives 8, 2 gives 1."""
    power = 2.0 ** np.floor(np.log2(np.maximum(each, 1.0)))
    return np.where((each == power) & (power > 1.0), power / 2.0, power)


def _for_one_load(rows: pd.DataFrame) -> Booleans:
    """Return whether a recipe of its own starts the servers of each load."""
    device = rows["device_name"].astype(str)
    fp8 = rows["precision"].astype(str).str.contains("fp8")
    found = device.str.contains("H100") | (device.str.contains("GB200") & fp8)
    return found.to_numpy(dtype=bool)


def _tensorrt(rows: pd.DataFrame) -> Booleans:
    return rows["engine"].astype(str).str.contains("trtllm").to_numpy(dtype=bool)
