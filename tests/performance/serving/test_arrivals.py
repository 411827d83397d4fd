"""Requests of a run: seeded, at the rate asked for, and sharing what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.lengths import FixedLength, UniformLength
from budsim.performance.prefixes import Sessions, SharedPrefixes
from budsim.performance.recorded import Trace
from budsim.performance.serving.arrivals import ALWAYS_CACHED, crowded, draw_requests
from budsim.performance.traffic import ClosedLoop, OpenLoop, Process, Start, Traffic

OPEN = Traffic.at_rate(requests_per_s=4.0, input_tokens=1000, output_tokens=200)


def at_rate(process: Process, variation: float = 1.0) -> Traffic:
    """Return traffic at 4 requests/s of one process."""
    arrivals = OpenLoop(requests_per_s=4.0, process=process, variation=variation)
    return replace(OPEN, arrivals=arrivals, requests=4000)


def test_the_same_seed_draws_the_same_requests() -> None:
    """Another seed draws others."""
    first, again, other = (draw_requests(OPEN, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.send_s, again.send_s)
    assert not np.array_equal(first.send_s, other.send_s)


@pytest.mark.parametrize(
    ("process", "variation", "expected"),
    [
        (Process.CONSTANT, 1.0, 0.0),
        (Process.POISSON, 1.0, 1.0),
        (Process.GAMMA, 3.0, 3.0),
        (Process.GAMMA, 0.5, 0.5),
    ],
)
def test_gaps_have_the_rate_and_the_variation_of_their_process(
    process: Process, variation: float, expected: float
) -> None:
    """The mean rate is exact; the coefficient of variation is right within the noise."""
    gaps = np.diff(draw_requests(at_rate(process, variation)).send_s)
    assert gaps.mean() == pytest.approx(0.25)
    assert gaps.std() / gaps.mean() == pytest.approx(expected, rel=0.12, abs=1e-9)


def test_a_burst_sends_several_requests_in_the_same_instant() -> None:
    """Bursts of 10 in the mean: nine of ten gaps are 0."""
    gaps = np.diff(draw_requests(at_rate(Process.BURST, 10.0)).send_s)
    assert (gaps == 0.0).mean() == pytest.approx(0.9, abs=0.02)
    assert gaps.mean() == pytest.approx(0.25)


def test_a_steady_loop_starts_with_requests_that_are_partly_served() -> None:
    """Of four clients the first outputs are cut to 1/8, 3/8, 5/8 and 7/8 of 200 tokens."""
    drawn = draw_requests(Traffic.closed(concurrency=4, input_tokens=10, output_tokens=200))
    assert drawn.output_tokens[:5].tolist() == [25, 75, 125, 175, 200]
    assert len(drawn) == drawn.measured_to + 4


def test_a_benchmark_starts_with_whole_requests() -> None:
    """All prompts are sent at once, and every request counts."""
    arrivals = ClosedLoop(concurrency=4, start=Start.AT_ONCE)
    closed = replace(OPEN, arrivals=arrivals, requests=20)
    drawn = draw_requests(closed)
    assert set(drawn.output_tokens) == {200.0}
    assert (drawn.measured_from, drawn.measured_to, len(drawn)) == (0, 20, 20)


def test_a_share_of_every_prompt_is_cached() -> None:
    """A share of 0.3 of 1000 tokens is 300, from no particular request."""
    drawn = draw_requests(
        Traffic.closed(concurrency=1, input_tokens=1000, output_tokens=1, prefix_hit_share=0.3)
    )
    assert set(drawn.reused_tokens) == {300.0}
    assert set(drawn.reused_from) == {ALWAYS_CACHED}


def test_a_shared_prefix_comes_from_the_last_request_of_its_group() -> None:
    """With one group every request but the first shares with its predecessor."""
    drawn = draw_requests(replace(OPEN, prefix=SharedPrefixes(groups=1, tokens=400)))
    assert drawn.reused_from[:4].tolist() == [-1, 0, 1, 2]
    assert set(drawn.reused_tokens) == {400.0}


def test_a_turn_of_a_session_repeats_what_was_said_before() -> None:
    """Two clients, three turns each of 10 new and 5 generated tokens."""
    chat = Traffic(
        arrivals=ClosedLoop(concurrency=2, start=Start.AT_ONCE),
        prompt=FixedLength(tokens=10),
        output=FixedLength(tokens=5),
        prefix=Sessions(turns=3),
        requests=8,
    )
    drawn = draw_requests(chat)
    assert drawn.prompt_tokens.tolist() == [10, 10, 25, 25, 40, 40, 10, 10]
    assert drawn.reused_tokens.tolist() == [0, 0, 15, 15, 30, 30, 0, 0]
    assert drawn.reused_from.tolist() == [-1, -1, 0, 1, 2, 3, -1, -1]


def test_turns_of_an_open_session_come_an_interval_apart() -> None:
    """Every turn but the first follows its predecessor by 30 s."""
    drawn = draw_requests(replace(OPEN, prefix=Sessions(turns=4, interval_s=30.0)))
    later = np.flatnonzero(drawn.reused_from >= 0)
    gaps = drawn.send_s[later] - drawn.send_s[drawn.reused_from[later]]
    assert gaps == pytest.approx(30.0)
    assert (np.diff(drawn.send_s) >= 0.0).all()


def test_a_trace_is_replayed_as_recorded_and_begins_again_when_it_is_short() -> None:
    """Two requests a second apart make three: the third is the first one, a period later."""
    recorded = Trace(
        send_s=np.array([5.0, 6.0]),
        prompt_tokens=np.array([100, 200]),
        output_tokens=np.array([10, 20]),
        reused_from=np.array([-1, 0]),
        reused_tokens=np.array([0, 50]),
    )
    traffic = replace(OPEN, arrivals=recorded, requests=4, warmup=0)
    drawn = draw_requests(traffic)
    assert drawn.send_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert drawn.prompt_tokens.tolist() == [100, 200, 100, 200]
    assert drawn.reused_from.tolist() == [-1, 0, -1, 2]


def test_a_crowd_measures_every_kind_of_request_once() -> None:
    """With 5 in flight 10 warm up and 5 end the run; all 2,000 lengths are measured between."""
    crowd = crowded(draw_requests(replace(OPEN, prompt=UniformLength(low=1, high=99))), 5)
    assert len(crowd) == 2015
    assert crowd.concurrency == 5
    measured = slice(crowd.measured_from, crowd.measured_to)
    assert crowd.prompt_tokens[measured].mean() == pytest.approx(50, rel=1e-3)


def test_a_crowd_of_equal_requests_is_small() -> None:
    """400 of them tell as much as 2,000."""
    crowd = crowded(draw_requests(OPEN), 5)
    assert len(crowd) == 415
