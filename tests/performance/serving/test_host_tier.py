"""KV cache in host memory: what is found where, what it costs, and what was published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.prefixes import PrefixSet, Sessions
from budsim.performance.recorded import Trace
from budsim.performance.serving.arrivals import draw_requests
from budsim.performance.serving.host_tier import found_shares, host_tier
from budsim.performance.traffic import ClosedLoop, FixedLength, Traffic
from tests.performance.serving.returning_prefixes import (
    ENOUGH_BYTES,
    ENOUGH_TOKENS,
    GB,
    assert_closed_form_is_near_replay,
    returning,
    served,
    ttft_s,
)


def test_tokens_of_the_host_and_seconds_of_a_load() -> None:
    """A token of Llama 8B is 131,072 bytes; an H100 loads it at 0.79 x 63 GB/s."""
    table = returning(served(), 1e6, 131_072 * 1000.0)
    found = host_tier(table, memory_use(prepare(table)))
    assert found.tokens == pytest.approx(1000.0)
    assert found.token_s == pytest.approx(131_072 / (0.79 * 63 * GB))


def test_two_devices_load_their_halves_at_once() -> None:
    """Each of two ranks holds and loads half of a token."""
    table = returning(served(tp=[1, 2]), 1e6, 131_072 * 1000.0)
    found = host_tier(table, memory_use(prepare(table)))
    assert found.token_s[1] == pytest.approx(found.token_s[0] / 2.0)
    assert found.tokens[1] == pytest.approx(2 * found.tokens[0])


def test_an_engine_that_needs_more_on_the_host_has_none_below() -> None:
    """SGLang's host pool has to be larger than the device's; vLLM's may be smaller."""
    small = 1.0 * GB
    for engine, there in (("vllm", True), ("sglang", False)):
        table = returning(served(engine), 1e6, small)
        assert (host_tier(table, memory_use(prepare(table))).tokens[0] > 0) == there


def test_a_cache_holds_the_share_of_the_set_it_has_room_for() -> None:
    """Where nothing else is written, 1 / 4 of a set four times as large as the room."""
    table = served(prefix_hit_share=1.0, output_tokens=1e-6, concurrency=1.0)
    memory = memory_use(prepare(table))
    room = float(memory.kv_running_tokens[0]) - 8000.0
    found = found_shares(returning(table, 4.0 * room, 0.0), memory)
    assert found.device == pytest.approx(0.25, abs=1e-3)
    assert found.host == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("room", [2e5, 6e5, 9e5])
def test_the_share_is_that_of_a_cache_that_drops_the_oldest(room: float) -> None:
    """Within two points of a cache simulated use by use, where requests leave 150 tokens each.

    1,000 prefixes of 1,000 tokens: the reuse distances that requests are drawn with agree, too.
    """
    rng, kept, hits, used = np.random.default_rng(0), {}, 0, 0.0
    for number in range(20_000):
        for key, tokens in ((int(rng.integers(1000)), 1000.0), (-number - 1, 150.0)):
            hits += key in kept and number >= 10_000
            used -= kept.pop(key, 0.0)
            kept[key] = tokens
            used += tokens
            while used > room:
                used -= kept.pop(next(iter(kept)))
    table = served(input_tokens=1050.0, output_tokens=100.0, prefix_hit_share=1000 / 1050)
    memory = replace(memory_use(prepare(table)), kv_running_tokens=np.zeros(1))
    host = returning(table, 1e6, room * float(memory.kv_bytes_per_token[0]))
    assert found_shares(host, memory).all[0] == pytest.approx(hits / 10_000, abs=0.02)
    traffic = Traffic(
        arrivals=ClosedLoop(concurrency=1),
        prompt=FixedLength(tokens=1050),
        output=FixedLength(tokens=100),
        prefix=PrefixSet(share=1000 / 1050, tokens=1e6),
        requests=10_000,
    )
    distance = draw_requests(traffic).reuse_distance
    assert distance is not None
    assert (distance <= room).mean() == pytest.approx(hits / 10_000, abs=0.02)


def test_the_host_finds_what_the_device_dropped() -> None:
    """Both together find all of a set that the host holds."""
    table = returning(served(), 5e6, ENOUGH_BYTES)
    found = found_shares(table, memory_use(prepare(table)))
    assert found.all == pytest.approx(1.0, abs=1e-3)
    assert 0.0 < found.device[0] < 0.2


def test_without_a_set_prefixes_are_always_found() -> None:
    """A share alone says nothing of sizes."""
    table = served()
    assert found_shares(table, memory_use(prepare(table))).device == 1.0


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("host_gib", [0.0, 300.0, 3000.0])
def test_closed_form_and_replay_agree(engine: str, host_gib: float) -> None:
    """TTFT and TPOT within 25 %, for a set larger than the device."""
    table = returning(served(engine), 3e6, host_gib * 2**30)
    assert_closed_form_is_near_replay(table, set_tokens=3e6)


def test_more_host_memory_never_answers_later() -> None:
    """TTFT falls as more of the set is held."""
    sizes = [ttft_s(returning(served(), 5e6, gib * 2**30))[0] for gib in (0, 100, 500, 2000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.5 * sizes[0]


def test_a_busy_link_delays_requests() -> None:
    """No turn is shorter than the loads of all requests in flight after one another."""
    table = returning(served(concurrency=[1.0, 400.0], output_tokens=2.0), 1e9, ENOUGH_BYTES)
    memory, found = AnalyticPredictor().predict(table)
    each_s = 7200.0 * host_tier(table, memory).token_s
    assert found.service.e2e_s[1] >= 0.99 * 400 * each_s[1]


def test_loading_is_as_much_faster_as_vllm_published() -> None:
    """2 to 22 times, by prompt length: Llama-3.1-8B, an H100, one request.

    https://blog.vllm.ai/2026/01/08/kv-offloading-connector.html, figure 1 (lengths unlabelled).
    """
    lengths = [2048.0, 8192.0, 32768.0, 100_000.0]
    lone = served(input_tokens=lengths, output_tokens=1.0, concurrency=1.0, prefix_hit_share=1.0)
    computed = ttft_s(replace(lone, prefix_hit_share=np.zeros(len(lengths))))
    ratio = computed / ttft_s(returning(lone, ENOUGH_TOKENS, ENOUGH_BYTES))
    assert (np.diff(ratio) > 0).all()
    assert 1.5 < ratio[0] < 4.0
    assert 10.0 < ratio[-1] < 30.0


def test_hits_save_as_much_as_hicache_published() -> None:
    """Cache hits of DeepSeek-R1 make TTFT 84 % shorter than computing.

    https://lmsys.org/blog/2025-09-10-sglang-hicache (Ant Group; lengths and hardware not stated).
    """
    lone = served(
        model="deepseek-ai/DeepSeek-R1",
        engine="sglang",
        device="H200-SXM",
        input_tokens=[8192.0, 32768.0],
        output_tokens=1.0,
        concurrency=1.0,
        prefix_hit_share=0.95,
    )
    computed = ttft_s(replace(lone, prefix_hit_share=np.zeros(2)))
    saved = 1.0 - ttft_s(returning(lone, ENOUGH_TOKENS, ENOUGH_BYTES)) / computed
    assert saved[0] < 0.84 < saved[1]
    assert saved[0] > 0.7


def test_sets_of_conversations_and_traces() -> None:
    """What a replica writes between two uses: at 2 requests/s for 30 s, 120 tokens each."""
    talks = Traffic.at_rate(requests_per_s=2.0, input_tokens=100, output_tokens=20)
    talks = replace(talks, prefix=Sessions(turns=4, interval_s=30.0))
    assert talks.prefix_set_tokens() == pytest.approx(2 * 30 * 120)
    assert talks.prefix_set_tokens(4) == pytest.approx(2 * 30 * 120 / 4)
    trace = Trace(
        send_s=np.arange(3.0),
        prompt_tokens=np.array([100, 50, 150]),
        output_tokens=np.array([10, 10, 10]),
        reused_from=np.array([-1, -1, 0]),
        reused_tokens=np.array([0, 0, 100]),
    )
    # Between the first and the third: 60 tokens of the second and 60 of its own.
    assert replace(talks, arrivals=trace).prefix_set_tokens() == pytest.approx(2 * 120)
    assert talks.unshared_tokens == 0.0


def test_a_router_by_prefix_divides_the_set() -> None:
    """Each of four replicas meets a quarter of the prefixes, and all of them else."""
    every = Traffic.at_rate(requests_per_s=8.0, input_tokens=100, output_tokens=20)
    for by_prefix, tokens in ((False, 1e6), (True, 2.5e5)):
        prefix = PrefixSet(share=0.5, tokens=1e6, by_prefix=by_prefix)
        traffic = replace(every, prefix=prefix)
        assert traffic.prefix_set_tokens(4) == tokens
        assert traffic.shared_by(4).prefix_set_tokens() == tokens
