"""How much of a data sheet real kernels reach, by kind of hardware or engine: the few constants of the analytic model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from budsim.commons.precision import Precision
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.performance.candidates import Candidates, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Attainable shares of the peaks (0..1) and latencies (s) of one kind of hardware, or of an engine with kernels of its own.

    Latencies count per layer: once a step, for each core that meets the others, each prompt token, each running sequence, each
    product (``gemm``, and on top where activations are ``narrow``ed to its format), each sparse ``index``er or linear ``state``,
    each head and token of a cache that sequences multiply together.
    ``gemm`` and ``expert_gemm`` are for 16 bit; ``eight_bit`` and ``four_bit`` are what narrower products reach relative to them.
    An all-reduce of n ranks takes its latency log2(n) to the power of ``reduce_depth`` times (0: all write to all at once).
    ``expert_traffic`` is what sending a token to one expert and summing the result moves, bytes for each hidden value.
    ``score_dims`` is what a score of attention costs besides its products, in dimensions of a head; ``reread`` the share of the
    cache that query heads of one key head each read for themselves.
    ``blend`` is the p-norm of a matrix's arithmetic and traffic, ``overlap`` that of a step's traffic and everything else
    (1: one after the other; large: the longer hides the shorter).

    Fitted once by `budsim.performance.training.physics_fit` to the measurements' TPOT and TTFT (mean absolute log error), then rounded;
    the learned part corrects what remains.
    """

    gemm: float
    expert_gemm: float
    half_rows: float
    expert_half_rows: float
    bandwidth: float
    expert_bandwidth: float
    cache_bandwidth: float
    decode_attention: float
    prefill_attention: float
    link: float
    reduce_latency_s: float
    hop_latency_s: float
    layer_latency_s: float
    moe_latency_s: float
    prefill_latency_s: float
    token_latency_s: float
    core_reach: float = 1.0
    core_latency_s: float = 0.0
    prompt_latency_s: float = 0.0
    sequence_latency_s: float = 0.0
    blend: float = 4.0
    overlap: float = 1.0
    reduce_depth: float = 1.0
    eight_bit: float = 1.0
    four_bit: float = 1.0
    expert_eight_bit: float = 1.0
    expert_four_bit: float = 1.0
    expert_traffic: float = 0.0
    gemm_latency_s: float = 0.0
    narrow_latency_s: float = 0.0
    expert_narrow_latency_s: float = 0.0
    index_latency_s: float = 0.0
    state_latency_s: float = 0.0
    head_latency_s: float = 0.0
    score_dims: float = 0.0
    reread: float = 0.0


ACCELERATOR = Constants(
    gemm=0.79,
    expert_gemm=0.24,
    half_rows=48.0,
    expert_half_rows=12.0,
    bandwidth=0.82,
    expert_bandwidth=0.77,
    cache_bandwidth=0.85,
    decode_attention=0.43,
    prefill_attention=0.40,
    link=0.39,
    reduce_latency_s=5.7e-6,
    hop_latency_s=20e-6,
    layer_latency_s=28e-6,
    moe_latency_s=33e-6,
    prefill_latency_s=64e-6,
    token_latency_s=2e-6,
)
"""Accelerators whose kernels nobody published timings of, nor enough measurements."""
GAUDI = replace(
    ACCELERATOR,
    gemm=0.37,
    eight_bit=2.0,
    expert_gemm=0.11,
    half_rows=22.0,
    bandwidth=0.88,
    cache_bandwidth=0.73,
    prefill_attention=0.37,
    link=0.96,
    reduce_latency_s=9e-6,
    layer_latency_s=18e-6,
)
"""Static batches of optimum-habana on Gaudi 2 and 3; eight-bit products come near their peak, 16 bit ones of 2024 did not."""
HOPPER = Constants(
    gemm=0.79,
    eight_bit=0.73,
    expert_gemm=0.25,
    expert_eight_bit=0.9,
    half_rows=1.0,
    expert_half_rows=1.0,
    bandwidth=0.84,
    expert_bandwidth=0.9,
    expert_traffic=10.0,
    cache_bandwidth=0.75,
    decode_attention=0.45,
    prefill_attention=0.5,
    link=0.66,
    reduce_latency_s=4.3e-6,
    hop_latency_s=20e-6,
    gemm_latency_s=3.4e-6,
    narrow_latency_s=3e-6,
    layer_latency_s=18e-6,
    moe_latency_s=49e-6,
    expert_narrow_latency_s=10e-6,
    index_latency_s=68e-6,
    state_latency_s=15e-6,
    prefill_latency_s=85e-6,
    token_latency_s=2e-6,
    blend=2.0,
    reduce_depth=0.0,
)
"""Shares, and latencies of products, experts and all-reduces, are those of NVIDIA's published kernel timings: the tables of
PyPI's `aiconfigurator-core` 0.12 (Apache-2.0; vLLM 0.24, SGLang 0.5.14, TensorRT-LLM 1.3), as `scripts/fit_kernels.py` prints.
What they leave out (the rest of a layer, steps with prompts, indexers and linear layers) was fitted to serving measurements."""
AMPERE = replace(
    HOPPER, gemm=0.84, bandwidth=0.77, cache_bandwidth=0.64, prefill_attention=0.52, link=0.6
)
"""Older generations, which nobody timed, too."""
ADA = replace(
    HOPPER, gemm=0.6, expert_gemm=0.3, cache_bandwidth=0.85, prefill_attention=0.42, link=0.15
)
BLACKWELL = replace(
    HOPPER,
    gemm=0.7,
    eight_bit=0.79,
    four_bit=0.72,
    expert_gemm=0.3,
    expert_eight_bit=0.43,
    bandwidth=0.79,
    cache_bandwidth=0.85,
    prefill_attention=0.42,
    link=0.56,
    reduce_latency_s=6.8e-6,
    moe_latency_s=29e-6,
)
BLACKWELL_ULTRA = replace(
    BLACKWELL, gemm=0.76, four_bit=0.49, expert_four_bit=0.75, prefill_attention=0.52
)
"""Four-bit arithmetic grew by half, what kernels make of it did not."""
BLACKWELL_WORKSTATION = replace(
    HOPPER,
    gemm=0.86,
    eight_bit=0.95,
    expert_gemm=0.33,
    expert_eight_bit=0.85,
    expert_four_bit=1.3,
    bandwidth=0.87,
    cache_bandwidth=0.86,
    prefill_attention=0.52,
    link=0.44,
)
ROCM = Constants(
    gemm=0.32,
    expert_gemm=0.25,
    half_rows=58.0,
    expert_half_rows=12.0,
    bandwidth=0.97,
    expert_bandwidth=0.97,
    cache_bandwidth=0.76,
    decode_attention=0.43,
    prefill_attention=0.134,
    link=0.5,
    reduce_latency_s=5.6e-6,
    hop_latency_s=20e-6,
    layer_latency_s=65e-6,
    moe_latency_s=208e-6,
    prefill_latency_s=33e-6,
    token_latency_s=2e-6,
)
"""Engines of 2025 and later on MI300X and MI325X. vLLM of 2024 launched every kernel by itself and reduced through the host."""
PROCESSOR = Constants(
    gemm=0.85,
    expert_gemm=0.3,
    half_rows=0.9,
    expert_half_rows=4.0,
    bandwidth=0.78,
    expert_bandwidth=0.5,
    cache_bandwidth=0.35,
    decode_attention=0.0066,
    prefill_attention=0.65,
    link=0.5,
    reduce_latency_s=20e-6,
    hop_latency_s=50e-6,
    layer_latency_s=180e-6,
    moe_latency_s=50e-6,
    prefill_latency_s=0.0,
    token_latency_s=2e-6,
    core_reach=2.0,
    core_latency_s=5.1e-6,
    prompt_latency_s=7.8e-6,
    sequence_latency_s=3.7e-6,
)
LLAMA_CPP = Constants(
    gemm=1.0,
    expert_gemm=1.0,
    half_rows=1e-6,
    expert_half_rows=1e-6,
    bandwidth=0.95,
    expert_bandwidth=0.95,
    cache_bandwidth=0.95,
    decode_attention=1.0,
    prefill_attention=1.0,
    link=0.5,
    reduce_latency_s=20e-6,
    hop_latency_s=50e-6,
    layer_latency_s=170e-6,
    moe_latency_s=50e-6,
    prefill_latency_s=0.0,
    token_latency_s=0.0,
    core_reach=1e3,
    core_latency_s=0.3e-6,
    prompt_latency_s=20e-6,
    sequence_latency_s=10e-6,
    head_latency_s=5.5e-9,
    score_dims=90.0,
    reread=0.5,
    blend=1.0,
    overlap=1.6,
)
HOST_LINK = 0.44
THROUGH_HOST = {"reduce_latency_s": 6.5e-6, "reduce_depth": 1.0}
"""GPUs without NVLink reduce through their host, rank by rank (the same tables: L40S 0.15 of PCIe 4, RTX PRO 6000 0.44 of 5)."""
CONSTANTS: Mapping[str, Constants] = {
    DeviceKind.CUDA: HOPPER,
    DeviceKind.ROCM: ROCM,
    "gfx950": replace(
        ROCM,
        gemm=0.6,
        expert_gemm=0.32,
        bandwidth=0.76,
        expert_bandwidth=0.85,
        cache_bandwidth=0.97,
        prefill_attention=0.2,
        link=0.37,
        reduce_latency_s=1.9e-6,
        layer_latency_s=34e-6,
        moe_latency_s=81e-6,
    ),
    "vllm(rocm 2024)": replace(
        ROCM,
        gemm=0.3,
        expert_gemm=0.11,
        half_rows=1.0,
        expert_half_rows=7.0,
        bandwidth=0.48,
        expert_bandwidth=0.72,
        cache_bandwidth=0.58,
        prefill_attention=0.063,
        link=0.056,
        reduce_latency_s=5.2e-6,
        layer_latency_s=150e-6,
        moe_latency_s=84e-6,
    ),
    **dict.fromkeys(("sm60", "sm61", "sm70", "sm75", "sm80", "sm86", "sm87"), AMPERE),
    "sm89": ADA,
    "sm100": BLACKWELL,
    "sm103": BLACKWELL_ULTRA,
    **dict.fromkeys(("sm110", "sm120", "sm121"), BLACKWELL_WORKSTATION),
    DeviceKind.XPU: ACCELERATOR,
    DeviceKind.HPU: GAUDI,
    DeviceKind.CPU: PROCESSOR,
    "vllm-cpu": replace(
        PROCESSOR,
        gemm=0.96,
        bandwidth=0.7,
        cache_bandwidth=0.25,
        decode_attention=0.1,
        prefill_attention=0.82,
        layer_latency_s=200e-6,
        core_latency_s=2e-6,
        prompt_latency_s=8.8e-6,
    ),
    "llama.cpp-cpu": replace(LLAMA_CPP, score_dims=0.0, head_latency_s=0.0),
    "llama.cpp-cpu(one cache)": LLAMA_CPP,
}
"""By kind of hardware, and by name for engines that bring kernels of their own."""

BLOCK_ENGINES = ("llama.cpp-cpu", "llama.cpp-cpu(one cache)")
"""Engines that multiply blocks of narrow integers with kernels of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Operations (a multiply-add is two) of llama.cpp's kernels per core and cycle, by format of the blocks, and of attention."""

    q8_0: float
    q4_k_m: float
    attention: float
    q8r16: float = 0.0
    q4_k_4: float = 0.0

    def rate(self, precision: Precision) -> float:
        """Return what a format's kernel does; 0 where there is none."""
        names = {Precision.Q8_0: "q8_0", Precision.Q4_K_M: "q4_k_m", Precision.Q6_K: "q4_k_m"}
        names |= {Precision.Q8R16: "q8r16", Precision.Q4_K_4: "q4_k_4"}
        return float(getattr(self, names[precision])) if precision in names else 0.0


NEON = Kernels(q8_0=9.8, q4_k_m=7.6, attention=10.0, q8r16=41.0, q4_k_4=14.5)
KERNELS: Mapping[str, Kernels] = {
    "amd": Kernels(q8_0=26.0, q4_k_m=28.0, attention=24.0),
    "intel": Kernels(q8_0=20.0, q4_k_m=17.0, attention=12.0),
    "neoverse_n1": replace(NEON, q8r16=37.0, q4_k_4=17.6),
    "neoverse_v2": replace(NEON, q8_0=10.7, q4_k_m=9.9),
    "ampere1a": replace(NEON, q8_0=9.0, q4_k_m=5.9, q4_k_4=12.0),
    "ampere1b": replace(NEON, q8_0=9.0, q4_k_m=5.9, q8r16=58.0, q4_k_4=12.0),
    "neon": NEON,
}
"""By generation of the cores, else by their vendor, else by their instruction set."""
MULTIPLIED_IN: Mapping[tuple[str, DeviceKind, Precision], Precision] = {
    ("openvino-model-server", DeviceKind.CPU, Precision.INT8): Precision.FP32,
    **{
        (engine, DeviceKind.CUDA, Precision.MXFP4): Precision.FP8
        for engine in ("vllm", "sglang", "trtllm")
    },
}
"""Formats an engine only stores: OpenVINO's INT8 models have 8 bit weights and slow down under load as vector units would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """What an engine adds before the first token: host time, decode steps awaited, and how much a first wave is slowed down.

    Fitted with the constants, to mean and median TTFT of the InferenceX protocol (mean absolute log error).
    """

    request_s: float
    steps: float
    burst_factor: float
    first_wave_s: float = 0.0


OTHER_ENGINE = FirstToken(request_s=0.01, steps=1.0, burst_factor=1.0)
FIRST_TOKEN: Mapping[str, FirstToken] = {
    "vllm": FirstToken(request_s=0.009, steps=3.0, burst_factor=1.35),
    "sglang": FirstToken(request_s=0.025, steps=3.4, burst_factor=2.1, first_wave_s=1.0),
    "trtllm": FirstToken(request_s=0.015, steps=4.5, burst_factor=1.2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """All that was fitted: constants by generation of devices where one differs from its kind, else by kind; and by engine."""

    constants: Mapping[str, Constants]
    first_token: Mapping[str, FirstToken]
    kernels: Mapping[str, Kernels]

    def of(self, engine: str, device: Device) -> Constants:
        """Return the constants of an engine on a device: its own where it brings kernels of its own, else the device's."""
        own = self.constants.get(engine) or self.constants.get(
            device.generation, self.constants[device.kind]
        )
        through_host = device.kind is DeviceKind.CUDA and device.scale_up.name.startswith("PCIe")
        return replace(own, link=min(own.link, HOST_LINK), **THROUGH_HOST) if through_host else own

    def of_engine(self, name: str) -> FirstToken:
        """Return what an engine adds before the first token; a moderate guess for one that was never measured."""
        return self.first_token.get(name, OTHER_ENGINE)

    def of_cores(self, device: Device) -> Kernels | None:
        """Return what llama.cpp's kernels do on these cores; None for instructions they were never measured on."""
        names = (device.generation, device.vendor, *sorted(device.instruction_sets))
        return next((self.kernels[name] for name in names if name in self.kernels), None)


TUNING = Tuning(constants=CONSTANTS, first_token=FIRST_TOKEN, kernels=KERNELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """`Constants` spread over candidates; arrays of shape (n,)."""

    gemm: Floats
    expert_gemm: Floats
    half_rows: Floats
    expert_half_rows: Floats
    bandwidth: Floats
    expert_bandwidth: Floats
    cache_bandwidth: Floats
    decode_attention: Floats
    prefill_attention: Floats
    link: Floats
    reduce_latency_s: Floats
    hop_latency_s: Floats
    layer_latency_s: Floats
    moe_latency_s: Floats
    prefill_latency_s: Floats
    token_latency_s: Floats
    core_reach: Floats
    core_latency_s: Floats
    prompt_latency_s: Floats
    sequence_latency_s: Floats
    blend: Floats
    overlap: Floats
    reduce_depth: Floats
    eight_bit: Floats
    four_bit: Floats
    expert_eight_bit: Floats
    expert_four_bit: Floats
    expert_traffic: Floats
    gemm_latency_s: Floats
    narrow_latency_s: Floats
    expert_narrow_latency_s: Floats
    index_latency_s: Floats
    state_latency_s: Floats
    head_latency_s: Floats
    score_dims: Floats
    reread: Floats
    request_s: Floats
    awaited_steps: Floats
    burst_factor: Floats
    first_wave_s: Floats


def efficiency(candidates: Candidates, tuning: Tuning = TUNING) -> Efficiency:
    """Return the constants of each candidate's hardware and engine."""
    chosen = [
        tuning.of(engine.name, device)
        for engine in candidates.engines
        for device in candidates.devices
    ]
    columns = {
        field.name: np.array([getattr(each, field.name) for each in chosen])
        for field in fields(Constants)
    }
    pair = candidates.engine * len(candidates.devices) + candidates.device
    first = [tuning.of_engine(engine.name) for engine in candidates.engines]
    return Efficiency(
        **{name: column[pair] for name, column in columns.items()},
        request_s=candidates.by_engine([each.request_s for each in first]),
        awaited_steps=candidates.by_engine([each.steps for each in first])
        + candidates.admission_steps,
        burst_factor=candidates.by_engine([each.burst_factor for each in first]),
        first_wave_s=candidates.by_engine([each.first_wave_s for each in first]),
    )


def matrix_peak(
    engine: str, device: Device, precision: Precision, tuning: Tuning = TUNING
) -> float:
    """Return the FLOP/s at which ``engine`` can multiply weights stored as ``precision`` on the whole device at best.

    The data sheet's dense peak; for block formats of an engine with kernels of its own, what their instructions do.
    """
    kernels = tuning.of_cores(device) if engine in BLOCK_ENGINES and device.clock_hz else None
    if kernels and kernels.rate(precision):
        return kernels.rate(precision) * device.compute_units * device.clock_hz
    if device.kind is DeviceKind.CUDA and not device.runs_natively(precision):
        return device.peak_flops_per_s(precision)
    return device.peak_flops_per_s(MULTIPLIED_IN.get((engine, device.kind, precision), precision))


def attention_peak(engine: str, device: Device, tuning: Tuning = TUNING) -> float:
    """Return the FLOP/s of attention over a 16 bit cache on the whole device at best."""
    kernels = tuning.of_cores(device) if engine in BLOCK_ENGINES and device.clock_hz else None
    if kernels:
        return kernels.attention * device.compute_units * device.clock_hz
    return device.peak_flops_per_s(Precision.BF16)
