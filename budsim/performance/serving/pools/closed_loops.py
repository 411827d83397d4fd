"""Closed loops through two pools: each client sends a request when its last one is answered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.lengths import FixedLength
from budsim.performance.prefixes import PrefixSet, PrefixShare
from budsim.performance.serving.arrivals import draw_requests
from budsim.performance.serving.pools.pool_replay import table_of
from budsim.performance.serving.pools.pool_times import Pools, PoolTimes
from budsim.performance.serving.pools.queues import TokenTimes
from budsim.performance.serving.pools.runs import (
    CLIENT_LENGTHS,
    KnownLengths,
    Lengths,
    PoolRuns,
    RunTimes,
    run_pools,
)
from budsim.performance.serving.replay.answers import Limits, ReplayedService, Spread
from budsim.performance.serving.replay.summary import spread
from budsim.performance.traffic import ClosedLoop, Start, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedLoops:
    """Deployments under closed loops: what their requests saw, and the runs that say so."""

    service: ReplayedService
    runs: PoolRuns


def replay_loops(
    pools: Pools,
    times: PoolTimes,
    token_s: TokenTimes,
    traffic: Traffic,
    *,
    limits: Limits | None = None,
    seed: int = 0,
) -> ReplayedLoops:
    """Replay a closed loop through each deployment, one a row; all of them carry it.

    Requests of equal lengths differ as those of a benchmark's client do: exactly equal ones that
    follow each other would never meet, or always.
    """
    arrivals = traffic.arrivals
    steady = isinstance(arrivals, ClosedLoop) and arrivals.start is Start.STEADY
    runs = run_pools(
        pools,
        lengths_of(traffic, seed),
        steady=np.full(len(pools), steady),
        known=times,
        token_s=token_s,
        seed=seed,
    )
    rows = [
        _figures(pools, times, runs, each, limits or Limits(), row)
        for row, each in enumerate(runs.requests)
    ]
    return ReplayedLoops(service=table_of(rows), runs=runs)


def lengths_of(traffic: Traffic, seed: int = 0) -> Lengths:
    """Return the lengths of a closed loop's requests, of prompts without what caches hold."""
    equal = isinstance(traffic.prompt, FixedLength) and isinstance(traffic.output, FixedLength)
    if equal and isinstance(traffic.prefix, PrefixShare | PrefixSet):
        return CLIENT_LENGTHS
    # Of a steady loop the first outputs would be drawn as partly served.
    at_once = ClosedLoop(concurrency=traffic.concurrency, start=Start.AT_ONCE)
    requests = draw_requests(replace(traffic, arrivals=at_once), seed)
    fresh = np.maximum(requests.prompt_tokens - requests.reused_tokens, 1.0)
    outputs = np.maximum(requests.output_tokens, 1.0)
    return KnownLengths(prompts=fresh / fresh.mean(), outputs=outputs / outputs.mean())


def _figures(
    pools: Pools, times: PoolTimes, runs: PoolRuns, seen: RunTimes, limits: Limits, row: int
) -> dict[str, Any]:
    """Return one row of the answer by the names of `ReplayedService`.

    All tokens of a run come at one speed, that of its mean load, and outputs have the mean length
    that was asked for.
    """
    token_s, further = float(runs.tpot_s[row]), float(pools.decode.output_tokens[row]) - 1.0
    tokens = seen.tokens * (further / max(float(seen.tokens.mean()), 1e-9))
    ttft, e2e = seen.ttft_s, seen.ttft_s + tokens * token_s
    good = (ttft <= limits.ttft_s) & (e2e <= limits.e2e_s)
    good_share = float(good.mean()) if token_s <= limits.itl_s else 0.0
    per_s = float(pools.concurrency[row]) / max(float(e2e.mean()), 1e-9)
    running = per_s * float(tokens.mean()) * token_s
    alike = Spread(mean=token_s, p50=token_s, p90=token_s, p95=token_s, p99=token_s)
    busy = per_s * _prompt_s(times, row) / float(pools.prefill_workers[row])
    return {
        "stable": True,
        "rate": np.nan,
        "largest_stable_rate": np.nan,
        "ttft_s": spread(ttft),
        "itl_s": alike,
        "tpot_s": alike,
        "e2e_s": spread(e2e),
        "requests_per_s": per_s,
        "output_tokens_per_s": per_s * float(pools.decode.output_tokens[row]),
        "good_share": good_share,
        "good_requests_per_s": per_s * good_share,
        "running": running,
        "waiting": per_s * float(ttft.mean()),
        "cache_share": min(running / float(times.places[row]), 1.0),
        "utilisation": min(busy, 1.0),
    }


def _prompt_s(times: PoolTimes, row: int) -> float:
    """Return seconds of a worker that each of many prompts takes."""
    batches: Floats = times.batches.batch_s / times.batches.most + times.batches.each_s
    return float(batches[row])
