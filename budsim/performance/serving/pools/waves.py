"""Prompts and sequences of a wave of requests at once: who waits for a worker, who for a place."""

from __future__ import annotations

import numpy as np

from budsim.performance.candidates import Floats


def prefilled(sent: Floats, service: Floats, free: Floats) -> tuple[Floats, Floats]:
    """Return when each request is read, and when each worker is free again.

    Lindley's recursion for all requests of a worker at once: with c the sum of service so far, a
    request is done at c plus the largest ``sent - c`` of those before and its own.
    """
    workers, requests = len(free), len(sent)
    turns = -(-requests // workers)
    spare = turns * workers - requests
    arrive = np.concatenate([sent, np.full(spare, sent[-1])]).reshape(turns, workers).T.copy()
    takes = np.concatenate([service, np.zeros(spare)]).reshape(turns, workers).T
    arrive[:, 0] = np.maximum(arrive[:, 0], free)
    so_far = np.cumsum(takes, axis=1)
    done = np.maximum.accumulate(arrive - (so_far - takes), axis=1) + so_far
    return done.T.reshape(-1)[:requests], done[:, -1]


def placed(ready: Floats, decoding: Floats, held: Floats) -> tuple[Floats, Floats]:
    """Return when each request begins to decode, and until when each place is held.

    As many requests at a time as there are places take those that are free first.
    """
    order, start = np.argsort(ready, kind="stable"), np.empty_like(ready)
    for first in range(0, len(order), len(held)):
        some = order[first : first + len(held)]
        start[some] = np.maximum(ready[some], held[: len(some)])
        ends = start[some] + decoding[some]
        held = np.sort(np.concatenate([held[len(some) :], ends]))
    return start, held
