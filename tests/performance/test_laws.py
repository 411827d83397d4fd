"""The laws of the analytic model as properties.

L1 to L4, L13, L15 and L17 of docs/laws.md.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.commons.precision import Precision
from budsim.engine_ops.profiles import profiles
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.performance.candidates import Candidates
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.operators import step_time
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import Predictions
from budsim.performance.predictor import AnalyticPredictor
from tests.performance.populations import DEVICES, MODELS, population

ALMOST = 1.0 + 1e-9
models, names = st.sampled_from(MODELS), st.sampled_from(DEVICES)
engines = st.sampled_from(["vllm", "sglang", "trtllm"])
layouts = st.builds(
    lambda tp, pp, ep, dp: {"tp": tp, "pp": pp, "ep": tp if ep else 1, "dp": min(dp, tp)},
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 3, 5]),
    st.booleans(),
    st.sampled_from([1, 2, 8]),
)
lengths = st.integers(1, 16_000)
loads = st.integers(1, 512)
ladder = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377]


def predictions(candidates: Candidates) -> Predictions:
    """Return what the analytic model says."""
    return AnalyticPredictor().predict(candidates)[1]


@given(
    model=models,
    device=names,
    engine=st.sampled_from(sorted(profiles())),
    precision=st.sampled_from(list(Precision)),
    ranks=layouts,
    share=st.floats(0.1, 0.97),
    budget=st.integers(256, 65_536),
)
@settings(max_examples=150)
def test_memory_parts_stay_within_the_budget(
    model: str,
    device: str,
    engine: str,
    precision: Precision,
    ranks: dict[str, int],
    share: float,
    budget: int,
) -> None:
    """L1: the parts of a candidate that fits add up to its budget, within the device's size.

    In every engine, format and layout. vLLM's budget is its share of the device.
    """
    table = population(
        model=model,
        device=device,
        engine=engine,
        precision=precision,
        memory_fraction=share,
        token_budget=budget,
        **ranks,
    )
    memory = memory_use(prepare(table))
    parts = memory.weight_bytes + memory.activation_bytes + memory.reserved_bytes + memory.kv_bytes
    assert (parts[memory.fits] <= memory.budget_bytes[memory.fits] * ALMOST).all()
    assert (
        memory.budget_bytes
        <= devices()[device].memory_bytes * (share if engine == "vllm" else 1.0) * ALMOST
    ).all()
    assert (
        min(
            memory.activation_bytes[0],
            memory.reserved_bytes[0],
            memory.kv_bytes[0],
            memory.kv_bytes_per_token[0],
        )
        >= 0.0
    )


@given(
    model=models,
    device=names,
    prefill=st.integers(0, 16_384),
    decode=st.integers(0, 512),
    context=st.integers(1, 30_000),
    dp=st.sampled_from([1, 2, 8]),
)
@settings(max_examples=80)
def test_no_step_beats_the_roofline(
    model: str, device: str, prefill: int, decode: int, context: int, dp: int
) -> None:
    """L2: a step takes at least the time of its arithmetic and of its memory traffic.

    Each at data sheet rates.
    """
    ranks = prepare(population(model=model, device=device, dp=dp))
    step = step_time(
        ranks,
        prefill=np.array([float(prefill)]),
        decode=np.array([float(decode)]),
        prefill_context=np.array([context / 2.0]),
        decode_context=np.array([float(context)]),
    )
    assert step.total_s[0] * ALMOST >= step.ceiling_s[0]


@given(
    model=models, name=names, engine=engines, factor=st.floats(1.0, 4.0), prompt=lengths, load=loads
)
@settings(max_examples=60)
def test_better_hardware_never_predicts_worse(
    model: str, name: str, engine: str, factor: float, prompt: int, load: int
) -> None:
    """L3: more bandwidth or FLOPS makes neither TTFT nor TPOT longer.

    With more memory no request waits longer to start.
    """
    device = devices()[name]
    better = (
        replace(device, memory_bandwidth_bytes_per_s=device.memory_bandwidth_bytes_per_s * factor),
        replace(device, flops_per_s={p: peak * factor for p, peak in device.flops_per_s.items()}),
    )
    roomier = replace(device, memory_bytes=device.memory_bytes * factor)
    before = predictions(
        population(model=model, device=device, engine=engine, input_tokens=prompt, concurrency=load)
    ).service
    for each in better:
        after = predictions(
            population(
                model=model, device=each, engine=engine, input_tokens=prompt, concurrency=load
            )
        ).service
        assert after.tpot_s[0] <= before.tpot_s[0] * ALMOST
        assert after.ttft_s[0] <= before.ttft_s[0] * ALMOST
    after = predictions(
        population(
            model=model, device=roomier, engine=engine, input_tokens=prompt, concurrency=load
        )
    ).service
    assert after.ttft_s[0] <= before.ttft_s[0] * ALMOST


@given(model=models, device=names, engine=engines, load=loads, output=st.integers(2, 4000))
@settings(max_examples=60)
def test_longer_prompts_never_shorten_ttft(
    model: str, device: str, engine: str, load: int, output: int
) -> None:
    """L4: TTFT grows with the prompt, all else equal."""
    prompts = [64, 256, 1000, 1024, 2000, 4096, 8192, 9000, 16_384]
    service = predictions(
        population(
            model=model,
            device=device,
            engine=engine,
            input_tokens=prompts,
            concurrency=load,
            output_tokens=output,
        )
    ).service
    assert (np.diff(service.ttft_s) >= -1e-9 * service.ttft_s[1:]).all()


@given(model=models, device=names, engine=engines, prompt=lengths, output=st.integers(2, 4000))
@settings(max_examples=60)
def test_more_concurrency_never_shortens_tpot(
    model: str, device: str, engine: str, prompt: int, output: int
) -> None:
    """L4: the time per output token grows with concurrency, all else equal."""
    service = predictions(
        population(
            model=model,
            device=device,
            engine=engine,
            input_tokens=prompt,
            concurrency=ladder,
            output_tokens=output,
        )
    ).service
    assert (np.diff(service.tpot_s) >= -1e-9 * service.tpot_s[1:]).all()


@given(model=models, device=names, engine=engines, prompt=lengths, output=st.integers(2, 2048))
@settings(max_examples=50, deadline=None)
def test_a_lone_user_s_own_prompt_does_not_slow_its_tokens(
    model: str, device: str, engine: str, prompt: int, output: int
) -> None:
    """One request at a time decodes as a static batch of one.

    Its prompt is over before its tokens come.
    """
    loads = {
        "input_tokens": prompt,
        "output_tokens": output,
        "concurrency": 1,
        "static_batch": [False, True],
    }
    served, batch = predictions(
        population(model=model, device=device, engine=engine, **loads)
    ).service.tpot_s
    assert np.isclose(served, batch)


@given(
    model=models,
    device=names,
    engine=engines,
    load=loads,
    prompt=lengths,
    output=st.integers(1, 4000),
)
@settings(max_examples=60)
def test_latency_is_ttft_and_the_remaining_tokens(
    model: str, device: str, engine: str, load: int, prompt: int, output: int
) -> None:
    """L13: end-to-end latency is TTFT plus (output - 1) x TPOT.

    Tokens per second of a user are 1 / TPOT.
    """
    service = predictions(
        population(
            model=model,
            device=device,
            engine=engine,
            input_tokens=prompt,
            output_tokens=output,
            concurrency=load,
        )
    ).service
    assert np.allclose(service.e2e_s, service.ttft_s + (output - 1) * service.tpot_s)
    assert np.allclose(service.tokens_per_s_per_user * service.tpot_s, 1.0)


@given(model=models, device=names, engine=st.sampled_from(sorted(profiles())), ranks=layouts)
@settings(max_examples=60)
def test_quantized_weights_never_need_more_memory(
    model: str, device: str, engine: str, ranks: dict[str, int]
) -> None:
    """L15: weights in 8 or 4 bits need no more memory than in 16 and leave as much cache.

    In every engine and layout.
    """
    where = {"model": model, "device": device, "engine": engine}
    full = memory_use(prepare(population(**where, **ranks)))
    for precision in set(Precision) - {Precision.FP32, Precision.BF16, Precision.FP16}:
        small = memory_use(prepare(population(**where, precision=precision, **ranks)))
        assert small.weight_bytes[0] <= full.weight_bytes[0]
        assert small.kv_capacity_tokens[0] >= full.kv_capacity_tokens[0]


@given(
    model=models,
    device=names,
    engine=st.sampled_from(sorted(profiles())),
    ranks=layouts,
    factor=st.floats(1.0, 4.0),
)
@settings(max_examples=60)
def test_more_memory_never_holds_less(
    model: str, device: str, engine: str, ranks: dict[str, int], factor: float
) -> None:
    """L3: a device with more memory, all else equal, never has a smaller cache.

    Whatever the engine's rule.
    """
    small = devices()[device]
    large = replace(small, memory_bytes=small.memory_bytes * factor)
    before, after = (
        memory_use(prepare(population(model=model, device=d, engine=engine, **ranks)))
        for d in (small, large)
    )
    assert after.kv_capacity_tokens[0] >= before.kv_capacity_tokens[0]


def at_least_as_good(one: Device, other: Device) -> bool:
    """Return whether ``other`` has every format of ``one`` and no figure below its own.

    A mesh divides its links among all its members, so that a pair's own link counts.
    """

    def figures(device: Device) -> list[float]:
        up = device.scale_up
        peers = up.domain_devices - 1.0 if up.meshed else 1.0
        return [
            device.memory_bytes,
            device.memory_bandwidth_bytes_per_s,
            float(device.compute_units),
            up.bandwidth_bytes_per_s,
            up.bandwidth_bytes_per_s / peers,
            float(up.domain_devices),
            device.scale_out.bandwidth_bytes_per_s,
            *(device.flops_per_s.get(precision, 0.0) for precision in one.flops_per_s),
        ]

    return all(map(float.__le__, map(float, figures(one)), map(float, figures(other))))


def accelerators_of_one_kind(one: Device, other: Device) -> bool:
    """Return whether both run the same engines' kernels, of whatever generation."""
    return one.kind is other.kind and one.kind is not DeviceKind.CPU and one is not other


ORDERED = [
    (one.name, other.name)
    for one in devices().values()
    for other in devices().values()
    if accelerators_of_one_kind(one, other) and at_least_as_good(one, other)
]
GENERATIONS = [
    ("B200-SXM", "B300-SXM"),
    ("GB200", "GB300"),
    ("H100-SXM", "B200-SXM"),
    ("A100-80GB", "H100-SXM"),
]


@given(
    pair=st.sampled_from(GENERATIONS) | st.sampled_from(ORDERED),
    engine=engines,
    precision=st.sampled_from([Precision.BF16, Precision.FP8]),
    prompt=st.sampled_from([100, 1000, 8000]),
    load=st.sampled_from([1, 16, 64]),
)
@settings(max_examples=60)
def test_a_device_at_least_as_good_never_predicts_worse(
    pair: tuple[str, str], engine: str, precision: Precision, prompt: int, load: int
) -> None:
    """L17: where all requests fit into both, the better device shortens TTFT and TPOT or neither.

    All accelerators of one kind, and steps between generations.
    """
    found = []
    for name in pair:
        table = population(
            model="meta-llama/Llama-3.1-8B-Instruct",
            device=name,
            engine=engine,
            precision=precision,
            tp=2,
            input_tokens=prompt,
            concurrency=load,
        )
        if memory_use(prepare(table)).kv_capacity_tokens[0] < load * (prompt + 256):
            return
        found.append(predictions(table).service)
    assert found[1].ttft_s[0] <= found[0].ttft_s[0] * ALMOST
    assert found[1].tpot_s[0] <= found[0].tpot_s[0] * ALMOST


@pytest.mark.parametrize("pair", GENERATIONS[:2])
def test_blackwell_ultra_predicts_no_worse_on_any_engine(pair: tuple[str, str]) -> None:
    """L17: its engines have the kernels they have on Blackwell, in every format of the weights."""
    for model, engine, precision in product(
        ("Qwen/Qwen3-30B-A3B", "openai/gpt-oss-20b"),
        ("vllm", "sglang", "trtllm"),
        (Precision.BF16, Precision.FP8, Precision.NVFP4, Precision.MXFP4),
    ):
        before, after = (
            predictions(
                population(
                    model=model,
                    device=name,
                    engine=engine,
                    precision=precision,
                    input_tokens=[1000, 1000, 8000],
                    concurrency=[1, 64, 16],
                )
            ).service
            for name in pair
        )
        assert (after.ttft_s <= before.ttft_s * ALMOST).all(), (model, engine, precision)
        assert (after.tpot_s <= before.tpot_s * ALMOST).all(), (model, engine, precision)
