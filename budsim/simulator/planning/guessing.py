"""Which replicas guess tokens ahead, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, rows_of
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.speculation import PLAIN, Speculation
from budsim.simulator.planning.targets import Targets, figures_of

# Latency of a request with guesses over that without, above which they are not worth their flags.
LEAST_GAIN: Final = 0.98
# Hardware on which engines guess tokens ahead.
GUESSING_KINDS: Final = frozenset({DeviceKind.CUDA, DeviceKind.ROCM})


def guessing_where_it_gains(
    plain: Candidates, ways: Sequence[Speculation], targets: Targets | None = None
) -> Candidates:
    """Return the rows, each guessing in the way that ends its requests first, or not at all.

    A step that verifies guesses is longer, and guesses take places in the cache: with many
    sequences, or few right guesses, a step yields too few tokens for that. Guesses that make a row
    miss ``targets`` are not made. Engines refuse guesses in pipelines, and have them on GPUs only
    (vLLM 0.32 ``VllmConfig``, SGLang 0.5.23 ``ServerArgs``).
    """
    may = (plain.by_device([each.kind in GUESSING_KINDS for each in plain.devices]) > 0) & (
        plain.pp == 1
    )
    if not may.any():
        return plain
    possible = np.flatnonzero(may)
    chosen = np.zeros(len(plain), dtype=np.int64)
    chosen[possible] = _best_ways(rows_of(plain, possible), ways, targets or Targets())
    if not chosen.any():
        return plain
    return replace(plain, speculations=(PLAIN, *ways), speculation=chosen)


def _best_ways(plain: Candidates, ways: Sequence[Speculation], targets: Targets) -> Floats:
    """Return the best way of each row, 0 for none, from one prediction of all rows in all ways."""
    rows, count = len(plain), len(ways) + 1
    every = replace(
        rows_of(plain, np.tile(np.arange(rows), count)),
        speculations=(PLAIN, *ways),
        speculation=np.repeat(np.arange(count), rows),
    )
    memory, found = AnalyticPredictor().predict(every)
    figures = figures_of(found.service)
    missed: Booleans = targets.ratios(figures).max(axis=0, initial=0.0) > 1.0
    latency = np.where(memory.fits, found.service.e2e_s, np.inf).reshape(count, rows)
    latency[0] = latency[0] * LEAST_GAIN
    order = np.lexsort((latency, missed.reshape(count, rows)), axis=0)
    return np.asarray(order[0])
