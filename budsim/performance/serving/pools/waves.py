"""A benchmark's run through both pools: all requests in flight start at once, wave after wave."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.physics.ranks import Ranks
from budsim.performance.serving.pools.pool_times import (
    Pools,
    PoolTimes,
    decode_ranks,
    pool_times,
    token_time,
)
from budsim.performance.serving.pools.queues import AWAITED_STEPS, steady_pools

# Rounds in which the time of a token and the load of the decode workers settle.
ROUNDS = 3

# Requests that each client of the run sends one after another.
WAVES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRuns:
    """What finite runs saw; arrays of shape (n,), seconds, and tokens per second of all workers."""

    ttft_mean: Floats
    ttft_p50: Floats
    ttft_p99: Floats
    tpot_s: Floats
    e2e_mean: Floats
    e2e_p50: Floats
    e2e_p99: Floats
    output_tokens_per_s: Floats
    running: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's deployment.

    ``prompt_s`` is a worker's time for a prompt of mean length, ``more_s`` what follows until the
    first token, ``token_s`` the time of a token. ``places`` decode at a time.
    """

    clients: int
    workers: int
    prompt_s: float
    more_s: float
    token_s: float
    places: int
    outputs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """Seconds of each request: to its first token, decoding, in all; and of the whole run."""

    ttft_s: Floats
    decode_s: Floats
    e2e_s: Floats
    end_s: float


def run_pools(pools: Pools, shares: tuple[float, float], seed: int = 0) -> PoolRuns:
    """Return what a benchmark's run sees of each deployment.

    ``shares`` of the mean are the least and the longest of prompts and outputs, uniform between.
    """
    times, decode = pool_times(pools), decode_ranks(pools.decode)
    steady = steady_pools(pools, times)
    running, times = steady.running, replace(times, transfer_s=steady.transfer_s)
    figures = np.zeros((len(pools), 8))
    for _ in range(ROUNDS):
        token = token_time(decode, running / pools.decode_workers)
        for row in range(len(pools)):
            run = _run_of(pools, times, float(token[row]), row)
            figures[row] = _figures(run, serve_waves(run, shares, seed))
        running = (running + np.minimum(figures[:, -1], times.places)) / 2.0
    return PoolRuns(
        ttft_mean=figures[:, 0],
        ttft_p50=figures[:, 1],
        ttft_p99=figures[:, 2],
        tpot_s=_last_token_time(decode, pools, figures),
        e2e_mean=figures[:, 3],
        e2e_p50=figures[:, 4],
        e2e_p99=figures[:, 5],
        output_tokens_per_s=figures[:, 6],
        running=running,
    )


def _last_token_time(decode: Ranks, pools: Pools, figures: Floats) -> Floats:
    return token_time(decode, figures[:, -1] / pools.decode_workers)


def _run_of(pools: Pools, times: PoolTimes, token_s: float, row: int) -> Run:
    step = token_s * float(pools.decode.tokens_per_step[row])
    lone = max(float(times.lone_prompt_s[row] - times.prompt_s[row]), 0.0)
    return Run(
        clients=max(round(float(pools.concurrency[row])), 1),
        workers=max(int(pools.prefill_workers[row]), 1),
        prompt_s=float(times.prompt_s[row]),
        more_s=lone + float(times.transfer_s[row]) + AWAITED_STEPS * step,
        token_s=token_s,
        places=max(int(times.places[row]), 1),
        outputs=float(pools.decode.output_tokens[row]),
    )


def serve_waves(run: Run, shares: tuple[float, float], seed: int = 0) -> RunTimes:
    """Return the times of every request: each client sends its next when the last is answered.

    Prefill workers take requests in turn, in the order they were sent. A request decodes as soon
    as it is transferred and has a place.
    """
    drawn = np.random.default_rng(seed).uniform(*shares, (2, WAVES, run.clients))
    send, free = np.zeros(run.clients), np.zeros(run.workers)
    held = np.zeros(min(run.places, run.clients))
    waves = []
    for prompts, outputs in zip(drawn[0], drawn[1], strict=True):
        order = np.argsort(send, kind="stable")
        sent = send[order]
        done, free = prefilled(sent, prompts * run.prompt_s, free)
        decoding = np.maximum(outputs * run.outputs - 1.0, 0.0) * run.token_s
        start, held = placed(done + run.more_s, decoding, held)
        send = start + decoding
        waves.append((start - sent, decoding, send - sent))
    ttft, decode, e2e = (np.concatenate(each) for each in zip(*waves, strict=True))
    return RunTimes(ttft_s=ttft, decode_s=decode, e2e_s=e2e, end_s=float(send.max()))


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


def _figures(run: Run, times: RunTimes) -> Floats:
    """Return TTFT (mean, p50, p99), E2E (mean, p50, p99), tokens/s and sequences that decode.

    The first wave finds nobody decoding, so that the load is that of all later ones.
    """
    ttft, e2e = times.ttft_s, times.e2e_s
    later = slice(run.clients, None)
    running = run.clients * times.decode_s[later].sum() / max(e2e[later].sum(), 1e-9)
    tokens = len(ttft) * run.outputs / max(times.end_s, 1e-9)
    return np.array(
        [
            ttft.mean(),
            *np.quantile(ttft, (0.5, 0.99)),
            e2e.mean(),
            *np.quantile(e2e, (0.5, 0.99)),
            tokens,
            running,
        ]
    )
