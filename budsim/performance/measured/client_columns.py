"""Checks the optional columns in which a table says how its client sent requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB, GIGA
from budsim.model_ops.architecture import Architecture
from budsim.performance.candidates import Integers
from budsim.performance.lengths import parse_lengths
from budsim.performance.limits import MOST_REQUESTS, MOST_TOKENS
from budsim.performance.measured.problems import mark
from budsim.performance.traffic import LEAST_RATE, MOST_RATE, parse_arrival

# Optional columns of text.
TEXTS = ("arrival", "length_law")
# Optional columns of numbers.
STORE = ("kv_store_gib", "kv_store_gb_per_s")
NUMBERS = ("prefix_hit_share", "prefix_set_tokens", "kv_offload_gib", "warmup", *STORE)
# Tokens a law of lengths is tried with; whether it can be read does not depend on them.
ANY_MEAN = 1_000
# Longest mean: laws of lengths reach up to twice theirs.
LONGEST_MEAN = MOST_TOKENS // 2

# What `arrival` says of requests in flight that come and go for long, without a first burst.
STEADY = "steady"


def is_steady(arrival: str) -> bool:
    """Return whether an ``arrival`` is that of a deployment which has run for long."""
    return arrival.strip().lower() == STEADY


def _read_arrival(text: str) -> None:
    if is_steady(text):
        return
    try:
        parse_arrival(text)
    except InvalidInput as error:
        expected = f"{error.expected}; {STEADY} for a concurrency without a burst"
        raise InvalidInput(error.field, error.problem, expected) from error


_READERS: Mapping[str, Callable[[str], object]] = {
    "arrival": _read_arrival,
    "length_law": lambda text: parse_lengths(text, ANY_MEAN),
}


def prefix_columns(numbers: pd.DataFrame, devices: Integers) -> dict[str, Any]:
    """Return the columns of `Candidates` about caches that may drop prefixes; None: none does.

    ``devices`` (n,) of a replica share the host memory its row states, and read equal parts of a
    store.
    """
    sets = numbers.prefix_set_tokens.fillna(0.0).to_numpy()
    if not sets.any():
        return {}
    host_bytes = numbers.kv_offload_gib.fillna(0.0).to_numpy() * GIB
    shared = numbers.prefix_hit_share.fillna(0.0).to_numpy()
    unshared = numbers.input_tokens.to_numpy() * (1.0 - shared) + numbers.output_tokens.to_numpy()
    return {
        "prefix_set_tokens": sets,
        "unshared_tokens": unshared,
        "tier_bytes": host_bytes / devices,
        **_store_columns(numbers, devices),
    }


def _store_columns(numbers: pd.DataFrame, devices: Integers) -> dict[str, Any]:
    capacity = numbers.kv_store_gib.fillna(0.0).to_numpy() * GIB
    if not capacity.any():
        return {}
    speed = numbers.kv_store_gb_per_s.fillna(0.0).to_numpy() * GIGA
    return {"store_bytes": capacity, "store_bytes_per_s": speed / devices}


def mark_unreadable(text: pd.DataFrame, numbers: pd.DataFrame, problems: pd.Series) -> None:
    """Write down which rows state a client that cannot be, and why."""
    for name, read in _READERS.items():
        for stated in text[name][text[name] != ""].unique():
            try:
                read(stated)
            except InvalidInput as error:
                mark(problems, text[name] == stated, f"{name}: {error}")
    _mark_loads(text, numbers, problems)
    _mark_counts(numbers, problems)
    _mark_prefixes(numbers, problems)


def _mark_loads(text: pd.DataFrame, numbers: pd.DataFrame, problems: pd.Series) -> None:
    rate, steady = numbers.request_rate, text.arrival.map(is_steady).astype(bool)
    both = "request_rate: is given beside a concurrency; expected one of both"
    mark(problems, numbers.concurrency.notna() & (rate > 0), both)
    absurd = ((rate < LEAST_RATE) | (rate > MOST_RATE)) & (rate > 0)
    limits = f"request_rate: expected {LEAST_RATE:g} to {MOST_RATE:,.0f} requests/s"
    mark(problems, absurd, limits)
    lacking = f"arrival: {STEADY} is of requests in flight; expected a concurrency"
    mark(problems, steady & numbers.concurrency.isna(), lacking)
    # Runs with requests in flight begin with a burst unless they are steady.
    in_flight = steady | text.arrival.str.strip().str.lower().isin(("", "burst"))
    of_rates = (
        f"arrival: says how requests of a request_rate come; expected burst, {STEADY} or none"
    )
    mark(problems, ~in_flight & rate.isna(), of_rates)


def _mark_counts(numbers: pd.DataFrame, problems: pd.Series) -> None:
    for name in ("n_requests", "warmup"):
        mark(problems, numbers[name] % 1 > 0, f"{name}: expected a whole number")
    for name in ("concurrency", "n_requests", "warmup"):
        most = f"{name}: expected at most {MOST_REQUESTS:,} requests"
        mark(problems, numbers[name] > MOST_REQUESTS, most)
    for name in ("input_tokens", "output_tokens"):
        most = f"{name}: expected at most {LONGEST_MEAN:,} tokens"
        mark(problems, numbers[name] > LONGEST_MEAN, most)
    late = numbers.warmup >= numbers.n_requests
    mark(problems, late, "warmup: expected fewer requests than n_requests")


def mark_unkept_prefixes(
    numbers: pd.DataFrame, models: Sequence[Architecture | None], problems: pd.Series
) -> None:
    """Write into ``problems`` which rows find prefixes that no server of their model keeps.

    Only rows without a problem have a model for certain.
    """
    for row in np.flatnonzero((numbers.prefix_hit_share > 0) & (problems == "")).tolist():
        model = models[row]
        if model is not None and model.reads_encoder:
            none = "prefix_hit_share: servers of the model keep no prefixes; expected 0"
            problems.iloc[row] = none


def _mark_prefixes(numbers: pd.DataFrame, problems: pd.Series) -> None:
    share = numbers.prefix_hit_share
    mark(problems, share > 1.0, "prefix_hit_share: expected a share from 0 to 1")
    nothing = (numbers.prefix_set_tokens > 0) & ~(share > 0)
    mark(problems, nothing, "prefix_set_tokens: is given without a prefix_hit_share above 0")
    unread = (numbers.kv_store_gib > 0) & ~(numbers.kv_store_gb_per_s > 0)
    mark(problems, unread, "kv_store_gb_per_s: expected GB/s above 0 beside kv_store_gib")
