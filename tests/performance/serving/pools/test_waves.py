"""Runs through two pools that a person can follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.serving.pools.waves import WAVES, Run, serve_waves

EQUAL = (1.0, 1.0)
"""All prompts and outputs are of mean length."""
RUN = Run(clients=2, workers=1, prompt_s=1.0, more_s=0.5, token_s=0.1, places=2, outputs=101.0)
"""Prompts of one second, half a second more to the first token, and 100 tokens of 0.1 s."""


def test_requests_of_the_first_wave_wait_for_each_other() -> None:
    """One worker reads one prompt after the other: first tokens after 1.5 s and 2.5 s."""
    ttft = serve_waves(RUN, EQUAL).ttft_s
    assert ttft[:2].tolist() == pytest.approx([1.5, 2.5])
    assert ttft[2:].tolist() == pytest.approx([1.5] * 2 * (WAVES - 1))


def test_two_workers_read_two_prompts_at_a_time() -> None:
    """Nobody waits."""
    assert serve_waves(replace(RUN, workers=2), EQUAL).ttft_s.tolist() == pytest.approx([1.5] * 20)


def test_a_request_without_a_place_waits_for_one() -> None:
    """One place: the second request starts when the first has decoded for 10 s, at 11.5 s."""
    ttft = serve_waves(replace(RUN, places=1), EQUAL).ttft_s
    assert ttft[:2].tolist() == pytest.approx([1.5, 11.5])


def test_latency_is_the_first_token_and_the_rest() -> None:
    """100 more tokens of 0.1 s each: 10 s after the first."""
    times = serve_waves(RUN, EQUAL)
    assert times.e2e_s - times.ttft_s == pytest.approx(np.full(20, 10.0))
    assert times.end_s == pytest.approx(2.5 + 10.0 + (WAVES - 1) * 11.5)


def test_the_same_seed_draws_the_same_run() -> None:
    """Lengths are drawn from the seed alone."""
    first, second = (serve_waves(RUN, (0.8, 1.2), seed=3).e2e_s for _ in range(2))
    assert first.tolist() == second.tolist()


def test_a_second_wave_waits_for_prompts_of_the_first() -> None:
    """Prompts of 10 s, decoding of 1 s: the first client is back at 11.5 s, the worker at 20 s."""
    slow = replace(RUN, prompt_s=10.0, token_s=0.01)
    ttft = serve_waves(slow, EQUAL).ttft_s
    assert ttft[:4].tolist() == pytest.approx([10.5, 20.5, 19.0, 19.0])
