"""Which constants a candidate gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.engine_ops.engine_profile import FirstToken
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.physics.attainable import IDEAL
from budsim.performance.physics.constants import (
    FITTED,
    PhysicsConstants,
    has_half_rate,
    host_time,
    kernel_constants,
    tensor_rate,
)
from budsim.performance.physics.first_token import OTHER_ENGINE
from budsim.performance.physics.kernel_constants import (
    AMPERE,
    BLACKWELL,
    BLACKWELL_WORKSTATION,
    HOPPER,
    VLLM_HOPPER,
)
from budsim.performance.physics.processor_constants import LLAMA_CPP
from tests.performance.by_hand import candidates
from tests.performance.populations import population


def test_an_engines_own_kernels_come_before_the_devices() -> None:
    """B200 has its generation's, and llama.cpp on a processor and vLLM on H100 have their own.

    An engine of an early year has those of today's.
    """
    known = devices()
    assert FITTED.of_kernels("vllm", known["B200-SXM"]) == BLACKWELL
    assert FITTED.of_kernels("dynamo-sglang", known["H100-SXM"]) == HOPPER
    assert FITTED.of_kernels("vllm", known["H100-SXM"]) == VLLM_HOPPER
    assert FITTED.of_kernels("vllm(2024)", known["H100-SXM"]) == VLLM_HOPPER
    assert FITTED.of_kernels("llama.cpp-cpu", known["EPYC 9654"]) == LLAMA_CPP


def test_cards_on_pcie_reduce_through_the_host() -> None:
    """L40S has no NVLink."""
    assert FITTED.of_kernels("vllm", devices()["L40S"]).all_reduce_depth == 1.0


def test_tensor_cores_at_half_rate_reach_more_of_their_data_sheet() -> None:
    """L40 and L20 multiply at half the rate of L40S, below its power limit: 0.9 and 0.6."""
    known = devices()
    assert [has_half_rate(known[name]) for name in ("L40", "L20", "RTX4090", "L40S")] == [
        True,
        True,
        True,
        False,
    ]
    assert FITTED.of_kernels("vllm", known["L20"]).gemm == 0.9
    assert FITTED.of_kernels("vllm", known["L40S"]).gemm == 0.6
    assert FITTED.of_kernels("vllm", known["RTX5090"]).gemm == BLACKWELL_WORKSTATION.gemm


def test_slowed_tensor_cores_leave_the_rest_of_a_kernel_alone() -> None:
    """H20 computes at a quarter of H100's rate: 1 / (1 + (1 / 0.65 - 1) / 4), not 0.65."""
    known = devices()
    slowed = FITTED.of_kernels("vllm", known["H20"])
    assert tensor_rate(known["H20"]) == pytest.approx(0.253, abs=0.001)
    assert slowed.prefill_attention == pytest.approx(0.880, abs=0.001)
    assert slowed.prefill_half_context == pytest.approx(114, abs=1)
    assert slowed.decode_attention == pytest.approx(0.764, abs=0.001)
    assert slowed.prompt_factor == pytest.approx(1.076, abs=0.001)
    assert slowed.bandwidth == HOPPER.bandwidth
    assert FITTED.of_kernels("vllm", known["H100-PCIe"]).gemm == HOPPER.gemm


def test_devices_without_a_link_share_one_network() -> None:
    """A module that stands alone reaches others as GB10 does, whatever its generation."""
    known = devices()
    shares = {
        FITTED.of_kernels("vllm", known[name]).link
        for name in ("Jetson-Orin", "Jetson-Thor", "GB10")
    }
    assert shares == {BLACKWELL_WORKSTATION.link}


def test_an_engines_own_prompt_factor_comes_before_the_devices() -> None:
    """TensorRT-LLM adds its kernels' times alone, vLLM 1.3 times as much."""
    device = devices()["A100-80GB"]
    assert FITTED.of_kernels("trtllm", device) == replace(AMPERE, prompt_factor=1.0)
    assert FITTED.of_kernels("vllm", device).prompt_factor == 1.3


def test_kernels_of_an_engine_on_a_generation_come_first() -> None:
    """Constants of "toy on sm90" hold for that engine on H100, not for others or on A100."""
    table = {
        DeviceKind.CUDA: IDEAL,
        "sm80": replace(IDEAL, gemm=0.4),
        "toy on sm90": replace(IDEAL, gemm=0.5),
    }
    known = PhysicsConstants(kernels=table, first_token={}, processor_kernels={})
    shares = {
        (engine, name): known.of_kernels(engine, devices()[name]).gemm
        for engine in ("toy", "vllm")
        for name in ("H100-SXM", "A100-80GB")
    }
    assert shares == {
        ("toy", "H100-SXM"): 0.5,
        ("toy", "A100-80GB"): 0.4,
        ("vllm", "H100-SXM"): 1.0,
        ("vllm", "A100-80GB"): 0.4,
    }


def test_an_engine_never_measured_gets_a_guess() -> None:
    """10 ms and one step."""
    assert FITTED.of_engine("unheard of") == OTHER_ENGINE


def test_constants_are_spread_over_the_rows() -> None:
    """Two rows of one device have its constants each."""
    constants = PhysicsConstants(
        kernels={DeviceKind.CUDA: replace(IDEAL, gemm=0.5)}, first_token={}, processor_kernels={}
    )
    assert kernel_constants(candidates(tp=[1, 2]), constants).gemm.tolist() == [0.5, 0.5]


def test_admission_adds_to_the_steps_an_engine_awaits() -> None:
    """Three steps of the engine's own and five of a scheduler that looks now and then: eight."""
    first = FirstToken(request_s=0.02, steps=3.0)
    constants = PhysicsConstants(
        kernels=FITTED.kernels, first_token={"vllm": first}, processor_kernels={}
    )
    host = host_time(population(admission_steps=[0.0, 5.0]), constants)
    assert host.awaited_steps.tolist() == [3.0, 8.0]
    assert host.request_s.tolist() == [0.02, 0.02]
