"""What one rank holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.layers import AttentionKind
from budsim.performance.physics.attainable import IDEAL
from budsim.performance.physics.ranks import attention_ranks
from budsim.performance.predictor import AnalyticPredictor
from tests.performance.by_hand import (
    ATTENTION,
    DENSE,
    DEVICE,
    ENGINE,
    EXPERTS,
    FREE_HOST,
    candidates,
    constants,
    model,
    operator,
    ranks,
)
from tests.performance.populations import population


@pytest.mark.parametrize(("tp", "megabytes"), [(1, 20.0), (2, 10.0), (4, 5.0)])
def test_ranks_divide_the_weights(tp: int, megabytes: float) -> None:
    """10e6 values x 2 B, over tp ranks; the token table of 1000 x 1000 is divided, too."""
    assert ranks(tp=tp).weight_bytes == pytest.approx((megabytes + 2.0 / tp) * 1e6)


def test_key_heads_are_not_divided_below_one() -> None:
    """Two key heads, four ranks: QKV has 8 x 100 + 2 x 200 columns, of which a rank holds 400.

    1000 x (200 + 200) x 2 B = 800,000 B.
    """
    grouped = ranks(model(replace(ATTENTION, heads=8, kv_heads=2)), tp=4)
    assert grouped.matrices.stored_bytes[0, 1] == pytest.approx(800_000)


def test_data_parallel_attention_is_whole_on_every_rank() -> None:
    """Eight ranks, two groups of data: attention is split over four, over one at eight groups."""
    assert attention_ranks(candidates(tp=8, dp=[1, 2, 8])).tolist() == [8.0, 4.0, 1.0]


def test_layers_are_counted_by_kind() -> None:
    """Three layers of experts with linear attention and no index."""
    linear = replace(ATTENTION, kind=AttentionKind.LINEAR)
    layers = ranks(model(linear, EXPERTS, layers=3)).layers
    counted = (layers.all[0], layers.moe[0], layers.linear[0], layers.indexed[0])
    assert counted == (3.0, 3.0, 3.0, 0.0)


def test_a_layer_that_attends_to_an_encoder_is_launched_in_more_parts() -> None:
    """Three layers, 1 ms each, 2.3 times as long: 6.9 ms; the encoder's two, with prompts: 8.9."""
    plain = model(layers=3)
    both = replace(plain, encoder_layers=model(layers=2).layers)
    kernels = constants(replace(FREE_HOST, prompt_launch_s=1e-3))
    for asked, decoded, prompted in ((plain, 3e-3, 3e-3), (both, 6.9e-3, 8.9e-3)):
        prepared = ranks(asked, kernels=kernels, eager=True)
        assert prepared.step_floor_s == pytest.approx(decoded)
        assert prepared.prompt_step_floor_s == pytest.approx(prompted)


def test_a_layer_of_experts_launches_twice_as_much() -> None:
    """Three dense layers of 1 ms: 3 ms; three of experts: 6 ms."""
    kernels = constants(replace(FREE_HOST, prompt_launch_s=1e-3))
    for feed_forward, seconds in ((DENSE, 3e-3), (EXPERTS, 6e-3)):
        prepared = ranks(model(feed_forward=feed_forward, layers=3), kernels=kernels)
        assert prepared.prompt_step_floor_s == pytest.approx(seconds)


def test_a_processor_has_the_cores_it_is_bound_to() -> None:
    """Four of ten, or all where nothing is said."""
    assert np.array_equal(ranks(cores=4).cores, [4.0])
    assert np.array_equal(ranks().cores, [10.0])


def test_processors_without_sixteen_bit_instructions_convert_every_value() -> None:
    """AVX2: fp32 reaches half of 20 TFLOP/s, bf16 a tenth of that; with bf16 instructions half.

    2 x 10e6 x 1000 FLOP at 10 TFLOP/s: 2 ms; at 1 TFLOP/s: 20 ms.
    """
    table = {
        name: replace(IDEAL, gemm=0.5, gemm_emulated=0.1) for name in ("vllm-cpu(avx2)", "cpu")
    }
    kernels = replace(constants(), kernels=table)
    engine = replace(ENGINE, name="vllm-cpu")
    processor = replace(DEVICE, kind=DeviceKind.CPU, generation="toy")
    fp32 = {Precision.FP32: 20e12}
    old = replace(processor, flops_per_s=fp32, instruction_sets=frozenset({"avx2"}))
    new = replace(processor, flops_per_s=fp32 | {Precision.BF16: 20e12})
    seconds = [
        operator(
            ranks(device=device, engine=engine, kernels=kernels, precision=precision),
            "matrices",
            prefill=1000,
        )
        for device, precision in (
            (old, Precision.FP32),
            (old, Precision.BF16),
            (new, Precision.BF16),
        )
    ]
    busy = [(each.weights_s + each.compute_s)[0] for each in seconds]
    # The p-norm with 2 ms (fp32) and 1 ms (16 bit) of traffic lengthens them a little.
    assert busy == pytest.approx([2e-3 * 2**0.25, 20e-3, 2e-3 * (1 + 0.5**4) ** 0.25], rel=1e-4)


def test_weights_converted_in_the_kernel_reach_less_than_those_in_sixteen_bit() -> None:
    """INT4 at half of the share that bf16 reaches; the head, the first matrix, stays in bf16."""
    kernels = constants(gemm=0.8, gemm_converted=0.5)
    shares = [
        ranks(kernels=kernels, precision=precision).matrices.reached[0, :2].tolist()
        for precision in (Precision.BF16, Precision.INT4)
    ]
    assert shares == [[0.8, 0.8], [0.8, 0.4]]


def test_weights_written_out_before_a_product_are_read_in_sixteen_bit() -> None:
    """INT4 then reaches what bf16 does, and reads as much; before, it is read, and 2 B written.

    The head, the first matrix, stays in bf16, and experts are multiplied as they are stored.
    """
    kernels = constants(gemm=0.8, gemm_converted=0.5)
    engine = replace(ENGINE, writes_weights_out=True)
    wide, narrow = (
        ranks(kernels=kernels, precision=precision, engine=engine).matrices
        for precision in (Precision.BF16, Precision.INT4)
    )
    assert narrow.reached[0, :2].tolist() == [0.8, 0.8]
    assert narrow.read_bytes.tolist() == wide.read_bytes.tolist()
    moved = narrow.stored_bytes + wide.stored_bytes
    assert narrow.written_out_bytes[0, 0] == 0.0
    assert narrow.written_out_bytes[0, 1:] == pytest.approx(moved[0, 1:])
    assert not wide.written_out_bytes.any()
    of_experts = ranks(model(ATTENTION, EXPERTS), precision=Precision.INT4, engine=engine).matrices
    assert not of_experts.written_out_bytes[of_experts.is_expert].any()


@pytest.mark.parametrize(
    ("precision", "prompt", "ttft_ms", "tpot_ms"),
    [
        (Precision.BF16, 128, 1940, 52.1),
        (Precision.BF16, 512, 7681, 56.1),
        (Precision.FP32, 128, 370, 78.8),
        (Precision.FP32, 512, 1179, 77.2),
    ],
)
def test_bf16_is_the_wrong_choice_without_its_instructions(
    precision: Precision, prompt: int, ttft_ms: float, tpot_ms: float
) -> None:
    """SmolLM2-135M on two cores of a third EPYC generation, vLLM 0.32, one request: our own runs.

    Physics alone is within a fifth of each.
    """
    table = population(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        device="EPYC 7763",
        engine="vllm-cpu",
        precision=precision,
        tp=1,
        cores=2.0,
        input_tokens=prompt,
        output_tokens=32,
        concurrency=1,
        token_budget=2048,
    )
    service = AnalyticPredictor().predict(table)[1].service
    assert service.ttft_s[0] * 1e3 == pytest.approx(ttft_ms, rel=0.2)
    assert service.tpot_s[0] * 1e3 == pytest.approx(tpot_ms, rel=0.2)
