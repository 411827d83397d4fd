"""A store of KV cache that replicas share: what it finds, what it costs, what was published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.recorded import Trace
from budsim.performance.serving.host_tier import found_shares, host_tier
from budsim.performance.serving.replay import replay
from budsim.performance.serving.shared_store import store_tier, with_store
from budsim.performance.traffic import FixedLength, Traffic
from tests.performance.serving.returning_prefixes import (
    ENOUGH_BYTES,
    ENOUGH_TOKENS,
    GB,
    assert_closed_form_is_near_replay,
    returning,
    served,
    ttft_s,
)


def test_tokens_of_the_store_and_seconds_of_a_read() -> None:
    """131 MB hold 1,000 tokens of Llama 8B; at 13.1 GB/s a device reads 100,000 a second."""
    table = returning(served(), 1e6, store=131_072_000.0, speed=13.1072 * GB)
    found = store_tier(table, memory_use(prepare(table)))
    assert found.tokens == pytest.approx(1000.0)
    assert found.token_s == pytest.approx(1e-5)


def test_ranks_that_repeat_a_latent_do_not_repeat_it_in_the_store() -> None:
    """DeepSeek on one device or eight: the store holds equally many tokens.

    Each of eight ranks reads the whole latent.
    """
    table = returning(
        served(model="deepseek-ai/DeepSeek-V2-Lite-Chat", tp=[1, 8]), 1e6, store=GB, speed=GB
    )
    found = store_tier(table, memory_use(prepare(table)))
    assert found.tokens[0] == found.tokens[1]
    assert found.token_s[0] == pytest.approx(found.token_s[1])


def test_the_store_finds_what_device_and_host_dropped() -> None:
    """All three together find the whole set, and each share is counted once."""
    table = returning(served(), 5e6, host=200 * GB, store=ENOUGH_BYTES, speed=35 * GB)
    memory = memory_use(prepare(table))
    near = found_shares(table, memory)
    found = with_store(table, near, store_tier(table, memory))
    assert found.all == pytest.approx(1.0, abs=1e-3)
    assert (found.device, found.host) == (near.device, near.host)
    assert found.store == pytest.approx(1.0 - near.device - near.host, abs=1e-3)


def test_a_store_smaller_than_the_host_adds_nothing() -> None:
    """The host holds all that such a store holds."""
    table = returning(served(), 5e6, host=200 * GB, store=100 * GB, speed=35 * GB)
    memory = memory_use(prepare(table))
    found = with_store(table, found_shares(table, memory), store_tier(table, memory))
    assert found.store == pytest.approx(0.0, abs=1e-9)


def test_an_engine_that_reads_through_the_host_needs_some() -> None:
    """SGLang's store does nothing without its host pool."""
    plain = returning(served(engine="sglang"), 5e6, store=ENOUGH_BYTES, speed=35 * GB)
    table = replace(plain, store_through_host=np.ones(1, dtype=bool))
    for host, there in ((0.0, False), (500 * GB, True)):
        row = replace(table, tier_bytes=np.array([host]))
        assert (store_tier(row, memory_use(prepare(row))).tokens[0] > 0) == there


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(("host_gib", "speed"), [(0.0, 35.0), (0.0, 9.0), (300.0, 35.0)])
def test_closed_form_and_replay_agree(engine: str, host_gib: float, speed: float) -> None:
    """TTFT and TPOT within 25 %, for a set larger than the device and its host."""
    table = returning(
        served(engine=engine), 3e6, host=host_gib * 2**30, store=ENOUGH_BYTES, speed=speed * GB
    )
    assert_closed_form_is_near_replay(table, set_tokens=3e6)


def test_a_slow_network_is_slower_than_computing() -> None:
    """Over 1 GB/s a prefix of 0.94 GB takes a second; the device computes it in 0.4 s."""
    slow, fast = (
        ttft_s(returning(served(concurrency=1.0), 1e9, store=ENOUGH_BYTES, speed=speed * GB))[0]
        for speed in (1.0, 35.0)
    )
    computed = ttft_s(returning(served(concurrency=1.0), 1e9))[0]
    assert fast < computed < slow


def shared_trace() -> Traffic:
    """Return 400 requests at 5/s: of every four the last two repeat the prompts of the first two.

    Sent to three replicas in turn, no prompt comes to one of them twice.
    """
    count = 400
    before = np.where(np.arange(count) % 4 >= 2, np.arange(count) - 2, -1)
    return Traffic(
        arrivals=Trace(
            send_s=np.arange(count) / 5.0,
            prompt_tokens=np.full(count, 4000),
            output_tokens=np.full(count, 4),
            reused_from=before,
            reused_tokens=np.where(before >= 0, 3600, 0),
        ),
        prompt=FixedLength(tokens=4000),
        output=FixedLength(tokens=4),
    )


def test_what_another_replica_computed_is_found_in_the_store() -> None:
    """A router in turn finds nothing on devices, and all in the store: routing matters less."""
    part = shared_trace().shared_by(3)
    assert part.prefix_hit_share == 0.0
    table = served(input_tokens=4000.0, output_tokens=4.0)
    plain, stored = (
        returning(table, 0.0, store=size, speed=35 * GB) for size in (0.0, ENOUGH_BYTES)
    )
    memory, _ = AnalyticPredictor().predict(table)
    computed, found = (replay(each, memory, part) for each in (plain, stored))
    alone = replay(plain, memory, shared_trace().shared_by(2))
    assert found.ttft_s.mean[0] < 0.7 * computed.ttft_s.mean[0]
    # As soon as on a replica that computed the prefix itself, but for the read of 0.47 GB, which
    # half of the requests wait for.
    read_s = 0.5 * 3600 * 131_072 / (35 * GB)
    assert found.ttft_s.mean[0] - alone.ttft_s.mean[0] == pytest.approx(read_s, rel=0.5)


def test_a_store_too_small_has_dropped_what_another_replica_computed() -> None:
    """Between two uses 808 or 4,408 tokens are computed: a store of 100 finds none."""
    part = shared_trace().shared_by(3)
    table = served(input_tokens=4000.0, output_tokens=4.0)
    memory, _ = AnalyticPredictor().predict(table)
    sizes = (0.0, 100.0, 2000.0)
    ttfts = [
        replay(
            returning(table, 0.0, store=tokens * 131_072, speed=35 * GB), memory, part
        ).ttft_s.mean[0]
        for tokens in sizes
    ]
    # Of three replicas each keeps a third of what they share: 4,408 / 3 = 1,469 tokens apart.
    assert ttfts[0] == ttfts[1]
    assert ttfts[2] < 0.7 * ttfts[0]


def test_a_hit_costs_what_an_experiment_on_an_h20_paid_for_it() -> None:
    """65,536 tokens of Qwen3-Coder-30B on one H20: 0.16 s from the host, 0.86 s from Mooncake.

    gitea.gahow.org/gahow/agentic-kvc, v2 microbenchmark of vLLM 0.18.1: TTFT 0.11 s from the
    device, 0.27 s from the host, 0.97 s from another instance over RDMA at 5 to 7 GB/s.
    """
    lone = served(
        model="Qwen/Qwen3-Coder-30B-A3B-Instruct",
        device="H20",
        input_tokens=65_536.0,
        output_tokens=1.0,
        concurrency=1.0,
        prefix_hit_share=0.999,
    )
    near = ttft_s(lone)[0]
    host = ttft_s(returning(lone, ENOUGH_TOKENS, host=ENOUGH_BYTES))[0]
    store = ttft_s(returning(lone, ENOUGH_TOKENS, store=ENOUGH_BYTES, speed=6.0 * GB))[0]
    assert host - near == pytest.approx(0.27 - 0.11, rel=0.25)
    assert store - near == pytest.approx(0.97 - 0.11, rel=0.30)
    assert (store - near) / (host - near) == pytest.approx(0.86 / 0.16, rel=0.6)


def test_twice_the_hits_save_as_much_as_hicache_published() -> None:
    """Hits from 40 to 80 % made TTFT 56 % shorter: Qwen3-Coder-480B, 25,000 tokens, 3FS.

    https://lmsys.org/blog/2025-09-10-sglang-hicache (Novita AI; the hardware is not stated).
    """
    lone = served(
        model="Qwen/Qwen3-Coder-480B-A35B-Instruct",
        engine="vllm",
        device="H200-SXM",
        tp=8,
        input_tokens=25_000.0,
        output_tokens=1.0,
        concurrency=1.0,
        prefix_hit_share=0.8,
    )
    before = ttft_s(replace(lone, prefix_hit_share=np.array([0.4])))
    after = ttft_s(returning(lone, ENOUGH_TOKENS, store=ENOUGH_BYTES, speed=17.0 * GB))
    assert 1.0 - after[0] / before[0] == pytest.approx(0.56, abs=0.12)


def test_a_long_prompt_gains_less_than_agents_did_under_load() -> None:
    """Hits from 1.7 to 92.2 % made the median TTFT 46 times shorter, queues of requests included.

    https://vllm.ai/blog/mooncake-store, 2026-05-06: Kimi-K2.5 on GB200, contexts of 80,000 tokens.
    One request alone gains 5 to 10 times: it computes 6,000 tokens instead of 79,000. The rest was
    its queue, which is not stated.
    """
    lone = served(
        model="moonshotai/Kimi-K2.5",
        device="GB200",
        tp=4,
        input_tokens=80_000.0,
        output_tokens=1.0,
        concurrency=1.0,
        prefix_hit_share=0.922,
    )
    before = ttft_s(replace(lone, prefix_hit_share=np.array([0.017])))[0]
    after = ttft_s(returning(lone, ENOUGH_TOKENS, store=ENOUGH_BYTES, speed=35.0 * GB))[0]
    assert 5.0 < before / after < 10.0


def test_without_a_store_nothing_changes() -> None:
    """Rows without one, and an empty one, are answered alike."""
    plain = served()
    assert store_tier(plain, memory_use(prepare(plain))).tokens == 0.0
    with_host = replace(returning(plain, 3e6, host=300 * GB), store_bytes=None)
    empty = returning(plain, 3e6, host=300 * GB, store=0.0, speed=35 * GB)
    assert ttft_s(with_host) == ttft_s(empty)
    assert host_tier(empty, memory_use(prepare(empty))).tokens[0] > 0.0


def test_long_prompts_from_files_are_as_much_sooner_as_published() -> None:
    """128,000 tokens of Llama-3-70B on four H100: "almost 20 seconds" (IBM, 26 November 2025).

    Files of llm-d make long prompts up to 16 times as fast (its documentation, which states no
    storage): 42 GB at 40 GB/s take 1.05 s, and the last 1,280 tokens the rest.
    """
    asked = {"tp": 4, "concurrency": 1.0, "input_tokens": 128_000.0, "output_tokens": 2.0}
    long = "meta-llama/Llama-3.1-70B-Instruct"
    computed = ttft_s(served(model=long, **asked, prefix_hit_share=0.0))[0]
    assert computed == pytest.approx(20.0, rel=0.05)
    shared = served(model=long, **asked, prefix_hit_share=0.99)
    read = ttft_s(returning(shared, ENOUGH_TOKENS, store=ENOUGH_BYTES, speed=40 * GB / 4))[0]
    assert 8.0 < computed / read < 16.0
