"""The laws of single requests as properties: L16, L18 and L20 of the replay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.commons.precision import Precision
from budsim.performance.lengths import UniformLength
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.replay import ReplayedService, replay
from budsim.performance.traffic import Traffic
from tests.performance.populations import DEVICES, MODELS, population

NOISE = 1.03
"""Requests are drawn and served in whole steps: laws of means hold within 3 %."""
SHARED_STEPS = {"vllm": 1.05, "sglang": 1.25, "trtllm": 1.10}
"""How far the mean moves when requests share a step of prompts, or not, by engine: at most 1.035,
1.24 and 1.06 in 3,500 drawn cases."""
ladder = (1, 2, 4, 8, 16, 32, 64, 128)
engines = st.sampled_from(["vllm", "sglang", "trtllm"])
models, devices = st.sampled_from(MODELS), st.sampled_from(DEVICES)


def served(engine: str, model: str, device: str, traffic: list[Traffic]) -> ReplayedService:
    """Replay one candidate under several traffics."""
    table = population(
        model=model, device=device, engine=engine, precision=Precision.FP8, tp=[8] * len(traffic)
    )
    return replay(table, memory_use(prepare(table)), traffic)


def closed(concurrency: int, prompt: int, output: int) -> Traffic:
    """Return a closed loop of spread lengths: equal ones move in convoys."""
    even = Traffic.closed(concurrency=concurrency, input_tokens=prompt, output_tokens=output)
    return replace(
        even,
        prompt=UniformLength(low=max(prompt // 2, 1), high=prompt + prompt // 2),
        output=UniformLength(low=max(output // 2, 1), high=output + output // 2),
        requests=3000,
    )


@given(engines, models, devices, st.integers(16, 4000), st.integers(8, 500))
@settings(max_examples=15, deadline=None)
def test_more_requests_in_flight_never_serve_fewer(
    engine: str, model: str, device: str, prompt: int, output: int
) -> None:
    """L16: tokens per second do not fall with concurrency while the cache has room."""
    service = served(engine, model, device, [closed(load, prompt, output) for load in ladder])
    room = service.stable & (service.preemptions == 0.0)
    rates = service.output_tokens_per_s[room]
    assert (rates[1:] * NOISE >= np.maximum.accumulate(rates)[:-1]).all()


@given(engines, models, devices, st.integers(1, 128), st.integers(16, 2000))
@settings(max_examples=15, deadline=None)
def test_longer_outputs_never_end_sooner(
    engine: str, model: str, device: str, load: int, prompt: int
) -> None:
    """L16: E2E does not fall with output tokens, also where they pass the concurrency."""
    outputs = (16, 32, 64, 128, 256, 512)
    service = served(engine, model, device, [closed(load, prompt, each) for each in outputs])
    e2e = service.e2e_s.mean[service.stable]
    assert (e2e[1:] * NOISE >= e2e[:-1]).all()


@given(engines, models, devices, st.integers(1, 128), st.integers(8, 500))
@settings(max_examples=15, deadline=None)
def test_longer_prompts_never_end_sooner(
    engine: str, model: str, device: str, load: int, output: int
) -> None:
    """L16: E2E does not fall with prompt tokens, except by what shared steps save.

    Requests in flight start together or in turns, depending on the lengths. A start stalls all
    others for a whole step of launches. The mean may fall by this saving, and by no more.
    """
    prompts = (64, 128, 256, 512, 1024, 2048, 4096)
    service = served(engine, model, device, [closed(load, each, output) for each in prompts])
    e2e = service.e2e_s.mean[service.stable]
    assert (e2e[1:] * SHARED_STEPS[engine] >= e2e[:-1]).all()


@given(engines, models, devices, st.floats(0.05, 50.0), st.integers(16, 4000), st.integers(1, 500))
@settings(max_examples=25, deadline=None)
def test_percentiles_are_ordered_and_enclose_the_mean(
    engine: str, model: str, device: str, rate: float, prompt: int, output: int
) -> None:
    """L18: p50 <= p90 <= p95 <= p99; at least half of the mean's values are at p50 or above."""
    traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=prompt, output_tokens=output)
    service = served(engine, model, device, [traffic])
    if not service.stable[0]:
        return
    for each in (service.ttft_s, service.e2e_s, *([service.itl_s] if output > 1 else [])):
        mean, p50, p90, p95, p99 = (
            getattr(each, name)[0] for name in ("mean", "p50", "p90", "p95", "p99")
        )
        assert 0.0 < p50 <= p90 <= p95 <= p99
        assert mean >= 0.5 * p50
        assert mean >= 0.01 * p99
    assert service.ttft_s.mean[0] <= service.e2e_s.mean[0]


@given(engines, models, devices, st.integers(16, 4000), st.integers(2, 500))
@settings(max_examples=15, deadline=None)
def test_a_rate_is_answered_up_to_what_is_carried_and_not_beyond(
    engine: str, model: str, device: str, prompt: int, output: int
) -> None:
    """L20: at 80 % of the largest rate there is a mean, at 120 % none; the largest rate agrees."""
    asked = Traffic.at_rate(requests_per_s=1.0, input_tokens=prompt, output_tokens=output)
    largest = float(served(engine, model, device, [asked]).largest_stable_rate[0])
    if largest == 0.0:
        return
    below, above = asked.at(0.8 * largest), asked.at(1.2 * largest)
    service = served(engine, model, device, [below, above])
    assert service.stable.tolist() == [True, False]
    assert np.isfinite(service.e2e_s.mean[0])
    assert np.isnan(service.e2e_s.mean[1])
    assert service.largest_stable_rate.tolist() == [largest, largest]
