"""Runs through two pools that a person can follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.serving.pools.runs import (
    MOST_CLIENTS,
    REQUESTS_EACH,
    Run,
    Speeds,
    UniformLengths,
    run_pools,
    serve_run,
)
from tests.performance.serving.pools.stepwise import served
from tests.performance.serving.pools.test_queues import pools

EQUAL = UniformLengths(low=1.0, high=1.0)
"""All prompts and outputs are of mean length."""
RUN = Run(
    clients=2,
    workers=1,
    batch_s=0.0,
    prompt_s=1.0,
    most_prompts=1,
    more_s=0.5,
    token_s=0.1,
    decode_workers=1,
    places=2,
    outputs=101.0,
)
"""Prompts of one second, half a second more to the first token, and 100 tokens of 0.1 s."""


def test_the_first_requests_wait_for_each_other() -> None:
    """One worker reads one prompt after the other: first tokens after 1.5 s and 2.5 s."""
    ttft = serve_run(RUN, EQUAL).ttft_s
    assert ttft[:2].tolist() == pytest.approx([1.5, 2.5])
    assert ttft[2:].tolist() == pytest.approx([1.5] * 2 * (REQUESTS_EACH - 1))


def test_prompts_that_wait_are_read_as_one_batch() -> None:
    """Two prompts of 1 s and a batch of 2 s: both are read after 4 s."""
    ttft = serve_run(replace(RUN, batch_s=2.0, most_prompts=2), EQUAL).ttft_s
    assert ttft[:2].tolist() == pytest.approx([4.5, 4.5])


def test_a_prompt_that_comes_during_a_batch_is_read_in_the_next() -> None:
    """Of three prompts two are a batch of 4 s; the third is read alone, from 4 s to 7 s."""
    crowd = replace(RUN, clients=3, places=3, batch_s=2.0, most_prompts=2)
    ttft = serve_run(crowd, EQUAL).ttft_s
    assert ttft[:3].tolist() == pytest.approx([4.5, 4.5, 7.5])


def test_two_workers_read_two_prompts_at_a_time() -> None:
    """Nobody waits."""
    assert serve_run(replace(RUN, workers=2), EQUAL).ttft_s.tolist() == pytest.approx([1.5] * 20)


def test_a_request_without_a_place_waits_for_one() -> None:
    """One place: the second cache is sent when the first request has decoded, at 11.5 s."""
    ttft = serve_run(replace(RUN, places=1), EQUAL).ttft_s
    assert ttft[:2].tolist() == pytest.approx([1.5, 12.0])


def test_requests_go_to_decode_workers_in_turn() -> None:
    """Three requests on two workers of one place: the third waits for the first one's place."""
    ttft = serve_run(replace(RUN, clients=3, decode_workers=2, places=1), EQUAL).ttft_s
    assert ttft[:3].tolist() == pytest.approx([1.5, 2.5, 12.0])


def test_latency_is_the_first_token_and_the_rest() -> None:
    """100 more tokens of 0.1 s each: 10 s after the first."""
    times = serve_run(RUN, EQUAL)
    assert times.e2e_s - times.ttft_s == pytest.approx(np.full(20, 10.0))
    assert times.end_s == pytest.approx(2.5 + 10.0 + (REQUESTS_EACH - 1) * 11.5)


def test_the_same_seed_draws_the_same_run() -> None:
    """Lengths are drawn from the seed alone."""
    first, second = (
        serve_run(RUN, UniformLengths(low=0.8, high=1.2), seed=3).e2e_s for _ in range(2)
    )
    assert first.tolist() == second.tolist()


def test_many_clients_are_replayed_as_fewer() -> None:
    """2048 clients of a run that reads 100 prompts/s see what 512 see that reads 25."""
    many = replace(RUN, clients=4 * MOST_CLIENTS, places=4 * MOST_CLIENTS, prompt_s=0.01)
    few = replace(RUN, clients=MOST_CLIENTS, places=MOST_CLIENTS, prompt_s=0.04)
    assert serve_run(many, EQUAL).ttft_s.tolist() == pytest.approx(serve_run(few, EQUAL).ttft_s)


def test_faster_prefill_answers_sooner_and_slower_tokens_come_later() -> None:
    """Half the seconds of prefill halve a queue of prompts; twice those of a token are its time."""
    plain = run_pools(pools(load=16.0), EQUAL)
    sped = run_pools(
        pools(load=16.0), EQUAL, Speeds(prefill=np.array([0.5]), token=np.array([1.0]))
    )
    slow = run_pools(
        pools(load=16.0), EQUAL, Speeds(prefill=np.array([1.0]), token=np.array([2.0]))
    )
    assert sped.ttft_mean[0] < plain.ttft_mean[0]
    assert slow.tpot_s[0] == pytest.approx(2.0 * plain.tpot_s[0], rel=0.1)


def test_the_kernel_serves_as_plain_python_does() -> None:
    """Fifty drawn runs: the first token of each request comes in the same instant."""
    draw = np.random.default_rng(5)
    lengths = UniformLengths(low=0.5, high=1.5)
    for seed in range(50):
        run = replace(
            RUN,
            clients=int(draw.integers(1, 40)),
            workers=int(draw.integers(1, 6)),
            batch_s=float(draw.uniform(0.0, 2.0)),
            most_prompts=int(draw.integers(1, 5)),
            decode_workers=int(draw.integers(1, 4)),
            places=int(draw.integers(1, 20)),
            further=float(draw.uniform(0.0, 3.0)),
        )
        prompts, outputs = lengths.draw(run.clients * REQUESTS_EACH, seed)
        decoding = np.maximum(outputs * run.outputs - 1.0, 0.0) * run.token_s
        sent, first = served(run, (prompts * run.prompt_s).tolist(), decoding.tolist())
        ttft = np.array(first) - np.array(sent)
        assert serve_run(run, lengths, seed).ttft_s.tolist() == ttft.tolist()


def test_a_steady_run_has_no_first_wave() -> None:
    """Clients come apart before they are seen: nobody waits for the prompt of the other."""
    ttft = serve_run(replace(RUN, steady=True), EQUAL).ttft_s
    assert ttft.tolist() == pytest.approx([1.5] * 2 * (REQUESTS_EACH - 2))


def test_a_pipeline_reads_the_next_prompt_meanwhile() -> None:
    """Two stages: first tokens come a second later, and prompts as often."""
    plain, piped = (serve_run(replace(RUN, further=each), EQUAL) for each in (0.0, 1.0))
    assert piped.ttft_s[:2].tolist() == pytest.approx((plain.ttft_s[:2] + 1.0).tolist())
