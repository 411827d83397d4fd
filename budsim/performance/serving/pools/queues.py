"""Requests through both pools: queues before prefill workers, the link, and places to decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.serving.pools.pool_times import (
    Pools,
    PoolTimes,
    decode_ranks,
    pool_times,
    token_time,
)

# Rounds in which latency and load of a closed loop settle, and the share of each new value taken.
SETTLING_ROUNDS, STEP = 40, 0.5

# Steps of the decode worker before a request's own first one: half of the one under way, and one
# planned already.
AWAITED_STEPS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolService:
    """Mean service of disaggregated deployments in a closed loop; arrays of shape (n,).

    Attributes
    ----------
    ttft_s, tpot_s : float arrays
        Time to first token, and between tokens.
    queue_s, prefill_s, transfer_s, place_s : float arrays
        What TTFT is made of: waiting for a prefill worker, prefill, transfer, waiting for a place.
    running : float array
        Sequences that decode, of all workers.
    prefill_busy : float array
        Share of their time that prefill workers work, 0..1.
    """

    ttft_s: Floats
    tpot_s: Floats
    queue_s: Floats
    prefill_s: Floats
    transfer_s: Floats
    place_s: Floats
    running: Floats
    prefill_busy: Floats

    def e2e_s(self, output_tokens: Floats) -> Floats:
        """Return the latency of a request of so many output tokens."""
        return self.ttft_s + np.maximum(output_tokens - 1.0, 0.0) * self.tpot_s


# Seconds between two tokens (n,) by the sequences each decode worker runs (n,).
TokenTimes = Callable[[Floats], Floats]


def steady_pools(
    pools: Pools, times: PoolTimes | None = None, token_s: TokenTimes | None = None
) -> PoolService:
    """Return the service of each deployment in a steady closed loop.

    Mean value analysis of a closed network (Reiser and Lavenberg, 1980, with Schweitzer's
    estimate: an arriving request finds the mean queue, less its own share): prefill workers are a
    station of several servers, decoding is a delay that grows with the load. Requests that find no
    place in the decode caches wait for one. A search passes ``times`` and ``token_s`` that it
    tabulated before.
    """
    known, token_s = times or pool_times(pools), token_s or token_times(pools)
    outputs, requests = pools.decode.output_tokens, np.maximum(pools.concurrency, 1.0)
    running, present = np.minimum(requests, known.places), np.zeros(len(pools))
    each, busy = known.prompt_s / pools.prefill_workers, np.zeros(len(pools))
    rate = np.zeros(len(pools))
    for _ in range(SETTLING_ROUNDS):
        tpot = token_s(running / pools.decode_workers)
        decoding = np.maximum(outputs - 1.0, 1.0) * tpot
        found = present * (requests - 1.0) / requests
        service = _service(pools, known, Found(present=found, busy=busy, rate=rate), tpot)
        place = np.maximum(requests * decoding / known.places - decoding - sum(service), 0.0)
        rate = rate + STEP * (requests / (sum(service) + place + decoding) - rate)
        present = present + STEP * (np.minimum(rate * (service[0] + each), requests) - present)
        busy = busy + STEP * (np.minimum(rate * each, 1.0) - busy)
        running = running + STEP * (np.minimum(rate * decoding, known.places) - running)
    waited, prefill, transfer, awaited = service
    return PoolService(
        ttft_s=waited + prefill + transfer + awaited + place,
        tpot_s=tpot,
        queue_s=waited,
        prefill_s=prefill,
        transfer_s=transfer,
        place_s=place + awaited,
        running=running,
        prefill_busy=np.minimum(rate * each, 1.0),
    )


def token_times(pools: Pools) -> TokenTimes:
    """Return the time between two tokens as a function of the sequences of each worker."""
    decode = decode_ranks(pools.decode)
    return lambda running: token_time(decode, running)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a request finds at the prefill workers; arrays of shape (n,).

    ``present`` others where all workers together are one that is as much faster, ``busy``, the
    share of their time (0..1) that they work, and the ``rate`` of prompts, 1/s.
    """

    present: Floats
    busy: Floats
    rate: Floats


def _service(
    pools: Pools, times: PoolTimes, found: Found, tpot: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return seconds of waiting for prefill, prefill, transfer, and awaited decode steps.

    Several workers are taken as one that is as much faster and a delay (Seidmann, 1987). One of
    several is free more often: the wait shrinks with the power of the load that Sakasegawa gives
    (1977).
    """
    workers = pools.prefill_workers
    free = found.busy ** (np.sqrt(2.0 * (workers + 1.0)) - 2.0)
    waiting = found.present * times.prompt_s / workers * free
    step = tpot * pools.decode.tokens_per_step
    return waiting, times.lone_prompt_s, times.transfer_at(found.rate), AWAITED_STEPS * step
