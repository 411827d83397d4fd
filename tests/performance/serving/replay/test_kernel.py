"""The kernel against a simulator that takes every step, and the laws of queues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.performance.lengths import FixedLength, UniformLength
from budsim.performance.prefixes import Prefix, PrefixSet, PrefixShare, Sessions, SharedPrefixes
from budsim.performance.serving.arrivals import draw_requests
from budsim.performance.serving.replay.runs import Run, run
from budsim.performance.serving.replay.scheduling import Router
from budsim.performance.traffic import Arrivals, ClosedLoop, OpenLoop, Process, Start, Traffic
from tests.performance.serving.replay.kernel_parts import (
    KINDS,
    NO_STORE,
    NO_TIER,
    SHARINGS,
    STEP_S,
    TOKEN_S,
    Store,
    Tier,
    lone,
    replica,
    seconds,
    whole,
)
from tests.performance.serving.replay.stepwise import Outcome, Scheduler, Simulator

CLOSED = Traffic.closed(concurrency=24, input_tokens=600, output_tokens=80)
CLOSED = replace(
    CLOSED,
    prompt=UniformLength(low=100, high=1100),
    output=UniformLength(low=20, high=140),
    requests=300,
)
OPEN = replace(CLOSED, arrivals=OpenLoop(requests_per_s=12.0))
BURSTS = replace(CLOSED, arrivals=OpenLoop(requests_per_s=10.0, process=Process.BURST, variation=6))
SHARED = replace(CLOSED, prefix=SharedPrefixes(groups=60, tokens=90))
POOLING = replace(CLOSED, output=FixedLength(tokens=0))


def both(traffic: Traffic, scheduler: Scheduler) -> tuple[Outcome, Run]:
    """Serve the same requests step by step and with the kernel."""
    drawn = whole(traffic)
    slow = Simulator(drawn, scheduler, seconds).run()
    return slow, run(replica(scheduler), drawn)[0]


def figures(values: np.ndarray) -> np.ndarray:
    """Return mean, p50, p90 and p99."""
    return np.array([values.mean(), *np.quantile(values, [0.5, 0.9, 0.99])])


SHORT = 9_000.0
"""Cache tokens that hold about twelve of the requests."""
CASES = {
    "vLLM": (CLOSED, Scheduler()),
    "vLLM at a rate": (OPEN, Scheduler()),
    "vLLM with few places": (CLOSED, Scheduler(places=8)),
    "vLLM with small steps": (CLOSED, Scheduler(budget=256)),
    "vLLM without chunks": (CLOSED, Scheduler(whole_prompts=True, budget=1200)),
    "vLLM with a short cache": (CLOSED, Scheduler(cache_tokens=SHORT)),
    "vLLM at a rate with a short cache": (OPEN, Scheduler(cache_tokens=SHORT)),
    "vLLM with hits": (replace(OPEN, prefix=PrefixShare(share=0.6)), Scheduler()),
    "vLLM that looks now and then": (CLOSED, Scheduler(receive_steps=20.0)),
    "few requests of an engine that looks now and then": (
        replace(CLOSED, arrivals=ClosedLoop(concurrency=2)),
        Scheduler(receive_steps=40.0),
    ),
    "TensorRT-LLM": (CLOSED, Scheduler(reserves_output=True, whole_prompts=True)),
    "TensorRT-LLM with a short cache": (
        CLOSED,
        Scheduler(reserves_output=True, cache_tokens=SHORT),
    ),
    "SGLang": (CLOSED, Scheduler(kind="prefill_first")),
    "SGLang at a rate": (OPEN, Scheduler(kind="prefill_first")),
    "SGLang with small steps": (CLOSED, Scheduler(kind="prefill_first", budget=256)),
    "SGLang with a short cache": (CLOSED, Scheduler(kind="prefill_first", cache_tokens=SHORT)),
    "static batches": (CLOSED, Scheduler(kind="static", places=8)),
    "two ranks": (CLOSED, Scheduler(ranks=2, places=8)),
    "two ranks with short caches": (CLOSED, Scheduler(ranks=2, cache_tokens=SHORT / 2)),
    "three ranks, least load": (BURSTS, Scheduler(ranks=3, places=8, router="least_load")),
    "three ranks that know prefixes": (
        replace(OPEN, prefix=SharedPrefixes(groups=6, tokens=90)),
        Scheduler(ranks=3, places=8, router="prefix_aware"),
    ),
    "three ranks of which some are idle": (
        replace(OPEN, arrivals=OpenLoop(requests_per_s=5.0)),
        Scheduler(ranks=3),
    ),
    "bursts": (BURSTS, Scheduler()),
    "results seen at once": (CLOSED, Scheduler(lag=0)),
    "results seen two steps later": (OPEN, Scheduler(lag=2)),
    "a host slower than the device": (OPEN, Scheduler(request_s=0.07)),
    "a pooling model": (POOLING, Scheduler(whole_prompts=True)),
    "a pooling model at a rate": (
        replace(POOLING, arrivals=OpenLoop(requests_per_s=20.0)),
        Scheduler(whole_prompts=True),
    ),
    "sessions": (replace(OPEN, prefix=Sessions(turns=4, interval_s=3.0)), Scheduler()),
    "vLLM with one prefix on two ranks": (SHARED, Scheduler(ranks=2, sharing="as_scheduled")),
    "vLLM with a shared prefix in small steps": (
        SHARED,
        Scheduler(budget=256, sharing="as_scheduled"),
    ),
    "SGLang with a shared prefix in small steps": (
        SHARED,
        Scheduler(kind="prefill_first", budget=256, sharing="after_step"),
    ),
    "SGLang at a rate with a short cache": (
        OPEN,
        Scheduler(kind="prefill_first", cache_tokens=SHORT),
    ),
    "static batches at a rate": (OPEN, Scheduler(kind="static", places=8)),
}


@pytest.mark.parametrize(("traffic", "scheduler"), CASES.values(), ids=CASES.keys())
def test_the_kernel_agrees_with_taking_every_step(traffic: Traffic, scheduler: Scheduler) -> None:
    """Mean, p50, p90 and p99 of TTFT and E2E, and the mean gap, are within 1 %."""
    slow, fast = both(traffic, scheduler)
    assert figures(fast.first_s - fast.send_s) == pytest.approx(figures(slow.ttft), rel=0.01)
    assert figures(fast.done_s - fast.send_s) == pytest.approx(figures(slow.e2e), rel=0.01)
    assert fast.gap_counts.sum() == len(slow.gaps)
    if len(slow.gaps):
        mean = fast.gap_sums_s.sum() / fast.gap_counts.sum()
        assert mean == pytest.approx(slow.gaps.mean(), rel=0.01)


def test_stages_of_a_pipeline_are_batches_of_their_own() -> None:
    """Two stages serve as two replicas of which each gets every second request."""
    served, drawn = replica(Scheduler(places=8)), whole(OPEN)
    both_lanes = replace(served.schedulers, lanes=np.array([2]))
    fast = run(replace(served, schedulers=both_lanes), drawn)
    for lane, found in enumerate(fast):
        mine = slice(lane, None, 2)
        alone = replace(
            drawn,
            send_s=drawn.send_s[mine],
            prompt_tokens=drawn.prompt_tokens[mine],
            output_tokens=drawn.output_tokens[mine],
            reused_from=drawn.reused_from[mine],
            reused_tokens=drawn.reused_tokens[mine],
        )
        slow = Simulator(alone, Scheduler(places=8), seconds).run()
        assert figures(found.first_s - found.send_s) == pytest.approx(figures(slow.ttft), rel=0.01)
        assert figures(found.done_s - found.send_s) == pytest.approx(figures(slow.e2e), rel=0.01)


def test_a_short_cache_preempts_in_both() -> None:
    """Requests are preempted, about as often."""
    slow, fast = both(*CASES["vLLM with a short cache"])
    assert slow.preemptions > 20
    assert fast.preemptions == pytest.approx(slow.preemptions, rel=0.1)


ONE_BY_ONE = replace(
    Traffic.closed(concurrency=1, input_tokens=1000, output_tokens=10),
    prefix=SharedPrefixes(groups=8, tokens=900),
    requests=100,
)
"""One request at a time; eight prefixes, of which a cache of 3,000 tokens keeps about three."""


@pytest.mark.parametrize("room", [3_000.0, 30_000.0])
def test_a_prefix_is_a_hit_until_others_need_its_room(room: float) -> None:
    """Both simulators agree on how often a prefix is found, with room for three and for thirty."""
    slow, fast = both(ONE_BY_ONE, Scheduler(cache_tokens=room))
    assert figures(fast.first_s - fast.send_s) == pytest.approx(figures(slow.ttft), rel=0.01)


def test_a_cache_that_drops_prefixes_computes_them_again() -> None:
    """With room for all eight prefixes nine of ten prompts are hits; with room for three, fewer."""
    ample = both(ONE_BY_ONE, Scheduler(cache_tokens=30_000.0))[1]
    short = both(ONE_BY_ONE, Scheduler(cache_tokens=3_000.0))[1]
    never = both(replace(ONE_BY_ONE, prefix=PrefixShare()), Scheduler())[1]
    assert ample.busy_s < 0.9 * short.busy_s
    assert short.busy_s < 0.98 * never.busy_s


@pytest.mark.parametrize(
    ("kind", "sharing", "computed"),
    [
        # The second waits for no token of the first: 900 of its 1,000 are shared at once.
        ("mixed", "as_scheduled", 1_100.0),
        # 512 tokens of the first are known when its rest and the second are put into one step.
        ("prefill_first", "after_step", 2_000.0 - 512.0),
        # Nothing is known before the first token of the first.
        ("mixed", "after_prompt", 2_000.0),
    ],
)
def test_a_prompt_in_prefill_is_shared_by_each_engine_s_rule(
    kind: str, sharing: str, computed: float
) -> None:
    """Two prompts of 1,000 tokens at once, 900 alike, in steps of 512: three or four steps."""
    traffic = Traffic(
        arrivals=ClosedLoop(concurrency=2, start=Start.AT_ONCE),
        prompt=FixedLength(tokens=1_000),
        output=FixedLength(tokens=1),
        prefix=SharedPrefixes(groups=1, tokens=900),
        requests=2,
    )
    scheduler = Scheduler(kind=kind, sharing=sharing, budget=512.0, request_s=0.0, token_s=0.0)
    slow, fast = both(traffic, scheduler)
    steps = np.ceil(computed / 512.0)
    assert fast.steps == slow.steps == steps
    # Looking back at earlier tokens takes 10 ns each, the rest 40 us a token and 5 ms a step.
    assert fast.busy_s == pytest.approx(steps * STEP_S + computed * TOKEN_S, rel=0.25)
    assert fast.busy_s == pytest.approx(float((slow.e2e).max()), rel=1e-6)


def test_a_prefix_computed_on_the_own_rank_is_found_whoever_ran_last() -> None:
    """Three requests alike take turns on two ranks: the third finds what the first computed.

    Its source, the second, ran on the other rank.
    """
    drawn = whole(replace(lone(SharedPrefixes(groups=1, tokens=900)), requests=3))
    served = run(replica(Scheduler(ranks=2, router="in_turn")), drawn)[0]
    first, second, third = served.first_s - served.send_s
    assert second == pytest.approx(first)
    assert third < 0.5 * first


def test_a_prefix_that_was_found_counts_as_held() -> None:
    """A lone request with a hit of 900 tokens holds 1,000 and more, as one without does."""
    served = run(replica(Scheduler(cache_tokens=30_000.0)), draw_requests(ONE_BY_ONE))[0]
    late = served.cached_tokens[len(served.cached_tokens) // 2 : -5]
    assert 900.0 < np.median(late) < 1_020.0


def test_a_prefix_that_several_share_is_held_once() -> None:
    """Eight requests of 1,000 tokens share 900: about 900 + 8 x (100 + 10 + 8) tokens, not 8144."""
    traffic = replace(
        Traffic.closed(concurrency=8, input_tokens=1000, output_tokens=10),
        prefix=SharedPrefixes(groups=1, tokens=900),
        requests=200,
    )
    served = run(replica(Scheduler(places=8)), draw_requests(traffic))[0]
    late = served.cached_tokens[len(served.cached_tokens) // 2 :]
    assert 900 <= late.max() <= 900 + 8 * 118
    assert served.peak_cached_tokens >= late.max()


def test_gaps_longer_than_a_step_are_seen_where_prompts_stall_decoding() -> None:
    """SGLang's p99 gap is a stall of several steps; its histogram has it within 3 %."""
    slow, fast = both(*CASES["SGLang with small steps"])
    edges = np.cumsum(fast.gap_counts) / fast.gap_counts.sum()
    at = int(np.searchsorted(edges, 0.99))
    p99 = fast.gap_sums_s[at] / fast.gap_counts[at]
    assert p99 == pytest.approx(np.quantile(slow.gaps, 0.99), rel=0.03)
    assert p99 > 3.0 * np.median(slow.gaps)


schedulers = st.builds(
    Scheduler,
    kind=st.sampled_from(list(KINDS)),
    budget=st.sampled_from([16.0, 100.0, 512.0, 8192.0]),
    places=st.integers(1, 40),
    cache_tokens=st.sampled_from([200.0, 1_500.0, 4_000.0, 1e7]),
    block_tokens=st.sampled_from([1.0, 16.0, 128.0]),
    reserves_output=st.booleans(),
    whole_prompts=st.booleans(),
    sharing=st.sampled_from(SHARINGS),
    lag=st.integers(0, 3),
    receive_steps=st.sampled_from([0.0, 7.0, 30.0]),
    ranks=st.integers(1, 3),
)
loads = st.one_of(
    st.builds(lambda c: ClosedLoop(concurrency=c), st.integers(1, 70)),
    st.builds(
        lambda rate, process: OpenLoop(requests_per_s=rate, process=process, variation=4.0),
        st.floats(0.1, 100.0),
        st.sampled_from(list(Process)),
    ),
)
prefixes = st.one_of(
    st.builds(PrefixShare, share=st.sampled_from([0.0, 0.5, 1.0])),
    st.builds(SharedPrefixes, groups=st.integers(1, 9), tokens=st.integers(0, 900)),
    st.builds(Sessions, turns=st.integers(1, 4), interval_s=st.floats(0.1, 20.0)),
    st.builds(PrefixSet, share=st.just(0.5), tokens=st.sampled_from([1e3, 1e5])),
)
tiers = st.sampled_from([NO_TIER, (1e3, 1e-4, False), (1e9, 1e-3, False), (1e9, 1e-3, True)])
stores = st.sampled_from([NO_STORE, (1e3, 1e-4), (1e9, 1e-3)])


@given(
    scheduler=schedulers,
    arrivals=loads,
    prefix=prefixes,
    router=st.sampled_from(list(Router)),
    tier=tiers,
    store=stores,
)
@settings(max_examples=150, deadline=None)
def test_every_request_of_any_traffic_ends(
    scheduler: Scheduler,
    arrivals: Arrivals,
    prefix: Prefix,
    router: Router,
    tier: Tier,
    store: Store,
) -> None:
    """L19: whatever the limits, all tokens are generated, and nothing is held at the end."""
    traffic = replace(CLOSED, arrivals=arrivals, prefix=prefix, requests=80, warmup=0)
    drawn = replace(draw_requests(traffic), measured_from=0, measured_to=1 << 40)
    served = run(replace(replica(scheduler, tier, store), router=router), drawn)[0]
    assert (served.send_s <= served.admitted_s).all()
    assert (served.admitted_s < served.first_s).all()
    assert (served.first_s <= served.done_s).all()
    assert served.gap_counts.sum() == pytest.approx((served.output_tokens - 1.0).sum())
    assert served.end_s == pytest.approx(served.done_s.max())
    assert 0.0 < served.busy_s <= served.end_s - served.send_s[0] + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_ends_once_and_in_order(kind: str) -> None:
    """L19: sent <= admitted < first <= done; the places are never exceeded."""
    scheduler = Scheduler(kind=kind, places=8, cache_tokens=SHORT)
    served = both(CLOSED, scheduler)[1]
    assert (served.send_s <= served.admitted_s).all()
    assert (served.admitted_s < served.first_s).all()
    assert (served.first_s <= served.done_s).all()
    running = served.admitted_s[:, None] < served.done_s[None, :]
    running &= served.admitted_s[:, None] >= served.admitted_s[None, :]
    assert running.sum(axis=1).max() <= 8
    several = served.output_tokens > 1.0
    assert served.gap_counts.sum() == (served.output_tokens[several] - 1.0).sum()


@pytest.mark.parametrize("traffic", [CLOSED, OPEN], ids=["closed", "open"])
def test_littles_law_holds_for_the_timeline(traffic: Traffic) -> None:
    """L19: the mean number in the system over time is the rate times the mean time in it."""
    served = run(replica(Scheduler(places=16)), whole(replace(traffic, requests=2000)))[0]
    inside = (served.running + served.waiting).mean()
    span = served.end_s - served.send_s[0]
    expected = (served.done_s - served.send_s).sum() / span
    assert inside == pytest.approx(expected, rel=0.03)


def test_no_step_with_prompts_is_shorter_than_its_launches() -> None:
    """A prompt of 100 tokens takes the device 9.05 ms; the host launches its layers in 50 ms."""
    slow = replica(Scheduler())
    launched = replace(slow.tables, prompt_step_floor_s=np.array([0.05]))
    traffic = Traffic(
        arrivals=ClosedLoop(concurrency=1, start=Start.AT_ONCE),
        prompt=FixedLength(tokens=100),
        output=FixedLength(tokens=2),
        requests=1,
    )
    requests = draw_requests(traffic)
    fast, floored = (run(each, requests)[0] for each in (slow, replace(slow, tables=launched)))
    assert fast.first_s[0] - fast.admitted_s[0] == pytest.approx(9.05e-3)
    assert floored.first_s[0] - floored.admitted_s[0] == pytest.approx(50e-3)
    assert floored.done_s[0] - floored.first_s[0] == pytest.approx(fast.done_s[0] - fast.first_s[0])


def test_tokens_wait_behind_requests_that_are_being_read() -> None:
    """Ten requests at once, each read in 0.1 s: the first token leaves when all are read."""
    traffic = Traffic(
        arrivals=ClosedLoop(concurrency=10, start=Start.AT_ONCE),
        prompt=FixedLength(tokens=100),
        output=FixedLength(tokens=2),
        requests=10,
    )
    served = both(traffic, Scheduler(request_s=0.1, token_s=0.0))[1]
    assert served.first_s[0] == pytest.approx(1.0)
    assert served.admitted_s[0] == pytest.approx(0.1)
    assert served.first_s[9] > 1.0


def test_an_engine_gets_no_request_of_a_burst_before_all_are_prepared() -> None:
    """Of 0.1 s a request, 0.08 s come before any is handed over: the first enters at 0.82 s."""
    traffic = Traffic(
        arrivals=ClosedLoop(concurrency=10, start=Start.AT_ONCE),
        prompt=FixedLength(tokens=100),
        output=FixedLength(tokens=2),
        requests=10,
    )
    served = both(traffic, Scheduler(request_s=0.1, burst_s=0.08, token_s=0.0))[1]
    assert served.admitted_s[0] == pytest.approx(10 * 0.08 + 0.02)
    assert served.first_s[0] == pytest.approx(1.0)


def test_no_step_is_shorter_than_its_launches_in_eager_mode() -> None:
    """A lone sequence takes the device 5.1 ms a token; the host launches its layers in 20 ms."""
    slow = replica(Scheduler())
    launched = replace(slow.tables, step_floor_s=np.array([0.02]))
    traffic = Traffic(
        arrivals=ClosedLoop(concurrency=1, start=Start.AT_ONCE),
        prompt=FixedLength(tokens=100),
        output=FixedLength(tokens=11),
        requests=1,
    )
    served = run(replace(slow, tables=launched), draw_requests(traffic))[0]
    assert served.done_s[0] - served.first_s[0] == pytest.approx(10 * 20e-3)
