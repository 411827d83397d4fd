"""Sums, exchanges with experts and hops of one step, of the toy model of `by_hand`.

Hidden size 1000; a device sends 1 GB/s to its peers.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.precision import Precision
from budsim.performance.physics.ranks import prepare
from tests.performance.by_hand import (
    DEVICE,
    EXPERTS,
    constants,
    model,
    operator,
    ranks,
)
from tests.performance.populations import population

MS, US = 1e-3, 1e-6


@pytest.mark.parametrize(("tp", "milliseconds"), [(1, 0.0), (2, 4.0), (4, 6.0), (8, 7.0)])
def test_two_all_reduces_a_layer_send_twice_the_message(tp: int, milliseconds: float) -> None:
    """1000 tokens x 1000 values x 2 B = 2 MB; n ranks send 2 (n - 1) / n of it at 1 GB/s, twice.

    Two ranks: 2 x 2 MB x 2 x 1/2 / 1 GB/s = 4 ms. Four: 2 x 2 MB x 2 x 3/4 = 6 ms.
    """
    reduced = operator(ranks(tp=tp), "all-reduces", prefill=1000).link_s
    assert reduced == pytest.approx(milliseconds * MS)


@pytest.mark.parametrize(("tokens", "microseconds"), [(2, 2 * (10 + 12)), (100, 2 * (20 + 300))])
def test_small_messages_are_sent_whole_to_all_ranks(tokens: int, microseconds: float) -> None:
    """Four ranks, 2,000 B a token, 1 GB/s: 2 tokens take 10 us and 3 x 4 us, sent whole.

    In parts they would take 20 us and 1.5 x 4 us; 100 tokens take 20 us and 1.5 x 200 us so.
    """
    kernels = constants(all_reduce_latency_s=10e-6, all_reduce_depth=0.0)
    reduced = operator(ranks(kernels=kernels, tp=4), "all-reduces", prefill=tokens)
    assert reduced.link_s == pytest.approx(microseconds * US)


def test_each_layer_reduces() -> None:
    """Five layers of 4 ms: 20 ms."""
    five = operator(ranks(model(layers=5), tp=2), "all-reduces", prefill=1000)
    assert five.link_s == pytest.approx(20 * MS)


@pytest.mark.parametrize(("depth", "microseconds"), [(1.0, 60.0), (0.0, 20.0)])
def test_the_latency_of_an_all_reduce_follows_its_tree(depth: float, microseconds: float) -> None:
    """Eight ranks: 2 x 10 us x log2(8) = 60 us along a tree; 2 x 10 us where all write at once."""
    kernels = constants(all_reduce_latency_s=10e-6, all_reduce_depth=depth)
    reduced = operator(ranks(tp=8, kernels=kernels), "all-reduces", decode=1e-9)
    assert reduced.link_s == pytest.approx(microseconds * US, rel=1e-6)


def test_stages_hand_hidden_states_on() -> None:
    """Three stages: 2 hops x (5 us + 2 MB / 1 GB/s) = 4.01 ms; one stage: none."""
    kernels = constants(hop_latency_s=5e-6)
    three, one = (
        operator(ranks(pp=pp, kernels=kernels), "pipeline hops", prefill=1000).link_s
        for pp in (3, 1)
    )
    assert three == pytest.approx(4.01 * MS)
    assert one == 0.0


def test_wide_experts_exchange_tokens_instead_of_summing() -> None:
    """16 ranks of one link domain, a token each: 3 B x 2 experts x 1000 = 6 kB at 0.5 GB/s: 12 us.

    Two all-reduces of 16 tokens would send 2 x 2 x 15 / 16 x 32 kB in 240 us.
    """
    link = replace(DEVICE.scale_up, bandwidth_bytes_per_s=0.5e9, domain_devices=16)
    rack = replace(DEVICE, scale_up=link)
    experts = model(feed_forward=EXPERTS)
    wide, summed = (
        operator(ranks(experts, rack, tp=16, ep=16, dp=dp), "all-reduces", decode=16)
        for dp in (16, 8)
    )
    assert wide.link_s == pytest.approx(12 * US)
    assert summed.link_s == pytest.approx(240 * US)


def test_tokens_travel_to_experts_on_other_nodes_and_back() -> None:
    """DeepSeek-R1 on two nodes of eight H100, 128 tokens a device, attention on each device alone.

    128 x 8 experts x 7,168 values x 1/2 remote = 3.67 MB in FP8 and 7.34 MB back at 50 GB/s: 220
    us, and 2 x 45 us to send. DeepEP measured 118 + 195 us. 58 layers with experts.
    """
    table = population(
        model="deepseek-ai/DeepSeek-R1",
        device="H100-SXM",
        precision=Precision.FP8,
        tp=16,
        ep=16,
        dp=16,
    )
    found = operator(prepare(table), "all-reduces", decode=128 * 16)
    each = 128 * 8 * 7168 * 0.5 * 3 / 50e9 + 90e-6
    assert found.link_s == pytest.approx(58 * each)
    assert pytest.approx(each, rel=0.05) == 118 * US + 195 * US
