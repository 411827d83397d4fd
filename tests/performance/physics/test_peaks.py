"""The FLOP/s an engine can reach on a device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.catalog import devices
from budsim.performance.physics.constants import FITTED
from budsim.performance.physics.peaks import attention_peak, matrix_peak, peaks
from budsim.performance.physics.processor_kernels import ProcessorKernels
from budsim.performance.predictor import AnalyticPredictor
from tests.performance.by_hand import DEVICE, candidates, constants
from tests.performance.populations import population

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"


def test_a_peak_is_the_data_sheets() -> None:
    """20 TFLOP/s in bf16 and 40 in FP8; INT4, which the toy device lacks, is multiplied in bf16."""
    found = [matrix_peak("toy", DEVICE, p) for p in (Precision.BF16, Precision.FP8, Precision.INT4)]
    assert found == [20e12, 40e12, 20e12]
    assert attention_peak("toy", DEVICE) == 20e12


def test_blocks_are_multiplied_by_instructions_a_cycle() -> None:
    """2 operations a core and cycle x 10 cores x 3 GHz = 60 GFLOP/s; attention 4: 120 GFLOP/s."""
    device = replace(DEVICE, vendor="toys", clock_hz=3e9)
    kernels = {"toys": ProcessorKernels(q8_0=2.0, q4_k_m=1.0, attention=4.0)}
    own = replace(FITTED, processor_kernels=kernels)
    assert matrix_peak("llama.cpp-cpu", device, Precision.Q8_0, own) == 60e9
    assert attention_peak("llama.cpp-cpu", device, own) == 120e9
    assert matrix_peak("vllm", device, Precision.BF16, own) == 20e12


def test_mxfp4_is_multiplied_in_fp8_where_the_device_can() -> None:
    """VLLM brings MXFP4 weights to FP8 on B200, which multiplies both; A100 has bf16 alone."""
    known = devices()
    for name, computed in (("B200-SXM", Precision.FP8), ("A100-80GB", Precision.BF16)):
        assert matrix_peak("vllm", known[name], Precision.MXFP4) == known[name].peak_flops_per_s(
            computed
        )


def test_a_population_has_peaks_of_every_pair() -> None:
    """One engine on one device: 1 x 1 rows of one peak a format, and one of attention."""
    matrices, attention = peaks(candidates(), constants())
    assert matrices.shape == (1, 1, len(Precision))
    assert matrices[0, 0, list(Precision).index(Precision.FP8)] == 40e12
    assert attention.tolist() == [[20e12]]


def test_weights_that_are_only_stored_in_eight_bits_do_not_multiply_faster() -> None:
    """OpenVINO's INT8 models gain at one user, where memory binds, and lose that under load.

    vLLM's multiply in INT8.
    """
    gains = {}
    for engine in ("openvino-model-server", "vllm-cpu"):
        times = {
            precision: AnalyticPredictor()
            .predict(
                population(
                    model=LLAMA_8B,
                    device="Xeon Platinum 8480+",
                    engine=engine,
                    precision=precision,
                    tp=1,
                    concurrency=[1, 64],
                )
            )[1]
            .service.tpot_s
            for precision in (Precision.BF16, Precision.INT8)
        }
        gains[engine] = times[Precision.BF16] / times[Precision.INT8]
    assert gains["openvino-model-server"][0] == pytest.approx(gains["vllm-cpu"][0], rel=0.1)
    assert gains["openvino-model-server"][0] > 1.3
    assert gains["openvino-model-server"][1] < 1.0 < gains["vllm-cpu"][1]
