"""Checks the optional columns in which a table says how its client sent requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.performance.lengths import parse_lengths
from budsim.performance.traffic import parse_arrival

# Optional columns of text.
TEXTS = ("arrival", "length_law")
# Optional columns of numbers.
NUMBERS = ("prefix_hit_share", "warmup")
# Tokens a law of lengths is tried with; whether it can be read does not depend on them.
ANY_MEAN = 1_000

_READERS: Mapping[str, Callable[[str], object]] = {
    "arrival": parse_arrival,
    "length_law": lambda text: parse_lengths(text, ANY_MEAN),
}


def mark_unreadable(text: pd.DataFrame, numbers: pd.DataFrame, problems: pd.Series) -> None:
    """Write down which rows state a client that cannot be, and why."""
    for name, read in _READERS.items():
        for stated in text[name][text[name] != ""].unique():
            try:
                read(stated)
            except InvalidInput as error:
                problems[(text[name] == stated) & (problems == "")] = f"{name}: {error}"
    outside = (numbers.prefix_hit_share > 1.0) & (problems == "")
    problems[outside] = "prefix_hit_share: expected a share from 0 to 1"
    late = (numbers.warmup >= numbers.n_requests) & (problems == "")
    problems[late] = "warmup: expected fewer requests than n_requests"
