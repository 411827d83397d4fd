"""The steady state of two pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.serving.pools.pool_times import (
    HANDSHAKE_S,
    TRANSFER_EFFICIENCY,
    Pools,
    pool_times,
    prefill_times,
)
from budsim.performance.serving.pools.queues import PoolService, steady_pools
from tests.performance.populations import population

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def pools(prefill_workers: float = 1.0, decode_workers: float = 1.0, load: float = 64.0) -> Pools:
    """Return one deployment of Llama 8B on H100s, a device a worker."""
    columns = {"tp": 1, "input_tokens": 4000.0, "output_tokens": 200.0}
    return Pools(
        prefill=population(model=LLAMA, concurrency=load / prefill_workers, **columns),
        decode=population(model=LLAMA, concurrency=load / decode_workers, **columns),
        prefill_workers=np.array([prefill_workers]),
        decode_workers=np.array([decode_workers]),
        concurrency=np.array([load]),
    )


def served(**changes: float) -> PoolService:
    """Return the service of one deployment."""
    return steady_pools(pools(**changes))


def test_a_cache_moves_at_the_speed_of_the_network() -> None:
    """4000 tokens x 131,072 B = 524 MB over 50 GB/s x 0.7: 15 ms, and the handshake."""
    moved = pool_times(pools()).transfer_s[0] - HANDSHAKE_S
    assert moved == pytest.approx(4000 * 131_072 / (50e9 * TRANSFER_EFFICIENCY), rel=1e-6)


def test_the_worker_with_fewer_ranks_bounds_the_transfer() -> None:
    """Four ranks send a quarter each to one: all 524 MB go through its card."""
    columns = {"input_tokens": 4000.0, "output_tokens": 200.0}
    four = replace(pools(), prefill=population(model=LLAMA, tp=4, **columns))
    moved = pool_times(four).transfer_s[0] - HANDSHAKE_S
    assert moved == pytest.approx(4000 * 131_072 / (50e9 * TRANSFER_EFFICIENCY), rel=1e-6)


def test_a_step_of_prefill_holds_no_more_prompts_than_its_worker_may_run() -> None:
    """32,000 tokens hold eight prompts of 4,000, unless the worker is started for two."""
    eight = pools()
    tokens = replace(eight.prefill, token_budget=np.array([32_000.0]))
    two = replace(tokens, max_num_seqs=np.array([2.0]))
    most = [prefill_times(each).batches.most[0] for each in (tokens, two)]
    assert most == [8.0, 2.0]


def test_transfers_share_the_links() -> None:
    """A link busy for half of the time: each transfer takes twice as long, the handshake as ever.

    Nothing is said to take more than twenty times as long.
    """
    times = pool_times(pools())
    alone, share = times.transfer_s[0] - HANDSHAKE_S, times.link_share[0]
    half, beyond = (times.transfer_at(np.array([load / share]))[0] for load in (0.5, 2.0))
    assert half - HANDSHAKE_S == pytest.approx(2.0 * alone)
    assert beyond - HANDSHAKE_S == pytest.approx(20.0 * alone)


def test_requests_in_flight_are_somewhere() -> None:
    """Little's law: what decodes, waits and is read adds up to all requests."""
    service, load = served(load=64.0), 64.0
    rate = load / service.e2e_s(np.array([200.0]))
    assert service.running[0] == pytest.approx(float((rate * 199.0 * service.tpot_s)[0]), rel=0.05)


def test_another_prefill_worker_answers_sooner() -> None:
    """The queue before the prefill workers shrinks; tokens come no faster."""
    one, two = served(), served(prefill_workers=2.0)
    assert two.ttft_s[0] < one.ttft_s[0]
    assert two.tpot_s[0] >= 0.99 * one.tpot_s[0]


def test_another_decode_worker_sends_tokens_faster() -> None:
    """Half of the sequences on each."""
    assert served(decode_workers=2.0).tpot_s[0] < served(prefill_workers=1.0).tpot_s[0]


def test_a_full_cache_bounds_what_decodes() -> None:
    """Four thousand requests: no more decode than the caches hold, the rest waits."""
    service = served(load=4000.0)
    assert service.running[0] <= pool_times(pools(load=4000.0)).places[0]
    assert service.ttft_s[0] > 10.0 * served().ttft_s[0]
