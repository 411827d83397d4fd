"""llama.cpp's kernels on processors: their rates, their caches, and how cores share work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.catalog import devices
from budsim.model_ops.registry import resolve_model
from budsim.performance.physics.constants import FITTED
from budsim.performance.physics.operators import step_time
from budsim.performance.physics.peaks import attention_peak
from budsim.performance.physics.processor_kernels import ProcessorKernels, processor_kernels
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictor import AnalyticPredictor
from tests.performance.populations import population

LLAMA_1B = "meta-llama/Llama-3.2-1B-Instruct"
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
SOCKET = {
    "model": LLAMA_1B,
    "device": "Graviton4",
    "tp": 1,
    "precision": Precision.Q8_0,
    "static_batch": True,
}


def decode_s(engine: str, batch: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the modelled time per token of these batches of 512 + 256 tokens."""
    columns = {"concurrency": batch, "input_tokens": 512, **SOCKET}
    table = population(engine=engine, **columns)  # type: ignore[arg-type]
    return AnalyticPredictor().predict(table)[1].service.tpot_s


def test_kernels_are_those_of_the_generation_else_the_vendor_else_the_instructions() -> None:
    """Three tables of one name each: the first that a device answers to is its own."""
    device = devices()["Graviton4"]
    kernels = ProcessorKernels(q8_0=1.0, q4_k_m=2.0, attention=3.0)
    for name in (device.generation, device.vendor, "neon"):
        assert processor_kernels({name: kernels}, device) is kernels
    assert processor_kernels({"other": kernels}, device) is None


def test_each_format_has_its_own_kernel() -> None:
    """Q6_K runs at the rate of Q4_K_M; bf16 has no kernel of blocks."""
    kernels = ProcessorKernels(q8_0=1.0, q4_k_m=2.0, attention=3.0)
    assert kernels.operations(Precision.Q8_0) == 1.0
    assert kernels.operations(Precision.Q6_K) == kernels.operations(Precision.Q4_K_M) == 2.0
    assert kernels.operations(Precision.BF16) == 0.0


def test_cores_of_another_kind_multiply_and_attend_at_their_own_rate() -> None:
    """Per core and cycle AMD's do more than Intel's.

    Cores never measured do what their instruction set usually does.
    """
    known = devices()
    attention = {
        name: attention_peak("llama.cpp-cpu", known[name])
        for name in ("EPYC 9654", "Xeon Platinum 8480+", "Graviton3")
    }
    rates = {
        name: peak / known[name].compute_units / known[name].clock_hz
        for name, peak in attention.items()
    }
    assert rates["EPYC 9654"] > rates["Xeon Platinum 8480+"]
    assert rates["Graviton3"] == FITTED.processor_kernels["neon"].attention


def test_sequences_multiplied_together_keep_few_cores_busy() -> None:
    """Attention of eight sequences goes head by head, and of 96 cores most wait.

    That of one sequence is shared by all.
    """
    decode = {
        "prefill": np.zeros(1),
        "prefill_context": np.zeros(1),
        "decode_context": np.full(1, 640.0),
    }
    spare = {}
    for running in (1.0, 8.0):
        columns = {"cores": [8.0, 96.0], **SOCKET}
        table = population(engine="llama.cpp-cpu(one cache)", **columns)  # type: ignore[arg-type]
        tokens = {
            name: np.broadcast_to(value, 2)
            for name, value in (decode | {"decode": np.full(1, running)}).items()
        }
        step = step_time(prepare(table), decode_attended=np.full(2, 640.0 * running), **tokens)
        spare[running] = step.overhead_s[1] - step.overhead_s[0]
    assert spare[8.0] > 10.0 * spare[1.0]


def test_one_cache_slows_decoding_with_the_square_of_the_batch() -> None:
    """Where every sequence multiplies everyone's cache, 64 take far more than twice as long as 32.

    With caches apart they do not.
    """
    shared, apart = (
        decode_s("llama.cpp-cpu(one cache)", [1, 32, 64]),
        decode_s("llama.cpp-cpu", [1, 32, 64]),
    )
    assert shared[0] == pytest.approx(apart[0], rel=0.05)
    assert shared[2] > 2.8 * shared[1]
    assert apart[2] < 2.1 * apart[1]


@pytest.mark.parametrize(
    ("precision", "gigabytes"), [(Precision.Q4_K_M, 4.92), (Precision.Q8_0, 8.54)]
)
def test_block_formats_take_what_their_files_take(precision: Precision, gigabytes: float) -> None:
    """Llama-3.1-8B as Q4_K_M and Q8_0 is a file of 4.92 and 8.54 GB.

    Head and embeddings are stored in blocks, too.
    """
    assert resolve_model(LLAMA_8B).weight_bytes(precision) / 1e9 == pytest.approx(
        gigabytes, rel=0.03
    )


@pytest.mark.parametrize("engine", ["llama.cpp-cpu", "llama.cpp-cpu(one cache)", "vllm-cpu"])
@pytest.mark.parametrize(
    "device", ["Graviton4", "Ampere Altra Q80-30", "EPYC 9654", "Xeon Platinum 8480+"]
)
def test_no_step_of_a_processor_beats_its_roofline(engine: str, device: str) -> None:
    """L2 holds where traffic hides behind arithmetic.

    For one core and for all, for prompts and for decoding.
    """
    for cores, prefill, decode in (
        (1.0, 512.0, 0.0),
        (0.0, 512.0, 8.0),
        (8.0, 0.0, 1.0),
        (0.0, 0.0, 64.0),
    ):
        table = population(
            model=LLAMA_8B,
            device=device,
            engine=engine,
            precision=Precision.Q8_0,
            tp=1,
            cores=cores,
        )
        tokens = {"prefill": np.array([prefill]), "decode": np.array([decode])}
        step = step_time(
            prepare(table),
            prefill_context=np.array([256.0]),
            decode_context=np.array([1000.0]),
            **tokens,
        )
        assert step.total_s[0] >= step.ceiling_s[0]


@pytest.mark.parametrize("faster", ["memory_bandwidth_bytes_per_s", "clock_hz"])
def test_faster_memory_and_clock_shorten_both_times(faster: str) -> None:
    """L3: llama.cpp's kernels gain from bandwidth and from clock, in prefill and in decoding."""
    slow = devices()["Graviton4"]
    fast = replace(slow, **{faster: 2.0 * getattr(slow, faster)})
    before, after = (
        AnalyticPredictor()
        .predict(population(**{**SOCKET, "device": device}, engine="llama.cpp-cpu"))[1]
        .service  # type: ignore[arg-type]
        for device in (slow, fast)
    )
    assert after.ttft_s[0] < before.ttft_s[0]
    assert after.tpot_s[0] < before.tpot_s[0]
