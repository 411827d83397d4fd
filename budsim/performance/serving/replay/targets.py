"""The largest rate at which a replica still serves well enough."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from budsim.performance.candidates import Booleans, Candidates, Floats
from budsim.performance.predictions import MemoryUse
from budsim.performance.serving.replay.answers import Limits, ReplayedService
from budsim.performance.serving.replay.replay import Factors, replicas_of, serve
from budsim.performance.serving.replay.scheduling import USUAL_FRONT_END, FrontEnd
from budsim.performance.traffic import Traffic

# Halvings of the range of rates: on a logarithmic scale nine leave 1.4 % of three decades.
ROUNDS = 9
# The lowest rate tried, relative to the largest stable one.
LOWEST_SHARE = 1e-3
# The highest rate tried: at the largest stable one the queue never ends.
HIGHEST_SHARE = 0.995


def largest_rates(
    candidates: Candidates,
    memory: MemoryUse,
    traffic: Traffic,
    accepts: Callable[[ReplayedService], Booleans],
    *,
    limits: Limits | None = None,
    factors: Factors | None = None,
    front_end: FrontEnd = USUAL_FRONT_END,
    seed: int = 0,
) -> Floats:
    """Return the largest rate of one replica that is accepted, by bisection.

    Parameters
    ----------
    candidates, memory, limits, factors, front_end, seed
        As `replay` takes them.
    traffic : Traffic
        An open loop or a trace; its own rate does not matter.
    accepts : function of ReplayedService
        Which rows serve well enough, shape (n,). It must not accept a rate and refuse a lower one.

    Returns
    -------
    float array, shape (n,)
        Requests per second; 0 where not even a thousandth of the largest stable rate is accepted.

    Raises
    ------
    InvalidInput
        When the traffic is a closed loop.
    """
    replicas = replicas_of(candidates, memory, factors=factors, front_end=front_end)
    bounds = limits or Limits()
    slow = [traffic.at(LOWEST_SHARE)] * len(replicas)
    stable = serve(replicas, slow, limits=bounds, seed=seed).largest_stable_rate
    served = np.flatnonzero(stable > 0.0)
    found = np.zeros(len(replicas))
    if not len(served):
        return found
    chosen, most = [replicas[row] for row in served], stable[served]

    def accepted(shares: Floats) -> Booleans:
        """Return which replicas meet the targets at these shares of their largest stable rate."""
        each = [traffic.at(float(rate)) for rate in shares * most]
        service = serve(chosen, each, limits=bounds, seed=seed, largest=most)
        return service.stable & accepts(service)

    found[served] = most * _largest_share(accepted, len(served))
    return found


def _largest_share(accepted: Callable[[Floats], Booleans], rows: int) -> Floats:
    """Return the largest accepted share of the stable rate for each row, 0 where none is."""
    highest, lowest = np.full(rows, HIGHEST_SHARE), np.full(rows, LOWEST_SHARE)
    best = np.where(accepted(highest), highest, 0.0)
    best = np.where(best > 0.0, best, np.where(accepted(lowest), lowest, 0.0))
    open_rows = (best > 0.0) & (best < HIGHEST_SHARE)
    refused = np.where(open_rows, highest, best)
    for _ in range(ROUNDS if open_rows.any() else 0):
        tried = np.where(open_rows, np.sqrt(best * refused), lowest)
        fine = accepted(tried)
        best = np.where(open_rows & fine, tried, best)
        refused = np.where(open_rows & ~fine, tried, refused)
    return best
