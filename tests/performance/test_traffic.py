"""Traffic as a value: what it derives, how it is divided, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.lengths import FixedLength
from budsim.performance.prefixes import PrefixShare, Sessions, SharedPrefixes
from budsim.performance.recorded import Trace, part_of_trace
from budsim.performance.traffic import (
    LEAST_RATE,
    ClosedLoop,
    OpenLoop,
    Process,
    Start,
    Traffic,
    parse_arrival,
)

CLOSED = Traffic.closed(concurrency=17, input_tokens=1000, output_tokens=200)
OPEN = Traffic.at_rate(requests_per_s=6.0, input_tokens=1000, output_tokens=200)


def trace(**columns: list[float]) -> Trace:
    """Return a trace of four requests, one a second."""
    chosen = {
        "send_s": [0.0, 1.0, 2.0, 3.0],
        "prompt_tokens": [100, 200, 300, 400],
        "output_tokens": [10, 20, 30, 40],
        "reused_from": [-1, 0, 0, 1],
        "reused_tokens": [0, 50, 60, 70],
        **columns,
    }
    times = np.array(chosen.pop("send_s"), dtype=np.float64)
    whole = {name: np.array(values, dtype=np.int64) for name, values in chosen.items()}
    return Trace(send_s=times, **whole)


def traced(recorded: Trace) -> Traffic:
    """Return traffic of a trace."""
    return Traffic(arrivals=recorded, prompt=FixedLength(tokens=250), output=FixedLength(tokens=25))


def test_a_closed_loop_has_a_concurrency_and_no_rate() -> None:
    """The server decides the rate of a closed loop."""
    assert (CLOSED.concurrency, CLOSED.is_open) == (17, False)
    assert math.isnan(CLOSED.rate)


def test_an_open_loop_has_a_rate_and_no_concurrency() -> None:
    """The server decides how many requests of an open loop are in flight."""
    assert (OPEN.rate, OPEN.concurrency, OPEN.is_open) == (6.0, 0, True)


def test_replicas_share_the_traffic() -> None:
    """17 requests over 2 replicas: the fuller one has 9; 6 requests/s over 3: 2 each."""
    assert CLOSED.shared_by(2).concurrency == 9
    assert OPEN.shared_by(3).rate == 2.0
    assert OPEN.at(LEAST_RATE).shared_by(3).rate == LEAST_RATE


def test_a_replica_of_two_gets_every_second_request_of_a_trace() -> None:
    """Requests 0 and 2 stay; 2 still shares with 0, which is now its neighbour."""
    part = traced(trace()).shared_by(2).arrivals
    assert isinstance(part, Trace)
    assert part.prompt_tokens.tolist() == [100, 300]
    assert part.reused_from.tolist() == [-1, 0]
    assert part.reused_tokens.tolist() == [0, 60]


def test_a_part_of_a_trace_finds_what_its_own_requests_share() -> None:
    """Each request repeats the one before it: request 4 of replica 0 finds what request 2 left.

    Of a chain with a short link only that much is shared: 60 tokens where 80 came from between.
    """
    chain = Trace(
        send_s=np.arange(6.0),
        prompt_tokens=np.full(6, 100),
        output_tokens=np.full(6, 10),
        reused_from=np.arange(6) - 1,
        reused_tokens=np.array([0, 60, 80, 80, 80, 80]),
    )
    part = part_of_trace(chain, 2)
    assert part.reused_from.tolist() == [-1, 0, 1]
    assert part.reused_tokens.tolist() == [0, 60, 80]
    assert part.far_tokens is not None
    assert part.far_tokens.tolist() == [0, 80, 0]
    third = part_of_trace(chain, 3)
    assert third.reused_from.tolist() == [-1, 0]
    assert third.reused_tokens.tolist() == [0, 60]


def test_a_trace_at_twice_the_rate_takes_half_the_time() -> None:
    """Four requests a second apart come at 1 request/s; at 2 they are half a second apart."""
    faster = traced(trace()).at(2.0)
    assert faster.rate == pytest.approx(2.0)
    assert isinstance(faster.arrivals, Trace)
    assert faster.arrivals.send_s.tolist() == [0.0, 0.5, 1.0, 1.5]


def test_a_closed_loop_cannot_be_given_a_rate() -> None:
    """The error says what could."""
    with pytest.raises(InvalidInput, match="rate"):
        CLOSED.at(1.0)


def test_hits_of_shared_prefixes_are_their_part_of_a_prompt() -> None:
    """800 shared tokens of a prompt of 1000 are 80 %."""
    assert replace(OPEN, prefix=SharedPrefixes(groups=3, tokens=800)).prefix_hit_share == 0.8


def test_a_session_grows_turn_by_turn() -> None:
    """Three turns of 100 new and 20 generated tokens: prompts of 100, 220 and 340 tokens."""
    chat = Traffic(
        arrivals=ClosedLoop(concurrency=1),
        prompt=FixedLength(tokens=100),
        output=FixedLength(tokens=20),
        prefix=Sessions(turns=3),
    )
    assert chat.input_tokens == 220
    assert chat.prefix_hit_share == pytest.approx(1 - 300 / 660)
    assert chat.context_tokens == 360


def test_the_longest_request_of_a_trace_counts_prompt_and_output_together() -> None:
    """The last request has 400 + 40 tokens."""
    assert traced(trace()).context_tokens == 440


def test_a_trace_shows_which_share_of_its_prompts_is_reused() -> None:
    """50 + 60 + 70 of 1000 prompt tokens."""
    assert traced(trace()).prefix_hit_share == pytest.approx(0.18)


def test_a_steady_loop_leaves_its_first_waves_out() -> None:
    """17 requests are partly served already, and 17 meet them; a benchmark counts all of them."""
    assert CLOSED.run_warmup == 34
    at_once = replace(CLOSED, arrivals=ClosedLoop(concurrency=17, start=Start.AT_ONCE))
    assert at_once.run_warmup == 0


@pytest.mark.parametrize(
    ("text", "process", "variation"),
    [
        ("constant", Process.CONSTANT, 1.0),
        ("Poisson", Process.POISSON, 1.0),
        ("gamma:2.5", Process.GAMMA, 2.5),
        ("burst", Process.BURST, 10.0),
    ],
)
def test_an_arrival_process_is_read_from_its_name(
    text: str, process: Process, variation: float
) -> None:
    """Gamma takes its coefficient of variation, a burst its mean size."""
    assert parse_arrival(text) == (process, variation)


def test_a_burst_of_nothing_is_told_in_requests() -> None:
    """A burst has a size; only gamma's gaps have a variation."""
    with pytest.raises(InvalidInput, match="requests of a burst above 0"):
        OpenLoop.named("burst:0", 1.0)
    with pytest.raises(InvalidInput, match="a variation above 0"):
        OpenLoop.named("gamma:0", 1.0)


@pytest.mark.parametrize("text", ["", "poison", "gamma:x", "poisson:2", "constant:3"])
def test_an_unknown_process_is_an_error_that_lists_the_known_ones(text: str) -> None:
    """The message names the field and what may be written."""
    with pytest.raises(InvalidInput, match=r"arrival.*gamma:VARIATION"):
        parse_arrival(text)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ClosedLoop(concurrency=0), "concurrency"),
        (lambda: OpenLoop(requests_per_s=0.0), "rate"),
        (lambda: OpenLoop(requests_per_s=-1.0), "rate"),
        (lambda: OpenLoop(requests_per_s=1e-300), "rate"),
        (lambda: OpenLoop(requests_per_s=math.inf), "rate"),
        (lambda: OpenLoop(requests_per_s=1.0, variation=0.0), "arrival"),
        (lambda: PrefixShare(share=1.5), "prefix_hits"),
        (lambda: SharedPrefixes(groups=0, tokens=5), "groups"),
        (lambda: Sessions(turns=0), "turns"),
        (lambda: trace(send_s=[0.0, 2.0, 1.0, 3.0]), "trace"),
        (lambda: trace(prompt_tokens=[0, 1, 1, 1]), "trace"),
        (lambda: replace(CLOSED, requests=5, warmup=5), "requests"),
        (lambda: replace(CLOSED, prompt=FixedLength(tokens=0)), "prompt"),
    ],
)
def test_impossible_traffic_is_refused_by_field(make: object, field: str) -> None:
    """The error names the field that is wrong."""
    with pytest.raises(InvalidInput, match=f"^{field}:"):
        make()  # type: ignore[operator]


def test_what_prompts_share_is_given_in_one_word() -> None:
    """A part that is always found, or any other prefix; both contradict each other."""
    talks = Sessions(turns=4)
    lengths = {"input_tokens": 100, "output_tokens": 10}
    assert Traffic.closed(concurrency=2, prefix=talks, **lengths).prefix == talks
    assert Traffic.at_rate(requests_per_s=2.0, prefix=talks, **lengths).prefix == talks
    with pytest.raises(InvalidInput, match="prefix_hit_share: is given beside `prefix`"):
        Traffic.closed(concurrency=2, prefix=talks, prefix_hit_share=0.5, **lengths)
