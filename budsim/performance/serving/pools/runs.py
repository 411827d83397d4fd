"""A benchmark's run through both pools, event by event."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush, heapreplace

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.serving.pools.pool_times import (
    Pools,
    PoolTimes,
    PrefillBatches,
    decode_ranks,
    pool_times,
    prefill_batches,
    token_time,
)
from budsim.performance.serving.pools.queues import AWAITED_STEPS, steady_pools

# Rounds in which the time of a token and the load of the decode workers settle.
ROUNDS = 2

# Requests of the run for each one in flight: InferenceX sends ten.
REQUESTS_EACH = 10

# More clients are replayed as this many, each of which stands for several: TTFT then differs by
# 1 %, up to 3 % at 15,000 (40 runs compared).
MOST_CLIENTS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRuns:
    """What finite runs saw; arrays of shape (n,), seconds, and tokens per second of all workers.

    ``running`` are sequences that decode, ``prefill_busy`` the share of their time (0..1) that
    prefill workers read, and ``idle_s`` TTFT where nobody waits for a worker or a place.
    """

    ttft_mean: Floats
    ttft_p50: Floats
    ttft_p99: Floats
    tpot_s: Floats
    e2e_mean: Floats
    e2e_p50: Floats
    e2e_p99: Floats
    output_tokens_per_s: Floats
    running: Floats
    prefill_busy: Floats
    idle_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Factors on the seconds of prefill and on the time between tokens; arrays of shape (n,)."""

    prefill: Floats
    token: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's deployment.

    A prefill worker takes ``batch_s`` for a batch and ``prompt_s`` for each of its prompts of mean
    length, at most ``most_prompts`` of them. ``more_s`` follows until the first token, ``token_s``
    is the time between tokens. ``places`` decode at a time on each of the ``decode_workers``.
    """

    clients: int
    workers: int
    batch_s: float
    prompt_s: float
    most_prompts: int
    more_s: float
    token_s: float
    decode_workers: int
    places: int
    outputs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """Seconds of each request: to its first token and decoding; and of the whole run."""

    ttft_s: Floats
    decode_s: Floats
    end_s: float

    @property
    def e2e_s(self) -> Floats:
        """From sending to the last token."""
        return self.ttft_s + self.decode_s


def run_pools(
    pools: Pools, shares: tuple[float, float], speeds: Speeds | None = None, seed: int = 0
) -> PoolRuns:
    """Return what a benchmark's run sees of each deployment.

    ``shares`` of the mean are the least and the longest of prompts and outputs, uniform between.
    """
    known, decode, batches = pool_times(pools), decode_ranks(pools.decode), _batches(pools, speeds)
    token_factor = 1.0 if speeds is None else speeds.token
    steady = steady_pools(
        pools, replace(known, prompt_s=batches.prompt_s, lone_prompt_s=batches.lone_s)
    )
    running, known = steady.running, replace(known, transfer_s=steady.transfer_s)
    figures = np.zeros((len(pools), 8))
    for _ in range(ROUNDS):
        token = token_time(decode, running / pools.decode_workers) * token_factor
        for row in range(len(pools)):
            run = _run_of(pools, known, batches, float(token[row]), row)
            figures[row] = _figures(run, serve_run(run, shares, seed))
        running = (running + np.minimum(figures[:, -1], known.places)) / 2.0
    prompts_per_s = figures[:, 6] / pools.decode.output_tokens
    return PoolRuns(
        ttft_mean=figures[:, 0],
        ttft_p50=figures[:, 1],
        ttft_p99=figures[:, 2],
        tpot_s=token_time(decode, figures[:, -1] / pools.decode_workers) * token_factor,
        e2e_mean=figures[:, 3],
        e2e_p50=figures[:, 4],
        e2e_p99=figures[:, 5],
        output_tokens_per_s=figures[:, 6],
        running=running,
        prefill_busy=np.minimum(prompts_per_s * batches.prompt_s / pools.prefill_workers, 1.0),
        idle_s=batches.lone_s + known.transfer_s,
    )


def serve_run(run: Run, shares: tuple[float, float], seed: int = 0) -> RunTimes:
    """Return the times of every request: the next is sent when one is answered.

    A prefill worker reads what waits for it as one batch; requests go to the workers in turn, and
    so they do to decode workers, whose places they wait for.
    """
    several = max(run.clients / MOST_CLIENTS, 1.0)
    clients = round(run.clients / several)
    count = clients * REQUESTS_EACH
    draw = np.random.default_rng(seed)
    prompts = draw.uniform(*shares, count) * run.prompt_s * several
    decoding = np.maximum(draw.uniform(*shares, count) * run.outputs - 1.0, 0.0) * run.token_s
    state = _State(
        run=run,
        prompts=prompts.tolist(),
        decoding=decoding.tolist(),
        most=max(int(run.most_prompts / several), 1),
        places=max(round(run.places / several), 1),
        free_clients=[0.0] * clients,
    )
    while state.answered < count:
        state.step()
    return RunTimes(
        ttft_s=np.array(state.first) - np.array(state.sent),
        decode_s=decoding,
        end_s=max(state.free_clients),
    )


@dataclass(slots=True, kw_only=True)
class _State:
    """A run at one moment. ``starts`` is when each worker's next batch begins, inf for none."""

    run: Run
    prompts: list[float]
    decoding: list[float]
    most: int
    places: int
    free_clients: list[float]
    starts: list[float] = field(init=False)
    free: list[float] = field(init=False)
    waiting: list[list[int]] = field(init=False)
    held: list[list[float]] = field(init=False)
    sent: list[float] = field(default_factory=list)
    first: list[float] = field(init=False)
    placed: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        """Start with idle workers and free places."""
        self.starts = [float("inf")] * self.run.workers
        self.free = [0.0] * self.run.workers
        self.waiting = [[] for _ in range(self.run.workers)]
        places = min(self.places, len(self.free_clients))
        self.held = [[0.0] * places for _ in range(self.run.decode_workers)]
        self.first = [0.0] * len(self.prompts)

    def step(self) -> None:
        """Read the next batch, or send the next request, whichever is sooner."""
        worker = min(range(len(self.starts)), key=self.starts.__getitem__)
        is_over = len(self.sent) == len(self.prompts) or not self.free_clients
        if is_over or self.starts[worker] < self.free_clients[0]:
            self._read(worker)
        else:
            self._send(heappop(self.free_clients))

    def _send(self, now: float) -> None:
        request, worker = len(self.sent), len(self.sent) % len(self.starts)
        self.sent.append(now)
        if not self.waiting[worker]:
            self.starts[worker] = max(now, self.free[worker])
        self.waiting[worker].append(request)

    def _read(self, worker: int) -> None:
        batch = self.waiting[worker][: self.most]
        del self.waiting[worker][: self.most]
        done = self.starts[worker] + self.run.batch_s
        for request in batch:
            done += self.prompts[request]
        self.free[worker] = done
        self.starts[worker] = done if self.waiting[worker] else float("inf")
        for request in batch:
            self._decode(request, done + self.run.more_s)

    def _decode(self, request: int, ready: float) -> None:
        held = self.held[self.placed % len(self.held)]
        self.placed += 1
        self.answered += 1
        start = max(ready, held[0])
        heapreplace(held, start + self.decoding[request])
        self.first[request] = start
        heappush(self.free_clients, start + self.decoding[request])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batches:
    """Prefill workers as a run meets them, with the factor on their seconds; (n,)."""

    batch_s: Floats
    each_s: Floats
    most: Floats
    prompt_s: Floats
    lone_s: Floats


def _batches(pools: Pools, speeds: Speeds | None) -> _Batches:
    found: PrefillBatches = prefill_batches(pools.prefill)
    factor = np.ones(len(pools)) if speeds is None else speeds.prefill
    return _Batches(
        batch_s=found.batch_s * factor,
        each_s=found.each_s * factor,
        most=found.most,
        prompt_s=(found.batch_s / found.most + found.each_s) * factor,
        lone_s=(found.batch_s + found.each_s) * factor,
    )


def _run_of(pools: Pools, times: PoolTimes, batches: _Batches, token_s: float, row: int) -> Run:
    step = token_s * float(pools.decode.tokens_per_step[row])
    workers = max(int(pools.decode_workers[row]), 1)
    return Run(
        clients=max(round(float(pools.concurrency[row])), 1),
        workers=max(int(pools.prefill_workers[row]), 1),
        batch_s=float(batches.batch_s[row]),
        prompt_s=float(batches.each_s[row]),
        most_prompts=int(batches.most[row]),
        more_s=float(times.transfer_s[row]) + AWAITED_STEPS * step,
        token_s=token_s,
        decode_workers=workers,
        places=max(int(times.places[row]) // workers, 1),
        outputs=float(pools.decode.output_tokens[row]),
    )


def _figures(run: Run, times: RunTimes) -> Floats:
    """Return TTFT (mean, p50, p99), E2E (mean, p50, p99), tokens/s and sequences that decode.

    The first requests find nobody decoding, so that the load is that of all later ones.
    """
    ttft, e2e = times.ttft_s, times.e2e_s
    later = slice(len(ttft) // REQUESTS_EACH, None)
    running = run.clients * times.decode_s[later].sum() / max(e2e[later].sum(), 1e-9)
    tokens = run.clients * REQUESTS_EACH * run.outputs / max(times.end_s, 1e-9)
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
