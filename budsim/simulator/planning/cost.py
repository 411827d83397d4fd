"""What a deployment costs.

Per hour from the devices it takes, per million tokens from what it delivers.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from budsim.commons.units import MEGA, SECONDS_PER_HOUR
from budsim.performance.candidates import Floats, Integers

# What a pipeline of two stages has to save to come before a simpler deployment; chosen by us: its
# bubbles are not predicted.
PIPELINE: Final = 0.15


def pipeline_effort(stages: Integers) -> Floats:
    """Return by what factor the cost of pipelines of so many stages counts, (n,); 1 without."""
    return np.asarray(1.0 + PIPELINE * np.log2(stages))


def usd_per_h(
    devices: Integers | int, price_usd_per_h: Floats | float, share: Floats | float = 1.0
) -> Floats:
    """Return what ``devices`` cost per hour, USD.

    ``devices`` counts those of all replicas (replicas x TP x PP), each once; ``price_usd_per_h`` is
    one whole device's; ``share`` (0..1] is what time-slicing leaves us of each.
    """
    return np.asarray(devices * np.asarray(price_usd_per_h, dtype=np.float64) * share)


def usd_per_million_tokens(cost_usd_per_h: Floats | float, tokens_per_s: Floats | float) -> Floats:
    """Return the cost of a million tokens, USD, infinite where none come out.

    Both figures must be of the same devices: a whole deployment's cost over a whole deployment's
    throughput, so that replicas count once on each side.
    """
    per_hour = np.asarray(tokens_per_s, dtype=np.float64) * SECONDS_PER_HOUR
    flowing = per_hour > 0
    return np.where(
        flowing, np.asarray(cost_usd_per_h) / np.where(flowing, per_hour, 1.0) * MEGA, np.inf
    )
