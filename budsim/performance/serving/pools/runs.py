"""A closed loop through both pools, event by event: a benchmark's run, or one that is steady."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from budsim.commons.errors import Unavailable
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.serving.pools.pool_times import (
    Pools,
    PoolTimes,
    PrefillBatches,
    pool_times,
)
from budsim.performance.serving.pools.queues import (
    AWAITED_STEPS,
    TokenTimes,
    steady_pools,
    token_times,
)
from budsim.performance.serving.replay import native

# Rounds in which the time of a token and the load of the decode workers settle.
ROUNDS = 2

# Requests of the run for each one in flight: InferenceX sends ten.
REQUESTS_EACH = 10
# First turns of a steady loop that are left out: those of the first are cut short.
TURNS_LEFT_OUT = 2

# More clients are replayed as this many, each of which stands for several: TTFT then differs by
# 1 %, up to 3 % at 15,000 (40 runs compared).
MOST_CLIENTS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRuns:
    """What finite runs saw; arrays of shape (n,), seconds, and tokens per second of all workers.

    ``running`` are sequences that decode, ``prefill_busy`` the share of their time (0..1) that
    prefill workers read, and ``idle_s`` TTFT where nobody waits for a worker or a place.
    ``requests`` are those of each run, ``transfer_s`` is what the cache of a prompt takes.
    """

    ttft_mean: Floats
    ttft_p50: Floats
    ttft_p99: Floats
    tpot_s: Floats
    output_tokens_per_s: Floats
    running: Floats
    prefill_busy: Floats
    idle_s: Floats
    transfer_s: Floats
    requests: tuple[RunTimes, ...]


class Lengths(Protocol):
    """Lengths of a run's requests, over their means."""

    def draw(self, count: int, seed: int, /) -> tuple[Floats, Floats]:
        """Return those of ``count`` prompts and outputs, (count,) each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformLengths:
    """Prompts and outputs between ``low`` and ``high`` times their means."""

    low: float
    high: float

    def draw(self, count: int, seed: int, /) -> tuple[Floats, Floats]:
        """Return lengths of ``count`` requests; see `Lengths`."""
        random = np.random.default_rng(seed)
        shares = random.uniform(self.low, self.high, (2, count))
        return shares[0], shares[1]


# Clients of InferenceX draw lengths uniformly from 0.8 to 1.0 of the nominal one.
CLIENT_LENGTHS = UniformLengths(low=0.8 / 0.9, high=1.0 / 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLengths:
    """Prompts and outputs of requests that are known, (k,), again and again."""

    prompts: Floats
    outputs: Floats

    def draw(self, count: int, _seed: int, /) -> tuple[Floats, Floats]:
        """Return lengths of ``count`` requests; see `Lengths`."""
        return np.resize(self.prompts, count), np.resize(self.outputs, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Factors on the seconds of prefill and on the time between tokens; arrays of shape (n,)."""

    prefill: Floats
    token: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's deployment.

    A prefill worker takes ``batch_s`` for a batch and ``prompt_s`` for each of its prompts of mean
    length, at most ``most_prompts`` of them; ``further`` times as long it is in further stages of a
    pipeline, while the next is read. ``more_s`` follows until the first token, ``token_s`` is the
    time between tokens. ``places`` decode at a time on each of the ``decode_workers``. A ``steady``
    run is one of many turns: the first output of each client is partly served already.
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
    further: float = 0.0
    steady: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """Seconds of each request that counts, (k,): to its first token and decoding.

    ``tokens`` (k,) are those after the first. ``requests`` of the run end within ``end_s`` seconds.
    """

    ttft_s: Floats
    decode_s: Floats
    tokens: Floats
    requests: int
    end_s: float

    @property
    def e2e_s(self) -> Floats:
        """From sending to the last token."""
        return self.ttft_s + self.decode_s


def run_pools(
    pools: Pools,
    lengths: Lengths,
    speeds: Speeds | None = None,
    *,
    steady: Booleans | None = None,
    known: PoolTimes | None = None,
    token_s: TokenTimes | None = None,
    seed: int = 0,
) -> PoolRuns:
    """Return what the clients of a closed loop see of each deployment.

    ``steady`` rows (n,) are seen after many turns; others from the first on, which all clients send
    at once, as a benchmark's do. A search passes ``known`` times and ``token_s`` that it tabulated.
    """
    known, times = known or pool_times(pools), token_s or token_times(pools)
    batches = _corrected(known.batches, speeds)
    busy_s, lone_s = _prompt_seconds(batches)
    token_factor = np.ones(len(pools)) if speeds is None else speeds.token
    means = steady_pools(pools, replace(known, prompt_s=busy_s, lone_prompt_s=lone_s), times)
    running, known = means.running, replace(known, transfer_s=means.transfer_s, batches=batches)
    is_steady = np.zeros(len(pools), dtype=bool) if steady is None else steady
    seen: tuple[RunTimes, ...] = ()
    for _ in range(ROUNDS):
        token = times(running / pools.decode_workers) * token_factor
        runs = (_run_of(pools, known, token, is_steady, row) for row in range(len(pools)))
        seen = tuple(serve_run(run, lengths, seed) for run in runs)
        loads = np.array([_decoding(each) for each in seen]) * pools.concurrency
        running = (running + np.minimum(loads, known.places)) / 2.0
    ttft = np.array([_figures(each.ttft_s) for each in seen]).reshape(-1, 3)
    per_s = _requests_per_s(pools, seen, is_steady)
    return PoolRuns(
        ttft_mean=ttft[:, 0],
        ttft_p50=ttft[:, 1],
        ttft_p99=ttft[:, 2],
        tpot_s=times(loads / pools.decode_workers) * token_factor,
        output_tokens_per_s=per_s * pools.decode.output_tokens,
        running=running,
        prefill_busy=np.minimum(per_s * busy_s / pools.prefill_workers, 1.0),
        idle_s=lone_s + known.transfer_s,
        transfer_s=known.transfer_s,
        requests=seen,
    )


def serve_run(run: Run, lengths: Lengths, seed: int = 0) -> RunTimes:
    """Return the times of every request: the next is sent when one is answered.

    A prefill worker reads what waits for it as one batch; requests go to the workers in turn, and
    so they do to decode workers. A cache is sent once it has a place there, which it then holds.
    """
    several = max(run.clients / MOST_CLIENTS, 1.0)
    clients = round(run.clients / several)
    count = clients * REQUESTS_EACH
    prompts, outputs = lengths.draw(count, seed)
    tokens = np.maximum(outputs * run.outputs - 1.0, 0.0)
    left = np.ones(count)
    if run.steady:
        left[:clients] = (np.arange(clients) + 0.5) / clients
    decoding = tokens * left * run.token_s
    sent, first, end_s = _replayed(run, several, prompts * run.prompt_s * several, decoding)
    counted = slice(TURNS_LEFT_OUT * clients if run.steady else 0, None)
    return RunTimes(
        ttft_s=(first - sent)[counted],
        decode_s=decoding[counted],
        tokens=tokens[counted],
        requests=count,
        end_s=end_s,
    )


def _replayed(
    run: Run, several: float, prompt_s: Floats, decoding_s: Floats
) -> tuple[Floats, Floats, float]:
    """Return when each request is sent and has its first token, (k,), and when the last one ends.

    One client stands for ``several``, with as many times the seconds of each prompt.
    """
    sent, first, end_s = np.zeros_like(prompt_s), np.zeros_like(prompt_s), ctypes.c_double()
    loop = native.PoolRun(
        clients=round(run.clients / several),
        workers=run.workers,
        most_prompts=max(int(run.most_prompts / several), 1),
        decode_workers=run.decode_workers,
        places=max(round(run.places / several), 1),
        count=len(prompt_s),
        batch_s=run.batch_s,
        more_s=run.more_s,
        further=run.further,
    )
    arrays = (prompt_s, decoding_s, sent, first)
    requests = native.PoolRequests(*(each.ctypes.data for each in arrays))
    if native.pools_kernel()(loop, requests, end_s):
        raise Unavailable("replay of pools: out of memory")
    return sent, first, float(end_s.value)


def _corrected(batches: PrefillBatches, speeds: Speeds | None) -> PrefillBatches:
    """Return prefill workers with the factor on their seconds."""
    if speeds is None:
        return batches
    return replace(
        batches, batch_s=batches.batch_s * speeds.prefill, each_s=batches.each_s * speeds.prefill
    )


def _prompt_seconds(batches: PrefillBatches) -> tuple[Floats, Floats]:
    """Return seconds a prompt takes of a worker that has many, and those of a lone one, (n,)."""
    lone = (batches.batch_s + batches.each_s) * (1.0 + batches.further)
    return batches.batch_s / batches.most + batches.each_s, lone


def _run_of(pools: Pools, times: PoolTimes, token_s: Floats, steady: Booleans, row: int) -> Run:
    step = float(token_s[row] * pools.decode.tokens_per_step[row])
    workers, batches = max(int(pools.decode_workers[row]), 1), times.batches
    return Run(
        clients=max(round(float(pools.concurrency[row])), 1),
        workers=max(int(pools.prefill_workers[row]), 1),
        batch_s=float(batches.batch_s[row]),
        prompt_s=float(batches.each_s[row]),
        most_prompts=int(batches.most[row]),
        more_s=float(times.transfer_s[row]) + AWAITED_STEPS * step,
        token_s=float(token_s[row]),
        decode_workers=workers,
        places=max(int(times.places[row]) // workers, 1),
        outputs=float(pools.decode.output_tokens[row]),
        further=float(batches.further[row]),
        steady=bool(steady[row]),
    )


def _figures(seen_s: Floats) -> list[float]:
    """Return mean, p50 and p99 of what the requests of a run saw, seconds."""
    return [float(seen_s.mean()), *map(float, np.quantile(seen_s, (0.5, 0.99)))]


def _requests_per_s(pools: Pools, seen: Sequence[RunTimes], steady: Booleans) -> Floats:
    """Return the requests answered per second, (n,): of a whole run; ``steady``: by Little's law.

    A client of many stands for several.
    """
    turns = np.array([each.end_s / (each.requests / REQUESTS_EACH) for each in seen])
    several = np.minimum(np.maximum(pools.concurrency, 1.0), MOST_CLIENTS)
    run = pools.concurrency / several / np.maximum(turns / REQUESTS_EACH, 1e-9)
    e2e_s = np.array([float(each.e2e_s.mean()) for each in seen])
    return np.where(steady, pools.concurrency / np.maximum(e2e_s, 1e-9), run)


def _decoding(times: RunTimes) -> float:
    """Return the share of their time in flight (0..1) that requests decode.

    The first of a benchmark find nobody decoding, so that the load is that of all later ones.
    """
    later = slice(times.requests // REQUESTS_EACH, None)
    return float(times.decode_s[later].sum() / max(times.e2e_s[later].sum(), 1e-9))
