"""Steps of narrow formats and sparse models: launches, activations, shares of the peak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.performance.candidates import Candidates
from budsim.performance.physics.operators import StepTime, step_time
from budsim.performance.physics.ranks import prepare
from tests.performance.by_hand import (
    ATTENTION,
    EXPERTS,
    constants,
    model,
    operator,
    ranks,
)
from tests.performance.populations import population

US = 1e-6


def catalog_step(
    candidates: Candidates, *, prefill: float = 0.0, decode: float = 0.0, context: float = 1024.0
) -> StepTime:
    """Return one step of every candidate of the catalog's models and devices."""
    rows = len(candidates)
    return step_time(
        prepare(candidates),
        prefill=np.full(rows, prefill),
        decode=np.full(rows, decode),
        prefill_context=np.full(rows, context),
        decode_context=np.full(rows, context),
    )


def test_narrow_formats_take_longer_to_launch() -> None:
    """FP8 brings activations to FP8 before each product; Hopper multiplies FP4 in bf16."""
    overhead = [
        catalog_step(population(precision=p), decode=1.0).overhead_s[0]
        for p in (Precision.BF16, Precision.FP8, Precision.NVFP4)
    ]
    assert overhead[0] < overhead[1]
    assert overhead[0] == overhead[2]


def test_mxfp4_experts_meet_activations_that_nothing_narrows() -> None:
    """On B200 MXFP4 experts save 15 us a layer; NVFP4 ones cost 10 us on TensorRT-LLM alone.

    36 x (10 + 15) = 900 us there, 36 x 15 = 540 us on vLLM.
    """
    columns = {"model": "openai/gpt-oss-120b", "device": "B200-SXM"}
    for engine, microseconds in (("trtllm", 25), ("vllm", 15)):
        mxfp4, nvfp4 = (
            catalog_step(
                population(**columns, engine=engine, precision=precision), decode=1.0
            ).overhead_s[0]
            for precision in (Precision.MXFP4, Precision.NVFP4)
        )
        assert nvfp4 - mxfp4 == pytest.approx(36 * microseconds * US)


def test_mxfp4_experts_save_launches_where_no_shared_expert_runs_beside_them() -> None:
    """Four layers of experts, 15 us each: 60 us less; none with a shared expert or in bf16."""
    kernels = constants(moe_latency_s=40e-6, fused_experts_s=15e-6)
    shared = replace(EXPERTS, shared_width=500)
    for experts, precision, microseconds in (
        (EXPERTS, Precision.MXFP4, 100),
        (shared, Precision.MXFP4, 160),
        (EXPERTS, Precision.BF16, 160),
    ):
        prepared = ranks(model(ATTENTION, experts, layers=4), kernels=kernels, precision=precision)
        overhead = operator(prepared, "layers", decode=1).overhead_s
        assert overhead == pytest.approx(microseconds * US)


def test_formats_reach_less_of_a_peak_the_narrower_they_are() -> None:
    """A prompt is faster in FP8 than bf16 and in FP4 than FP8, by less than the peak's factor 2."""
    formats = (Precision.BF16, Precision.FP8, Precision.NVFP4)
    seconds = [
        catalog_step(population(device="B200-SXM", precision=p), prefill=8192.0).compute_s[0]
        for p in formats
    ]
    assert seconds[0] / 2 < seconds[1] < seconds[0]
    assert seconds[1] / 2 < seconds[2] < seconds[1]


def test_a_sparse_indexer_costs_each_layer() -> None:
    """DeepSeek V3.2 is V3 with an indexer: over short contexts its steps take longer."""
    dense, sparse = (
        catalog_step(
            population(model=f"deepseek-ai/DeepSeek-{name}", precision=Precision.FP8), decode=1.0
        ).total_s[0]
        for name in ("V3", "V3.2")
    )
    assert sparse > dense * 1.2
