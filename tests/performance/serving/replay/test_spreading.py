"""Requests spread over attention ranks and pipeline lanes, and steps whose traffic hides work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.operators import step_time
from budsim.performance.physics.ranks import prepare
from budsim.performance.prefixes import SharedPrefixes
from budsim.performance.serving.replay import FrontEnd, Host, ReplayedService, Router, replay
from budsim.performance.traffic import OpenLoop, Traffic
from tests.performance.populations import population

RANKS = population(
    model="deepseek-ai/DeepSeek-R1",
    device="H200-SXM",
    precision=Precision.FP8,
    tp=[8],
    ep=[8],
    dp=[8],
)
PREFIXES = replace(
    Traffic.at_rate(requests_per_s=4.0, input_tokens=2000, output_tokens=100),
    prefix=SharedPrefixes(groups=40, tokens=1600),
)
BARE = FrontEnd(host=Host(request_s=0.0, token_s=0.0))
"""No host time, prompts as fast as the kernels: what is left can be worked out by hand."""


def routed(router: Router) -> ReplayedService:
    """Serve prompts with 40 prefixes, 64,000 tokens, on eight caches of 40,000 tokens each."""
    room = np.array([8 * 40_000.0])
    memory = replace(memory_use(prepare(RANKS)), kv_capacity_tokens=room, kv_running_tokens=room)
    return replay(RANKS, memory, PREFIXES, front_end=FrontEnd(router=router))


def test_a_router_that_knows_prefixes_answers_sooner() -> None:
    """Each of eight caches then computes its own prefixes only, not all forty."""
    in_turn, aware = routed(Router.IN_TURN), routed(Router.PREFIX_AWARE)
    assert aware.ttft_s.mean[0] < 0.9 * in_turn.ttft_s.mean[0]
    assert aware.largest_stable_rate[0] > in_turn.largest_stable_rate[0]


def test_the_least_loaded_rank_is_no_worse_than_turns() -> None:
    """With bursts of requests its p99 of TTFT is at most 5 % longer."""
    bursts = replace(PREFIXES, arrivals=OpenLoop(requests_per_s=2.0, process="burst", variation=6))
    memory = memory_use(prepare(RANKS))
    turns = replay(RANKS, memory, bursts, front_end=FrontEnd(router=Router.IN_TURN))
    least = replay(RANKS, memory, bursts, front_end=FrontEnd(router=Router.LEAST_LOAD))
    assert least.ttft_s.p99[0] <= 1.05 * turns.ttft_s.p99[0]


def test_ranks_wait_for_the_fullest_one_by_half() -> None:
    """One sequence on eight ranks: a step lies half-way between 1 and 8 x 1 sequences, at 4.5."""
    ranks = prepare(RANKS)
    alone = Traffic.closed(concurrency=1, input_tokens=1000, output_tokens=201)
    service = replay(RANKS, memory_use(ranks), alone, front_end=BARE)
    step = step_time(
        ranks,
        prefill=np.zeros(1),
        decode=np.full(1, 4.5),
        prefill_context=np.zeros(1),
        decode_context=np.full(1, 1100.5),
    )
    assert service.tpot_s.mean == pytest.approx(step.total_s, rel=0.01)


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_a_lone_request_crosses_a_pipeline_as_one_step_time_says(stages: int) -> None:
    """One request in flight: TPOT is the time of a decode step at its mean context."""
    table = population(tp=[2], pp=[stages])
    ranks = prepare(table)
    alone = Traffic.closed(concurrency=1, input_tokens=1000, output_tokens=201)
    service = replay(table, memory_use(ranks), alone, front_end=BARE)
    step = step_time(
        ranks,
        prefill=np.zeros(1),
        decode=np.ones(1),
        prefill_context=np.zeros(1),
        decode_context=np.full(1, 1100.5),
    )
    assert service.tpot_s.mean == pytest.approx(step.total_s, rel=0.002)


def test_a_pipeline_of_lanes_serves_more_requests_at_the_same_time() -> None:
    """Sixteen requests over four lanes: a lane decodes four of them at a time."""
    table = population(tp=[2], pp=[4])
    ranks = prepare(table)
    traffic = Traffic.closed(concurrency=16, input_tokens=10, output_tokens=400)
    service = replay(table, memory_use(ranks), traffic, front_end=BARE)
    step = step_time(
        ranks,
        prefill=np.zeros(1),
        decode=np.full(1, 4.0),
        prefill_context=np.zeros(1),
        decode_context=np.full(1, 210.0),
    )
    assert service.tpot_s.mean == pytest.approx(step.total_s, rel=0.05)
    assert service.running[0] == pytest.approx(16, rel=0.02)


@pytest.mark.parametrize("engine", ["llama.cpp-cpu", "llama.cpp-cpu(one cache)"])
def test_steps_whose_traffic_hides_work_are_replayed_by_both_parts(engine: str) -> None:
    """Four llama.cpp sequences decode at the modelled step time, attention to others included."""
    small = {"model": "meta-llama/Llama-3.1-8B-Instruct", "device": "EPYC 9654"}
    table = population(**small, engine=engine, tp=[1])
    ranks = prepare(table)
    traffic = Traffic.closed(concurrency=4, input_tokens=100, output_tokens=400)
    service = replay(table, memory_use(ranks), traffic, front_end=BARE)
    context = np.full(1, 300.0)
    shared = 4.0 if "one cache" in engine else 1.0
    step = step_time(
        ranks,
        prefill=np.zeros(1),
        decode=np.full(1, 4.0),
        prefill_context=np.zeros(1),
        decode_context=context,
        decode_attended=context * shared,
    )
    assert service.itl_s.p50 == pytest.approx(step.total_s, rel=0.05)
