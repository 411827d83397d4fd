"""Checks the optional columns in which a table says how its client sent requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB, GIGA
from budsim.performance.candidates import Integers
from budsim.performance.lengths import parse_lengths
from budsim.performance.limits import MOST_REQUESTS
from budsim.performance.traffic import parse_arrival

# Optional columns of text.
TEXTS = ("arrival", "length_law")
# Optional columns of numbers.
STORE = ("kv_store_gib", "kv_store_gb_per_s")
NUMBERS = ("prefix_hit_share", "prefix_set_tokens", "kv_offload_gib", "warmup", *STORE)
# Tokens a law of lengths is tried with; whether it can be read does not depend on them.
ANY_MEAN = 1_000

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
                problems[(text[name] == stated) & (problems == "")] = f"{name}: {error}"
    at_a_rate = text.arrival.map(is_steady) & numbers.concurrency.isna() & (problems == "")
    problems[at_a_rate] = f"arrival: {STEADY} is of requests in flight; expected a concurrency"
    for name in ("concurrency", "n_requests"):
        many = (numbers[name] > MOST_REQUESTS) & (problems == "")
        problems[many] = f"{name}: expected at most {MOST_REQUESTS:,} requests"
    outside = (numbers.prefix_hit_share > 1.0) & (problems == "")
    problems[outside] = "prefix_hit_share: expected a share from 0 to 1"
    nothing = (numbers.prefix_set_tokens > 0) & ~(numbers.prefix_hit_share > 0) & (problems == "")
    problems[nothing] = "prefix_set_tokens: is given without a prefix_hit_share above 0"
    unread = (numbers.kv_store_gib > 0) & ~(numbers.kv_store_gb_per_s > 0) & (problems == "")
    problems[unread] = "kv_store_gb_per_s: expected GB/s above 0 beside kv_store_gib"
    late = (numbers.warmup >= numbers.n_requests) & (problems == "")
    problems[late] = "warmup: expected fewer requests than n_requests"
