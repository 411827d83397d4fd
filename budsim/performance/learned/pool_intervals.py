"""How sure predictions of disaggregated deployments are, for questions nobody measured."""

from __future__ import annotations

import numpy as np

from budsim.performance.candidates import Candidates, Floats
from budsim.performance.learned.intervals import COVERAGES, reciprocal, widened
from budsim.performance.predictions import BOUNDS, Interval, Predictions, Service
from budsim.performance.serving.pools.pool_times import Pools
from budsim.performance.serving.pools.queues import PoolService

# Share of their time that prefill workers work, from which on TTFT is often a queue, and from which
# on they are full and it is one.
LOADED, FULL = 0.4, 0.95

# Ends of the intervals of log(measured / modelled) by coverage, of runs modelled as they were made.
# Quantiles over the 907 rows of InferenceX whose workers are known: of these, in a loop that has
# run for long, 385 are below `LOADED`, 263 up to `FULL`, 259 above (scripts/fit_pools.py).
TTFT_IDLE = {0.8: (-0.29, 1.00), 0.9: (-0.52, 1.47)}
TTFT_LOADED = {0.8: (-0.99, 1.32), 0.9: (-1.19, 2.10)}
TTFT_FULL = {0.8: (-2.15, 0.56), 0.9: (-2.68, 0.95)}
TPOT = {0.8: (-0.27, 0.53), 0.9: (-0.36, 0.70)}


def pool_predictions(
    pools: Pools, served: PoolService, time_s: Floats | None = None
) -> Predictions:
    """Return the service of disaggregated deployments, one a row, with its intervals.

    Parameters
    ----------
    pools, served
        The deployments, and what physics says of them; no regressor corrects it.
    time_s : float array, shape (len(`BOUNDS`), n), optional
        Where a request's time goes; a search does not ask.
    """
    decode, rows = pools.decode, len(pools)
    further = np.maximum(decode.output_tokens - 1.0, 0.0)
    ttft, tpot, whole = {}, {}, {}
    for coverage in COVERAGES:
        ttft[coverage] = _ttft(served, coverage)
        tpot[coverage] = widened(
            _around(served.tpot_s, *TPOT[coverage]), served.tpot_s, _guessing(decode)
        )
        whole[coverage] = Interval(
            low=ttft[coverage].low + further * tpot[coverage].low,
            high=ttft[coverage].high + further * tpot[coverage].high,
        )
    return Predictions(
        service=Service(
            ttft_s=served.ttft_s,
            tpot_s=served.tpot_s,
            output_tokens=decode.output_tokens,
            concurrency=pools.concurrency,
        ),
        ttft_s=ttft,
        tpot_s=tpot,
        e2e_s=whole,
        tokens_per_s_per_user={coverage: reciprocal(each) for coverage, each in tpot.items()},
        learned=np.zeros(rows, dtype=bool),
        in_range=np.zeros(rows, dtype=bool),
        measured=np.zeros(rows, dtype=bool),
        time_s=np.ones((len(BOUNDS), rows)) if time_s is None else time_s,
    )


def _ttft(served: PoolService, coverage: float) -> Interval:
    busy = served.prefill_busy
    low, high = (
        np.select(
            [busy < LOADED, busy < FULL],
            [TTFT_IDLE[coverage][side], TTFT_LOADED[coverage][side]],
            TTFT_FULL[coverage][side],
        )
        for side in (0, 1)
    )
    found = _around(served.ttft_s, low, high)
    # However wrong a queue is, no prompt is read sooner than by an idle worker.
    idle = served.prefill_s + served.transfer_s
    least = idle * np.exp(TTFT_IDLE[coverage][0])
    return Interval(low=np.minimum(np.maximum(found.low, least), served.ttft_s), high=found.high)


def _around(value: Floats, low: Floats | float, high: Floats | float) -> Interval:
    return Interval(low=value * np.exp(low), high=value * np.exp(high))


def _guessing(table: Candidates) -> Floats:
    """Return how unsure the tokens are that a step yields, log half width of 90 %, (n,)."""
    if table.speculation is None:
        return np.zeros(len(table))
    return table.by_speculation([each.spread for each in table.speculations])
