"""TTFT and TPOT a person can check: every step takes 10 ms, and 20 ms if it holds prompts.

The toy engine (tests/performance/by_hand.py) takes 1000 tokens a step; prompts have 1000 tokens and
outputs 100 unless a test says otherwise. The device is so fast that only its latencies count.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.engine_ops.engine_profile import EngineProfile, FirstToken
from budsim.engine_ops.profiles import profiles
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.replay import replay
from budsim.performance.serving.steady_state import Modelled, steady_state
from budsim.performance.speculation import Speculation
from budsim.performance.traffic import Traffic
from tests.performance.by_hand import (
    DEVICE,
    ENGINE,
    FREE_HOST,
    PREFILL_FIRST,
    constants,
    model,
    ranks,
)
from tests.performance.populations import population

MS = 1e-3
FREE_GUESSES = replace(profiles()["vllm"], guess_step_s=0.0)
FAST = replace(
    DEVICE,
    memory_bytes=1e18,
    memory_bandwidth_bytes_per_s=1e18,
    scale_up=replace(DEVICE.scale_up, bandwidth_bytes_per_s=1e18),
    flops_per_s=dict.fromkeys(DEVICE.flops_per_s, 1e24),
)
LATENCIES = {"layer_latency_s": 10 * MS, "prefill_latency_s": 10 * MS}


def service(
    *,
    engine: EngineProfile = ENGINE,
    first_token: FirstToken = FREE_HOST,
    token_latency_s: float = 0.0,
    **columns: float,
) -> Modelled:
    """Return the steady state of one candidate."""
    usual = {"input_tokens": 1000, "output_tokens": 100, "concurrency": 1, "token_budget": 1000}
    kernels = constants(first_token, **LATENCIES, token_latency_s=token_latency_s)
    prepared = ranks(
        model(), FAST, engine, kernels=kernels, **{"max_num_seqs": 1000, **usual, **columns}
    )
    return steady_state(prepared, memory_use(prepared))


def test_a_lone_request_waits_for_nobody() -> None:
    """One step with its prompt, 20 ms, then 10 ms a token."""
    alone = service()
    assert alone.ttft_s == pytest.approx(20 * MS)
    assert alone.tpot_s == pytest.approx(10 * MS)
    assert alone.queue_s == pytest.approx(0.0)
    assert alone.solo_prefill_s == pytest.approx(20 * MS)
    assert alone.solo_decode_s == pytest.approx(10 * MS)


def test_nothing_is_faster_than_the_data_sheet() -> None:
    """20 MB of weights at 20 GB/s: 1 ms a token; 1000 tokens x 20 MFLOP at 20 TFLOP/s: 1 ms.

    The prompt's attention, 1000 x 500 x 4,000 FLOP, adds 0.1 ms. No share of kernels matters.
    """
    kernels = constants(gemm=0.5, bandwidth=0.5, layer_latency_s=10 * MS)
    prepared = ranks(kernels=kernels, input_tokens=1000, token_budget=1000, concurrency=8)
    least = steady_state(prepared, memory_use(prepared)).least_s(np.array([11.0]))
    assert least["ttft"] == pytest.approx(1.1 * MS, rel=0.02)
    assert least["tpot"] == pytest.approx(1.0 * MS, rel=0.3)
    assert least["e2e"] == pytest.approx(least["ttft"] + 10 * least["tpot"])


def test_long_prompts_take_several_steps() -> None:
    """4000 tokens in steps of 1000: four steps of 20 ms."""
    assert service(input_tokens=4000).ttft_s == pytest.approx(80 * MS)


def test_engines_that_do_not_cut_prompts_take_them_whole() -> None:
    """4000 tokens in one step of 20 ms, although a step usually takes 1000."""
    assert service(input_tokens=4000, chunked_prefill=False).ttft_s == pytest.approx(20 * MS)


def test_tokens_found_in_the_prefix_cache_are_not_prefilled() -> None:
    """Of 4000 tokens half are cached: two steps of 20 ms."""
    assert service(input_tokens=4000, prefix_hit_share=0.5).ttft_s == pytest.approx(40 * MS)


def test_prompts_of_others_slow_a_token() -> None:
    """Eleven sequences: 10 others bring a prompt every 100 tokens, so a tenth of steps hold one.

    10 ms + 0.1 x (20 - 10) ms = 11 ms.
    """
    assert service(concurrency=11).tpot_s == pytest.approx(11 * MS, rel=1e-3)


def test_engines_that_prefill_first_stop_decoding() -> None:
    """A tenth of steps is preceded by a whole one with prompts: 10 ms + 0.1 x 20 ms = 12 ms."""
    assert service(concurrency=11, engine=PREFILL_FIRST).tpot_s == pytest.approx(12 * MS, rel=1e-3)


def test_a_step_carries_prompts_at_most_always() -> None:
    """Prompts of four steps leave room for 100 x 1000 / 4000 = 25 sequences of 50.

    All 50 keep every step busy with a prompt: 20 ms.
    """
    full = service(input_tokens=4000, concurrency=50)
    assert full.running == pytest.approx(25)
    assert full.tpot_s == pytest.approx(20 * MS, rel=1e-3)


def test_half_busy_with_prompts_half_a_prompt_is_ahead() -> None:
    """50 requests, one step a prompt and 99 more an output: half of all steps hold a prompt.

    R = 1 + 49 (R - 1/2) / (R + 99) = 1.476 steps, of which 0.476 are others' prompts of 20 ms.
    """
    half = service(concurrency=50)
    assert half.queue_s == pytest.approx(9.519 * MS, rel=1e-3)
    assert half.ttft_s == pytest.approx(29.519 * MS, rel=1e-3)


def test_a_saturated_engine_has_some_prompts_ahead() -> None:
    """100 requests: R = 1 + 99 (R - 1/2) / (R + 99), so that R = (1 + sqrt(199)) / 2 = 7.553."""
    assert service(concurrency=100).queue_s == pytest.approx(6.553 * 20 * MS, rel=1e-3)


def test_few_requests_of_short_outputs_wait_for_each_other() -> None:
    """Five requests of 5 tokens: R = 1 + 4 (R - 1/2) / (R + 4) = 2 steps, one of another's."""
    assert service(concurrency=5, output_tokens=5).queue_s == pytest.approx(20 * MS)


@pytest.mark.parametrize("concurrency", [1, 11, 50, 100, 400])
def test_a_turn_holds_every_prompt_once(concurrency: int) -> None:
    """99 steps of 10 ms, those until the first token, and 10 ms more for each one's prompt."""
    found = service(concurrency=concurrency)
    until_first = (found.ttft_s / (20 * MS)) * 10 * MS
    turn = 99 * 10 * MS + until_first + concurrency * 10 * MS
    assert found.ttft_s + 99 * found.tpot_s == pytest.approx(turn)


def test_where_prompts_stop_decoding_a_turn_is_its_steps_and_all_prompts() -> None:
    """99 steps of 10 ms, and eleven prompts of 20 ms, its own among them."""
    found = service(concurrency=11, engine=PREFILL_FIRST)
    assert found.ttft_s + 99 * found.tpot_s == pytest.approx(99 * 10 * MS + 11 * 20 * MS)


def test_requests_without_a_place_wait_for_one_to_end() -> None:
    """Ten places, 15 requests: R = 1 + 9 (R - 1/2) / (R + 99) = 1.0494 steps.

    A turn takes 100.05 steps of 10 ms and 10 ms for each of ten prompts: 1,100 ms. Five without a
    place wait for half of one.
    """
    crowded = service(concurrency=15, max_num_seqs=10)
    assert crowded.queue_s == pytest.approx((0.0494 * 20 + 5 * 110.049) * MS, rel=1e-4)
    assert crowded.running == pytest.approx(10)


def test_the_cache_bounds_who_runs() -> None:
    """4,000 B a token and 1050 tokens of mean context: 42 MB hold ten sequences."""
    prepared = ranks(model(), FAST, input_tokens=1000, output_tokens=100, concurrency=15)
    memory = replace(memory_use(prepared), kv_running_tokens=np.array([42e6 / 4000]))
    assert steady_state(prepared, memory).running == pytest.approx(10)


def test_who_finds_no_place_waits_for_the_whole_crowd() -> None:
    """Ten places, 15 requests: a place is free every 1.1 s / 10, five of them wait 550 ms.

    Prompts are 20 ms and a tenth of the ten decode steps carries one: 11 ms a token.
    """
    crowded = service(concurrency=15, max_num_seqs=10)
    alone = service(concurrency=10, max_num_seqs=10)
    assert crowded.queue_s - alone.queue_s == pytest.approx(550 * MS, rel=0.02)


def test_prompts_add_more_than_their_kernels() -> None:
    """20 ms of kernels in a step with a prompt take 26 ms at a factor of 1.3."""
    kernels = constants(FREE_HOST, **LATENCIES, prompt_factor=1.3)
    prepared = ranks(
        model(), FAST, kernels=kernels, input_tokens=1000, output_tokens=100, concurrency=1,
        token_budget=1000,
    )  # fmt: skip
    assert steady_state(prepared, memory_use(prepared)).ttft_s == pytest.approx(26 * MS)


def test_a_step_with_prompts_lasts_as_long_as_its_launches() -> None:
    """One layer that takes the host 50 ms to launch: 20 ms of kernels hide behind it."""
    first = replace(FREE_HOST, prompt_launch_s=50 * MS)
    launched = service(first_token=first)
    assert launched.ttft_s == pytest.approx(50 * MS)
    assert launched.tpot_s == pytest.approx(10 * MS)
    assert launched.mixed.overhead_s == pytest.approx(50 * MS)


def test_engines_await_steps() -> None:
    """Three steps of 10 ms before the 20 ms of its own prompt."""
    first = replace(FREE_HOST, steps=3.0)
    assert service(first_token=first).ttft_s == pytest.approx(50 * MS)


def test_schedulers_that_look_now_and_then_add_steps() -> None:
    """Five steps of 10 ms more."""
    assert service(admission_steps=5).ttft_s == pytest.approx(70 * MS)


def test_the_host_tokenizes_a_prompt() -> None:
    """20 ms a request and 10 us for each of 1000 tokens: 30 ms more."""
    first = replace(FREE_HOST, request_s=20 * MS)
    assert service(first_token=first, token_latency_s=1e-5).ttft_s == pytest.approx(50 * MS)


def test_stages_work_on_micro_batches() -> None:
    """22 requests over two stages: each step holds 11 of them, as one stage would with 11."""
    assert service(concurrency=22, pp=2).tpot_s == pytest.approx(11 * MS, rel=1e-3)
    assert service(concurrency=22, pp=2).running == pytest.approx(22)


def test_a_static_batch_is_prefilled_as_one() -> None:
    """Four prompts of 1000 tokens in steps of 2000: two steps of 20 ms, then 10 ms a token."""
    batch = service(concurrency=4, static_batch=True, token_budget=2000)
    assert batch.ttft_s == pytest.approx(40 * MS)
    assert batch.tpot_s == pytest.approx(10 * MS)


def test_pooling_requests_wait_for_the_steps_before_theirs() -> None:
    """Sixteen prompts of 1000 tokens, four a step of 20 ms: three steps wait, one is their own."""
    pooled = service(output_tokens=0, concurrency=16, token_budget=4000)
    assert pooled.queue_s == pytest.approx(60 * MS)
    assert pooled.ttft_s == pytest.approx(80 * MS)
    assert pooled.tpot_s == 0.0


def test_a_step_that_yields_two_tokens_halves_the_time_between_them() -> None:
    """Free and right guesses: twice the tokens, the same step."""
    plain = replace(population(concurrency=1.0), engines=(FREE_GUESSES,))
    way = Speculation(draft_tokens=1, tokens_per_step=2.0)
    guessing = replace(plain, speculations=(way,), speculation=np.zeros(1, dtype=np.int64))
    times = [
        steady_state(ranks, memory_use(ranks)).tpot_s for ranks in map(prepare, (plain, guessing))
    ]
    assert times[1] == pytest.approx(times[0] / 2.0, rel=0.02)


def test_guesses_lose_where_arithmetic_is_what_takes_time() -> None:
    """1000 sequences with seven guesses of which one in ten is right: slower than without."""
    plain = population(concurrency=1000.0, max_num_seqs=1000, input_tokens=64.0)
    way = Speculation(draft_tokens=7, tokens_per_step=1.1)
    guessing = replace(plain, speculations=(way,), speculation=np.zeros(1, dtype=np.int64))
    times = [
        steady_state(ranks, memory_use(ranks)).tpot_s for ranks in map(prepare, (plain, guessing))
    ]
    assert times[1] > 1.3 * times[0]


@pytest.mark.parametrize(("prompt", "output"), [(1000, 500), (100, 1000), (4000, 8)])
def test_better_guesses_never_end_later_and_move_the_first_token_little(
    prompt: float, output: float
) -> None:
    """From no guess right to all: no jump of TTFT where steps become as few as requests."""
    ways = tuple(
        Speculation(draft_tokens=7, tokens_per_step=float(tokens))
        for tokens in np.linspace(1.0, 8.0, 57)
    )
    rows = len(ways)
    plain = population(
        concurrency=[256.0] * rows,
        max_num_seqs=256,
        input_tokens=prompt,
        output_tokens=output,
        model="meta-llama/Llama-3.1-8B-Instruct",
        tp=1,
    )
    ranks = prepare(replace(plain, speculations=ways, speculation=np.arange(rows)))
    found = steady_state(ranks, memory_use(ranks))
    whole = found.ttft_s + (output - 1.0) * found.tpot_s
    assert (np.diff(whole) <= 1e-9 * whole[1:]).all()
    assert np.abs(np.diff(np.log(found.ttft_s))).max() < 0.15


def test_prompts_in_awaited_steps_delay_before_the_first_token_not_later() -> None:
    """Eleven requests await three steps: E2E grows by 30 ms, TTFT by more, and TPOT falls."""
    awaiting = replace(FREE_HOST, steps=3.0)
    plain, late = service(concurrency=11), service(concurrency=11, first_token=awaiting)
    assert late.ttft_s - plain.ttft_s > 30 * MS
    assert late.tpot_s < plain.tpot_s
    whole = late.ttft_s + 99 * late.tpot_s - plain.ttft_s - 99 * plain.tpot_s
    assert whole == pytest.approx(30 * MS)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("prompt", [64, 1024, 8192])
def test_more_work_never_ends_sooner(engine: str, prompt: int) -> None:
    """L16: tokens/s do not fall with concurrency, nor E2E with outputs, by more than 2 %."""
    loads, outputs = [1, 2, 5, 13, 34, 89, 233], [2, 4, 8, 16, 32, 64, 128, 512]
    for output in outputs:
        rates = output * np.array(loads) / _e2e_s(engine, prompt, [output], loads)
        assert (np.diff(rates) > -0.02 * rates[1:]).all()
    for load in loads:
        latencies = _e2e_s(engine, prompt, outputs, [load])
        assert (np.diff(latencies) > -0.02 * latencies[1:]).all()


def _e2e_s(engine: str, prompt: int, outputs: list[int], loads: list[int]) -> np.ndarray:
    """Return E2E in seconds of Llama-3.1-8B on one H100."""
    table = population(
        model="meta-llama/Llama-3.1-8B-Instruct",
        engine=engine,
        input_tokens=prompt,
        output_tokens=outputs if len(outputs) > 1 else outputs[0],
        concurrency=loads if len(loads) > 1 else loads[0],
    )
    prepared = prepare(table)
    found = steady_state(prepared, memory_use(prepared))
    return found.ttft_s + (table.output_tokens - 1.0) * found.tpot_s


def test_a_lone_request_is_no_faster_for_lanes_and_ranks_that_idle() -> None:
    """Eight stages or eight attention ranks do not share one prompt of one step.

    Stages work one after another; ranks without a request wait for the one that has it. The replay
    says the same of both, within 3 %.
    """
    table = population(
        tp=[1, 1, 8],
        pp=[1, 8, 1],
        dp=[1, 1, 8],
        model="meta-llama/Llama-3.1-8B-Instruct",
        concurrency=1,
        input_tokens=8192,
        output_tokens=128,
        token_budget=8192,
    )
    prepared = prepare(table)
    memory = memory_use(prepared)
    found = steady_state(prepared, memory)
    one, stages, attention = found.ttft_s
    assert one < stages < 1.2 * one
    assert attention > 0.3 * one
    lone = Traffic.closed(concurrency=1, input_tokens=8192, output_tokens=128)
    served = replay(table, memory, lone)
    assert found.ttft_s == pytest.approx(served.ttft_s.mean, rel=0.03)
    assert found.tpot_s == pytest.approx(served.tpot_s.mean, rel=0.03)
