"""KV cache in host memory in the kernel: what is found there, and what its loads take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.lengths import FixedLength
from budsim.performance.prefixes import PrefixSet, PrefixShare, Sessions
from budsim.performance.serving.replay.runs import run
from budsim.performance.traffic import OpenLoop, Traffic
from tests.performance.serving.replay.kernel_parts import (
    NO_TIER,
    Tier,
    lone,
    replica,
    whole,
)
from tests.performance.serving.replay.stepwise import Scheduler


def first_token_s(traffic: Traffic, tier: Tier, cache_tokens: float = 2_000.0) -> float:
    """Return the mean time to the first token on a device of a small cache."""
    scheduler = Scheduler(kind="mixed", cache_tokens=cache_tokens)
    served = run(replica(scheduler, tier), whole(traffic))[0]
    return float((served.first_s - served.send_s).mean())


def test_a_prefix_on_the_host_is_loaded_instead_of_computed() -> None:
    """900 of 1,000 tokens come from the host at 1 us each: 0.9 ms more than from the device.

    A million tokens of prefixes do not fit the cache of 2,000, and do fit the host.
    """
    host = first_token_s(lone(PrefixSet(share=0.9, tokens=1e6)), (1e9, 1e-6, False))
    device = first_token_s(lone(PrefixShare(share=0.9)), NO_TIER)
    computed = first_token_s(lone(PrefixSet(share=0.9, tokens=1e6)), NO_TIER)
    assert host - device == pytest.approx(900e-6, rel=1e-6)
    assert computed == pytest.approx(first_token_s(lone(PrefixShare()), NO_TIER))
    assert computed > host


def test_a_short_load_hides_behind_the_prompt() -> None:
    """Engines that load layer by layer wait only for a load longer than the step."""
    traffic = lone(PrefixSet(share=0.9, tokens=1e6))
    device = first_token_s(lone(PrefixShare(share=0.9)), NO_TIER)
    assert first_token_s(traffic, (1e9, 1e-9, True)) == pytest.approx(device)
    assert first_token_s(traffic, (1e9, 1e-3, True)) > 0.9


def test_a_host_too_small_for_the_set_finds_part_of_it() -> None:
    """The more the host holds, the sooner the first token comes."""
    traffic = replace(lone(PrefixSet(share=0.9, tokens=1e6)), requests=300)
    found = [first_token_s(traffic, (tokens, 1e-6, False)) for tokens in (0.0, 3e5, 1e6, 1e9)]
    assert found == sorted(found, reverse=True)
    assert found[1] < found[0]
    assert found[3] < found[1]


def test_turns_of_a_session_return_from_the_host() -> None:
    """Turns of many sessions push each other out of the device, and are loaded again."""
    traffic = Traffic(
        arrivals=OpenLoop(requests_per_s=5.0),
        prompt=FixedLength(tokens=300),
        output=FixedLength(tokens=20),
        prefix=Sessions(turns=3, interval_s=20.0),
        requests=200,
    )
    scheduler = Scheduler(kind="mixed", cache_tokens=3_000.0)
    without, with_host = (
        run(replica(scheduler, tier), whole(traffic))[0] for tier in (NO_TIER, (1e9, 1e-6, False))
    )
    assert without.loaded_tokens == 0.0
    # Two of three turns share 320 or 640 tokens.
    assert with_host.loaded_tokens > 0.6 * 200 / 3 * (320 + 640)
    assert with_host.busy_s < without.busy_s


def test_requests_that_load_let_others_pass() -> None:
    """A load of 0.9 s delays its own request, not one that shares nothing."""
    drawn = replace(
        whole(replace(lone(PrefixShare()), requests=2)),
        concurrency=2,
        reused_from=np.array([-3, -1]),
        reused_tokens=np.array([900.0, 0.0]),
        reuse_distance=np.array([1e5, 0.0]),
    )
    tier = replica(Scheduler(kind="mixed", cache_tokens=2_000.0), (1e9, 1e-3, False))
    served = run(tier, drawn)[0]
    assert served.first_s[0] > 0.9
    assert served.first_s[1] < 0.9
