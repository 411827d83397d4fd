"""Open loops as closed ones: the concurrency at which a replica serves a request rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from budsim.performance.candidates import rows_of
from budsim.performance.measured.measurements import Measurements
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.steady_state import steady_state

# Rounds of the fixed point; it settles to a per mille in about eight.
ROUNDS = 12


def settle(measurements: Measurements) -> Measurements:
    """Give rows with a request rate the mean concurrency that follows from Little's law.

    A damped fixed point. Beyond saturation the queue would grow without end; the engine's
    ``max_num_seqs`` bounds it.
    """
    if not measurements.open_loop.any():
        return measurements
    at = np.flatnonzero(measurements.open_loop)
    table = rows_of(measurements.candidates, at)
    rate = measurements.request_rate[at] / measurements.replicas[at]
    concurrency = np.ones(len(at))
    for _ in range(ROUNDS):
        table = replace(table, concurrency=concurrency)
        ranks = prepare(table)
        modelled = steady_state(ranks, memory_use(ranks))
        latency = modelled.ttft_s + table.output_tokens * modelled.tpot_s
        wanted = np.clip(rate * latency, 0.01, table.max_num_seqs)
        concurrency = np.sqrt(concurrency * wanted)
    settled = measurements.candidates.concurrency.copy()
    settled[at] = concurrency
    return replace(measurements, candidates=replace(measurements.candidates, concurrency=settled))
