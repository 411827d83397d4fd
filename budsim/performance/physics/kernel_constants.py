"""The share of a data sheet real kernels reach and what they cost besides.

One table for each generation of hardware says on what it was fitted and by which script. What
remains is left to the regressors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from budsim.hardware_ops.device import DeviceKind

Number = TypeVar("Number")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelConstants(Generic[Number]):
    """Constants of one kind of hardware, or of an engine with kernels of its own.

    ``KernelConstants[float]`` is one row of the tables below; ``KernelConstants[Floats]`` is the
    same spread over candidates, arrays of shape (n,).

    Attributes
    ----------
    gemm, expert_gemm : share of the peak FLOP/s, 0..1
        What dense products and experts reach in 16 bit with many rows.
    gemm_8bit, gemm_4bit, expert_gemm_8bit, expert_gemm_4bit : ratio
        What narrower products reach of their own peak, relative to the share in 16 bit.
    gemm_emulated : ratio
        What products in 16 bit reach of the fp32 peak on devices without 16 bit instructions,
        relative to ``gemm``.
    half_rows, expert_half_rows : rows
        A product of so many rows reaches half of its share.
    bandwidth, expert_bandwidth, cache_bandwidth : share of the memory bandwidth, 0..1
        While weights, experts and the KV cache are read.
    decode_attention, prefill_attention : share of the peak FLOP/s, 0..1
        What attention reaches for running sequences and for prompts.
    score_dims : dimensions of a head
        What one score costs besides its two products (softmax), as so many further dimensions.
    reread : share, 0..1
        Of the cache, what each query head that shares a key head reads once more for itself.
    link : share of the link's bandwidth, 0..1
    all_reduce_latency_s : seconds of one all-reduce, times log2(ranks) ** all_reduce_depth
    all_reduce_depth : exponent
        1 where ranks reduce along a tree, 0 where all write to all at once.
    hop_latency_s : seconds of handing a micro-batch to the next pipeline stage
    layer_latency_s, moe_latency_s, index_latency_s, state_latency_s : seconds
        A step spends in each layer, each layer of experts, each sparse indexer and each linear
        layer beside its arithmetic and traffic.
    prefill_latency_s : seconds a layer, in steps with prompts: no captured graph fits them
    gemm_latency_s, narrow_gemm_latency_s : seconds a product
        A launch, and on top the conversion of activations to 8 or 4 bit.
    narrow_experts_latency_s : seconds a layer of experts in 8 or 4 bit, for the same conversion
    expert_traffic : bytes a hidden value
        What sending one token to one expert and summing its result moves through memory.
    token_latency_s : seconds a prompt token on the host, for tokenization
    core_reach : ratio
        A share of the cores reaches this many times its share of the memory bandwidth, at most 1.
    core_latency_s : seconds a layer and core, for cores to meet
    prompt_latency_s, sequence_latency_s : seconds a layer
        One core alone spends on each prompt token and each running sequence.
    head_latency_s : seconds a head and cached token that sequences multiply together
    roofline_exponent : exponent of the p-norm of a product's arithmetic and traffic
        Kernels near the ridge reach neither ceiling; a large exponent takes the longer time only.
    overlap_exponent : exponent of the p-norm of a step's traffic and all else
        1: one after the other; large: the longer hides the shorter.
    """

    gemm: Number
    expert_gemm: Number
    gemm_8bit: Number
    gemm_4bit: Number
    expert_gemm_8bit: Number
    expert_gemm_4bit: Number
    gemm_emulated: Number
    half_rows: Number
    expert_half_rows: Number
    bandwidth: Number
    expert_bandwidth: Number
    cache_bandwidth: Number
    decode_attention: Number
    prefill_attention: Number
    score_dims: Number
    reread: Number
    link: Number
    all_reduce_latency_s: Number
    all_reduce_depth: Number
    hop_latency_s: Number
    layer_latency_s: Number
    moe_latency_s: Number
    index_latency_s: Number
    state_latency_s: Number
    prefill_latency_s: Number
    gemm_latency_s: Number
    narrow_gemm_latency_s: Number
    narrow_experts_latency_s: Number
    expert_traffic: Number
    token_latency_s: Number
    core_reach: Number
    core_latency_s: Number
    prompt_latency_s: Number
    sequence_latency_s: Number
    head_latency_s: Number
    roofline_exponent: Number
    overlap_exponent: Number


IDEAL: KernelConstants[float] = KernelConstants(
    gemm=1.0,
    expert_gemm=1.0,
    gemm_8bit=1.0,
    gemm_4bit=1.0,
    expert_gemm_8bit=1.0,
    expert_gemm_4bit=1.0,
    gemm_emulated=1.0,
    half_rows=0.0,
    expert_half_rows=0.0,
    bandwidth=1.0,
    expert_bandwidth=1.0,
    cache_bandwidth=1.0,
    decode_attention=1.0,
    prefill_attention=1.0,
    score_dims=0.0,
    reread=0.0,
    link=1.0,
    all_reduce_latency_s=0.0,
    all_reduce_depth=1.0,
    hop_latency_s=0.0,
    layer_latency_s=0.0,
    moe_latency_s=0.0,
    index_latency_s=0.0,
    state_latency_s=0.0,
    prefill_latency_s=0.0,
    gemm_latency_s=0.0,
    narrow_gemm_latency_s=0.0,
    narrow_experts_latency_s=0.0,
    expert_traffic=0.0,
    token_latency_s=0.0,
    core_reach=1.0,
    core_latency_s=0.0,
    prompt_latency_s=0.0,
    sequence_latency_s=0.0,
    head_latency_s=0.0,
    roofline_exponent=4.0,
    overlap_exponent=1.0,
)
"""Hardware that reaches its data sheet and costs nothing besides; the others differ from it."""

# No kernel timings and too few measurements: rounded means of the generations known in 2025.
ACCELERATOR = replace(
    IDEAL,
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
    all_reduce_latency_s=5.7e-6,
    hop_latency_s=20e-6,
    layer_latency_s=28e-6,
    moe_latency_s=33e-6,
    prefill_latency_s=64e-6,
    token_latency_s=2e-6,
)
"""Accelerators without published kernel timings."""

# Fitted on static batches of optimum-habana on Gaudi 2 and 3, by training.physics_fit. 8 bit
# products come near their peak, those in 16 bit of 2024 did not: hence the ratio of 2.
GAUDI = replace(
    ACCELERATOR,
    gemm=0.37,
    gemm_8bit=2.0,
    expert_gemm=0.11,
    half_rows=22.0,
    bandwidth=0.88,
    cache_bandwidth=0.73,
    prefill_attention=0.37,
    link=0.96,
    all_reduce_latency_s=9e-6,
    layer_latency_s=18e-6,
)

# Shares, and latencies of products, experts and all-reduces: fitted on NVIDIA's published kernel
# timings, by scripts/fit_kernels.py (tables of PyPI's `aiconfigurator-core` 0.12, Apache-2.0: vLLM
# 0.24, SGLang 0.5.14, TensorRT-LLM 1.3). Those tables leave out the rest of a layer, steps with
# prompts, indexers and linear layers: their latencies were fitted on the serving rows of
# InferenceX, by scripts/fit_serving.py.
HOPPER = replace(
    IDEAL,
    gemm=0.79,
    gemm_8bit=0.73,
    expert_gemm=0.25,
    expert_gemm_8bit=0.9,
    half_rows=1.0,
    expert_half_rows=1.0,
    bandwidth=0.84,
    expert_bandwidth=0.9,
    expert_traffic=10.0,
    cache_bandwidth=0.75,
    decode_attention=0.45,
    prefill_attention=0.5,
    link=0.66,
    all_reduce_latency_s=4.3e-6,
    all_reduce_depth=0.0,
    hop_latency_s=20e-6,
    gemm_latency_s=3.4e-6,
    narrow_gemm_latency_s=3e-6,
    layer_latency_s=18e-6,
    moe_latency_s=49e-6,
    narrow_experts_latency_s=10e-6,
    index_latency_s=68e-6,
    state_latency_s=15e-6,
    prefill_latency_s=85e-6,
    token_latency_s=2e-6,
    roofline_exponent=2.0,
)

# The timings cover A100; generations before it were never timed and share its shares.
AMPERE = replace(
    HOPPER, gemm=0.84, bandwidth=0.77, cache_bandwidth=0.64, prefill_attention=0.52, link=0.6
)
ADA = replace(
    HOPPER, gemm=0.6, expert_gemm=0.3, cache_bandwidth=0.85, prefill_attention=0.42, link=0.15
)
BLACKWELL = replace(
    HOPPER,
    gemm=0.7,
    gemm_8bit=0.79,
    gemm_4bit=0.72,
    expert_gemm=0.3,
    expert_gemm_8bit=0.43,
    bandwidth=0.79,
    cache_bandwidth=0.85,
    prefill_attention=0.42,
    link=0.56,
    all_reduce_latency_s=6.8e-6,
    moe_latency_s=29e-6,
)

# The peak of 4 bit products grew by half over Blackwell's; what kernels reach of it did not.
BLACKWELL_ULTRA = replace(
    BLACKWELL, gemm=0.76, gemm_4bit=0.49, expert_gemm_4bit=0.75, prefill_attention=0.52
)
BLACKWELL_WORKSTATION = replace(
    HOPPER,
    gemm=0.86,
    gemm_8bit=0.95,
    expert_gemm=0.33,
    expert_gemm_8bit=0.85,
    expert_gemm_4bit=1.3,
    bandwidth=0.87,
    cache_bandwidth=0.86,
    prefill_attention=0.52,
    link=0.44,
)

# Fitted on serving rows of 2025 and later on MI300X and MI325X, by training.physics_fit.
ROCM = replace(
    IDEAL,
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
    all_reduce_latency_s=5.6e-6,
    hop_latency_s=20e-6,
    layer_latency_s=65e-6,
    moe_latency_s=208e-6,
    prefill_latency_s=33e-6,
    token_latency_s=2e-6,
)

# Fitted on serving rows of MI350X and MI355X, by training.physics_fit.
INSTINCT_350 = replace(
    ROCM,
    gemm=0.6,
    expert_gemm=0.32,
    bandwidth=0.76,
    expert_bandwidth=0.85,
    cache_bandwidth=0.97,
    prefill_attention=0.2,
    link=0.37,
    all_reduce_latency_s=1.9e-6,
    layer_latency_s=34e-6,
    moe_latency_s=81e-6,
)

# Fitted on the rows of vLLM of 2024 on MI300X, by training.physics_fit. It launched every kernel by
# itself and reduced through the host.
VLLM_ROCM_2024 = replace(
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
    all_reduce_latency_s=5.2e-6,
    layer_latency_s=150e-6,
    moe_latency_s=84e-6,
)

# Fitted on rows of Xeon and EPYC in bf16 and INT8 (OpenVINO and others), by training.physics_fit.
PROCESSOR = replace(
    IDEAL,
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
    all_reduce_latency_s=20e-6,
    hop_latency_s=50e-6,
    layer_latency_s=180e-6,
    moe_latency_s=50e-6,
    token_latency_s=2e-6,
    core_reach=2.0,
    core_latency_s=5.1e-6,
    prompt_latency_s=7.8e-6,
    sequence_latency_s=3.7e-6,
)

# Fitted on our own rows of vLLM 0.32 on EPYC and the public rows of vLLM on CPUs, by
# training.physics_fit.
VLLM_CPU = replace(
    PROCESSOR,
    gemm=0.96,
    bandwidth=0.7,
    cache_bandwidth=0.25,
    decode_attention=0.1,
    prefill_attention=0.82,
    layer_latency_s=200e-6,
    core_latency_s=2e-6,
    prompt_latency_s=8.8e-6,
)

# GEMM of one thread on an EPYC of the third generation, M = 128, measured by us: fp32 58-60 GFLOP/s
# of a peak of 105 (32 a cycle at 3.3 GHz), bf16 8-9 and fp16 10. Without AVX-512 oneDNN has no 16
# bit kernels, so that every value is converted.
VLLM_CPU_AVX2 = replace(VLLM_CPU, gemm=0.56, gemm_emulated=0.145)

# Fitted on Ampere's and AWS's public llama.cpp rows (Altra, Graviton, Xeon, EPYC), by
# training.physics_fit. The peaks are those of its own kernels (processor_kernels.py), so that the
# shares of arithmetic are 1.
LLAMA_CPP_ONE_CACHE = replace(
    IDEAL,
    half_rows=1e-6,
    expert_half_rows=1e-6,
    bandwidth=0.95,
    expert_bandwidth=0.95,
    cache_bandwidth=0.95,
    score_dims=90.0,
    reread=0.5,
    link=0.5,
    all_reduce_latency_s=20e-6,
    hop_latency_s=50e-6,
    layer_latency_s=170e-6,
    moe_latency_s=50e-6,
    core_reach=1e3,
    core_latency_s=0.3e-6,
    prompt_latency_s=20e-6,
    sequence_latency_s=10e-6,
    head_latency_s=5.5e-9,
    roofline_exponent=1.0,
    overlap_exponent=1.6,
)
LLAMA_CPP = replace(LLAMA_CPP_ONE_CACHE, score_dims=0.0, head_latency_s=0.0)

KERNEL_CONSTANTS: Mapping[str, KernelConstants[float]] = {
    DeviceKind.CUDA: HOPPER,
    DeviceKind.ROCM: ROCM,
    "gfx950": INSTINCT_350,
    "vllm(rocm 2024)": VLLM_ROCM_2024,
    **dict.fromkeys(("sm60", "sm61", "sm70", "sm75", "sm80", "sm86", "sm87"), AMPERE),
    "sm89": ADA,
    "sm100": BLACKWELL,
    "sm103": BLACKWELL_ULTRA,
    **dict.fromkeys(("sm110", "sm120", "sm121"), BLACKWELL_WORKSTATION),
    DeviceKind.XPU: ACCELERATOR,
    DeviceKind.HPU: GAUDI,
    DeviceKind.CPU: PROCESSOR,
    "vllm-cpu": VLLM_CPU,
    "vllm-cpu(avx2)": VLLM_CPU_AVX2,
    "llama.cpp-cpu": LLAMA_CPP,
    "llama.cpp-cpu(one cache)": LLAMA_CPP_ONE_CACHE,
}
"""By generation of a device, else by its kind; by name for engines with kernels of their own."""

HOST_LINK = 0.44
"""Share of PCIe an all-reduce reaches at most on GPUs without NVLink; fitted on the all-reduce
timings of L40S (0.15 of PCIe 4) and RTX PRO 6000 (0.44 of PCIe 5), by scripts/fit_kernels.py."""
HOST_ALL_REDUCE = {"all_reduce_latency_s": 6.5e-6, "all_reduce_depth": 1.0}
"""They reduce through their host, rank by rank; seconds and exponent, from the same timings."""


def through_host(constants: KernelConstants[float]) -> KernelConstants[float]:
    """Return the constants of GPUs that reach each other by PCIe only."""
    return replace(constants, link=min(constants.link, HOST_LINK), **HOST_ALL_REDUCE)
