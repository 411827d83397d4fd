"""The share of a data sheet real kernels reach and what they cost besides.

One table for each generation of hardware says on what it was fitted and by which script. What
remains is left to the regressors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.physics.attainable import IDEAL, KernelConstants
from budsim.performance.physics.processor_constants import (
    LLAMA_CPP,
    LLAMA_CPP_ONE_CACHE,
    PROCESSOR,
    VLLM_CPU,
    VLLM_CPU_AVX2,
)

# No kernel timings and too few measurements: rounded means of the generations known in 2025.
# Accelerators without published kernel timings.
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
    prompt_factor=1.0,
    token_latency_s=2e-6,
)

# Fitted on static batches of optimum-habana on Gaudi 2, of three parties. 8 bit products come near
# their peak, those in 16 bit of 2024 did not: hence the ratio of 2.45 (1.6 on Gaudi 3). Of its
# bandwidth Gaudi 3 reaches less, by rows of four parties.
GAUDI = replace(
    ACCELERATOR,
    gemm=0.37,
    gemm_8bit=2.45,
    expert_gemm=0.11,
    half_rows=22.0,
    bandwidth=0.96,
    cache_bandwidth=0.73,
    prefill_attention=0.37,
    link=0.96,
    all_reduce_latency_s=27e-6,
    all_reduce_depth=0.5,
    layer_latency_s=10e-6,
)
GAUDI_3 = replace(GAUDI, gemm_8bit=1.6, bandwidth=0.72)

# Shares, and latencies of products, experts and all-reduces: fitted on NVIDIA's published kernel
# timings, by scripts/fit_kernels.py (tables of PyPI's `aiconfigurator-core` 0.12, Apache-2.0: vLLM
# 0.24, SGLang 0.5.14, TensorRT-LLM 1.3). Those tables leave out the rest of a layer, steps with
# prompts, indexers and linear layers: their latencies were fitted on the serving rows of
# InferenceX, by scripts/fit_serving.py. Dense FP8 products were 0.73 by those timings; serving rows
# of Llama models on H100 and H200 (two parties, three engines) say 0.88. Attention of prompts
# reaches a share that grows with the c tokens it looks back at: on Hopper s x c / (c + h) leaves 8
# to 15 % of error to vLLM's and SGLang's timings, where one share leaves 20 to 29 %; on all NVIDIA
# devices 8 to 17 and 15 to 38 %. On Hopper s is 0.62 to 0.67 and h 360 to 570 tokens.
# TensorRT-LLM's are 0.58 and 650 to 700, but its serving rows on Hopper and Blackwell, whose factor
# of prompts is 1, say one share for all lengths.
HOPPER = replace(
    IDEAL,
    gemm=0.79,
    gemm_8bit=0.88,
    expert_gemm=0.25,
    expert_gemm_8bit=0.9,
    half_rows=1.0,
    expert_half_rows=1.0,
    bandwidth=0.84,
    expert_bandwidth=0.9,
    expert_traffic=10.0,
    cache_bandwidth=0.75,
    decode_attention=0.45,
    prefill_attention=0.65,
    prefill_half_context=450.0,
    # Gated delta networks by their timings: 0.05 and 0.06 on TensorRT-LLM and vLLM.
    linear_prefill=0.05,
    link=0.66,
    # 3.0 us on SGLang, 3.1 on TensorRT-LLM and 4.8 on vLLM; 4.8, 5.2 and 7.6 on B200.
    all_reduce_latency_s=3.8e-6,
    all_reduce_depth=0.0,
    hop_latency_s=20e-6,
    gemm_latency_s=3.4e-6,
    narrow_gemm_latency_s=3e-6,
    scaled_gemm_latency_s=3e-6,
    layer_latency_s=18e-6,
    moe_latency_s=49e-6,
    narrow_experts_latency_s=10e-6,
    short_experts_latency_s=10e-6,
    # Triton's matmul_ogs and FlashInfer's trtllm-gen kernels; fitted on decode steps of gpt-oss on
    # H100, H200 and B200, of two parties and three engines.
    fused_experts_s=15e-6,
    index_latency_s=68e-6,
    state_latency_s=15e-6,
    prefill_latency_s=85e-6,
    prompt_factor=1.3,
    token_latency_s=2e-6,
    roofline_exponent=2.0,
)

# The timings cover A100; generations before it were never timed and share its shares.
AMPERE = replace(
    HOPPER,
    gemm=0.84,
    gemm_8bit=0.73,
    # 0.25 by the timings; long prompts of models of 106 to 235 billion parameters say 0.3.
    expert_gemm=0.3,
    # Marlin's: 256 requests of Qwen3-14B decode in 55 ms in bf16, 67 in FP8 and 63 in AWQ
    # (GPUStack); with 64 requests AWQ of Qwen2.5-7B errs by 4 instead of 13 % (inference-bench).
    gemm_converted=0.75,
    bandwidth=0.77,
    cache_bandwidth=0.64,
    prefill_attention=0.58,
    prefill_half_context=280.0,
    link=0.6,
)
ADA = replace(
    HOPPER,
    gemm=0.6,
    gemm_8bit=0.73,
    expert_gemm=0.3,
    cache_bandwidth=0.85,
    prefill_attention=0.53,
    prefill_half_context=250.0,
    linear_prefill=0.07,
    link=0.15,
)
# The timings of Ada are of L40S, whose power limit ends its products at 0.6 of the data sheet.
# Tensor cores at half that rate stay below the limit: cuBLAS reaches 105 to 115 of the 119.5 TFLOPS
# of an L20 (hgemm of github.com/xlite-dev/LeetCUDA, 2025). Their prefill attention was not timed
# and reaches the share that Ampere's does.
ADA_HALF_RATE = replace(ADA, gemm=0.9, prefill_attention=AMPERE.prefill_attention)
BLACKWELL = replace(
    HOPPER,
    gemm=0.7,
    gemm_8bit=0.79,
    gemm_4bit=0.72,
    expert_gemm=0.33,
    expert_gemm_8bit=0.4,
    bandwidth=0.79,
    # NVFP4 products read 0.60 (SGLang) and 0.61 (vLLM) of the bandwidth, 16 bit ones 0.76 and 0.77.
    bandwidth_4bit=0.78,
    cache_bandwidth=0.85,
    prefill_attention=0.6,
    prefill_half_context=700.0,
    linear_prefill=0.026,
    link=0.56,
    all_reduce_latency_s=6.3e-6,
    moe_latency_s=29e-6,
    # Experts in NVFP4 take 10 us less than those in blocks of FP8 (SGLang, vLLM).
    short_experts_latency_s=0.0,
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
    prefill_attention=0.58,
    prefill_half_context=225.0,
    linear_prefill=0.06,
    # FlashMLA's sparse kernels need sm90 or sm100 (its README); what replaces them was fitted on
    # prompts of DeepSeek-V4 on RTX PRO 6000 and GB10, of one party.
    sparse_prefill=0.009,
    link=0.44,
)

# llama.cpp multiplies blocks of 8 and 4 bit by its own kernels, 512 tokens at a time. Fitted on
# prompts of three models on GB10, of one party (llama.cpp's benches/dgx-spark.md).
LLAMA_CPP_GB10 = replace(BLACKWELL_WORKSTATION, gemm=0.34, expert_gemm=0.043)

# gpt-oss runs on Triton's experts there (TensorRT-LLM's guide to gpt-oss: `moe_config` with the
# backend TRITON on Hopper), which nothing fuses. Fitted on its decode steps on H200, InferenceX.
# Norms and all-reduces convert to FP8 in passing where a matrix has one scale (its fused
# all-reduce RESIDUAL_RMS_NORM_QUANT_FP8): decode of Llama-3.1-70B on H200 and B200 fits without.
TRTLLM_HOPPER = replace(
    HOPPER,
    prefill_attention=0.55,
    prefill_half_context=0.0,
    fused_experts_s=-30e-6,
    scaled_gemm_latency_s=0.0,
)

# SGLang passes prompts through gated delta networks by Triton kernels, by their timings.
SGLANG_HOPPER = replace(HOPPER, linear_prefill=0.018)
SGLANG_BLACKWELL = replace(BLACKWELL, linear_prefill=0.016)

# Experts in 16 bit reach 0.37 and 0.41 by vLLM's timings on H100 and H200, those in 8 bit 0.21 to
# 0.25 of twice the peak, and MXFP4 ones, converted to 16 bit, 0.2 to 0.25. SGLang's 16 bit ones are
# untuned for many shapes: 0.13 to 0.15, with twice the error.
VLLM_HOPPER = replace(HOPPER, expert_gemm=0.4, expert_gemm_8bit=0.56, expert_gemm_converted=0.62)

# TGIS multiplied by FlashAttention 2, which was written for Ampere.
TGIS_HOPPER = replace(HOPPER, prefill_attention=0.5, prefill_half_context=0.0)

# Experts take 18 us by the timings, 23 and 26 us on SGLang and vLLM; but in NVFP4 twice as long as
# there.
TRTLLM_BLACKWELL = replace(
    BLACKWELL,
    prefill_attention=0.5,
    prefill_half_context=0.0,
    moe_latency_s=22e-6,
    short_experts_latency_s=10e-6,
    scaled_gemm_latency_s=0.0,
)

# DeepGEMM's experts pad each expert's tokens and take as much longer at 4 requests as at 64. Fitted
# on DeepSeek-R1 on B200 before and after the change of backend, InferenceX.
TRTLLM_DEEPGEMM = replace(
    BLACKWELL, prefill_attention=0.5, prefill_half_context=0.0, moe_latency_s=115e-6
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
    prompt_factor=1.0,
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

# vLLM of 2024 launched every kernel by itself. Fitted on seven models on MI250 at tp 1 to 4, of one
# party (llm_inference_bench), by least squares of the logs; rows do not tell links from meetings.
VLLM_ROCM_2024 = replace(
    ROCM,
    gemm=0.29,
    expert_gemm=0.13,
    half_rows=1.0,
    expert_half_rows=7.0,
    bandwidth=0.48,
    expert_bandwidth=0.52,
    cache_bandwidth=0.71,
    # Query heads read the keys that they share again.
    reread=0.4,
    prefill_attention=0.063,
    link=0.56,
    all_reduce_latency_s=27e-6,
    layer_latency_s=117e-6,
    moe_latency_s=84e-6,
)

# On MI300X its products of 16 bit reached 76 TFLOP/s, less than on MI250. Fitted on seven models at
# tp 1 to 8 of the same party.
VLLM_MI300_2024 = replace(
    VLLM_ROCM_2024,
    gemm=0.058,
    expert_gemm=0.11,
    bandwidth=0.57,
    expert_bandwidth=0.78,
    cache_bandwidth=0.42,
    reread=1.0,
    layer_latency_s=50e-6,
)

# With attention kernels of its own (0.6), and FP8 products that were tuned: those in 16 bit reached
# a fifth of what these do. Fitted on Llama-3.1-405B in both formats, of one party (dstack).
VLLM_MI300_LATE_2024 = replace(
    VLLM_MI300_2024,
    gemm=0.1,
    gemm_8bit=5.0,
    cache_bandwidth=ROCM.cache_bandwidth,
    reread=0.0,
    all_reduce_latency_s=10e-6,
)


def _ultra(blackwell: KernelConstants[float]) -> KernelConstants[float]:
    """Return the constants of an engine's kernels on Blackwell Ultra, by those on Blackwell.

    They are the same kernels. By their timings on B300 and GB300 beside B200 and GB200 (vLLM,
    SGLang, TensorRT-LLM), dense products reach 1.09 times the share, and attention of prompts 1.14
    to 1.39 times. The peak of NVFP4 grew by half; what products in NVFP4 reach of it did not.
    """
    return replace(
        blackwell,
        gemm=blackwell.gemm * 1.09,
        nvfp4=0.68,
        prefill_attention=blackwell.prefill_attention * 1.22,
    )


# By generation of a device, else by its kind; by name for engines with kernels of their own.
KERNEL_CONSTANTS: Mapping[str, KernelConstants[float]] = {
    DeviceKind.CUDA: HOPPER,
    DeviceKind.ROCM: ROCM,
    "gfx950": INSTINCT_350,
    "vllm(rocm 2024)": VLLM_ROCM_2024,
    "vllm(rocm 2024) on gfx942": VLLM_MI300_2024,
    "vllm(2024) on gfx942": VLLM_MI300_LATE_2024,
    "llama.cpp on sm121": LLAMA_CPP_GB10,
    "sglang on sm90": SGLANG_HOPPER,
    "vllm on sm90": VLLM_HOPPER,
    "sglang on sm100": SGLANG_BLACKWELL,
    "sglang on sm103": _ultra(SGLANG_BLACKWELL),
    "tgis on sm90": TGIS_HOPPER,
    "trtllm on sm90": TRTLLM_HOPPER,
    "trtllm on sm100": TRTLLM_BLACKWELL,
    "trtllm on sm103": _ultra(TRTLLM_BLACKWELL),
    "trtllm(deepgemm) on sm100": TRTLLM_DEEPGEMM,
    "trtllm(deepgemm) on sm103": _ultra(TRTLLM_DEEPGEMM),
    **dict.fromkeys(("sm60", "sm61", "sm70", "sm75", "sm80", "sm86", "sm87"), AMPERE),
    "sm89": ADA,
    "sm89(half rate)": ADA_HALF_RATE,
    "sm100": BLACKWELL,
    "sm103": _ultra(BLACKWELL),
    **dict.fromkeys(("sm110", "sm120", "sm121"), BLACKWELL_WORKSTATION),
    DeviceKind.XPU: ACCELERATOR,
    DeviceKind.HPU: GAUDI,
    "gaudi3": GAUDI_3,
    DeviceKind.CPU: PROCESSOR,
    "vllm-cpu": VLLM_CPU,
    "vllm-cpu(avx2)": VLLM_CPU_AVX2,
    "llama.cpp-cpu": LLAMA_CPP,
    "llama.cpp-cpu(one cache)": LLAMA_CPP_ONE_CACHE,
}

# Share of PCIe an all-reduce reaches at most on GPUs without NVLink, by generation of PCIe: fitted
# on the all-reduce timings of L40S (PCIe 4) and RTX PRO 6000 (PCIe 5), by scripts/fit_kernels.py.
# Older cards were never timed and reach no more than L40S does.
HOST_LINK = {"PCIe 5": 0.44}
OLDER_HOST_LINK = 0.15

# Share of the network of devices that have no link at all, one to a node: as two GB10 reach it. A
# small message takes as long as DeepEP's between two nodes (118 us, less 73 us of transfer).
NETWORK_LINK = BLACKWELL_WORKSTATION.link
NETWORK_LATENCY_S = 45e-6

# They reduce through their host, rank by rank; seconds and exponent, from the same timings.
HOST_ALL_REDUCE = {"all_reduce_latency_s": 6.5e-6, "all_reduce_depth": 1.0}


# FLOP/s in 16 bit of one unit of a whole Hopper (H100 SXM: 989.4 TFLOPS, 132 units). The tensor
# cores of boards with less than half of that were slowed down for export (H20: to a quarter).
WHOLE_RATE = {"sm90": 989.4e12 / 132}
SLOWED = 0.5


def with_slowed_cores(constants: KernelConstants[float], rate: float) -> KernelConstants[float]:
    """Return the constants of a board whose tensor cores run at ``rate`` (0..1) of whole ones.

    The rest of a kernel (addresses, exponentials, launches) and of a prompt keeps its speed, so it
    takes a smaller part of a longer time: a share of 0.55 becomes 0.83 at a quarter of the rate.
    H20 says as much or more: 120 to 130 of its 148 TFLOPS in decode attention, 0.76 of them by this
    rule (github.com/deepseek-ai/FlashMLA, issue 30); 15.2 s for 65,536 tokens of
    Qwen3-Coder-30B-A3B (microbenchmark of SGLang's HiCache), 17 s by this rule.
    """
    names = ("gemm", "expert_gemm", "decode_attention", "prefill_attention")
    shares = {name: getattr(constants, name) for name in names}
    reached = {name: 1.0 / (1.0 + (1.0 / share - 1.0) * rate) for name, share in shares.items()}
    factor = 1.0 + (constants.prompt_factor - 1.0) * rate
    half = constants.prefill_half_context * rate
    return replace(constants, prompt_factor=factor, prefill_half_context=half, **reached)


def through_host(constants: KernelConstants[float], link: str) -> KernelConstants[float]:
    """Return the constants of GPUs that reach each other by PCIe only, ``PCIe 4.0 x16`` say."""
    share = next((v for name, v in HOST_LINK.items() if link.startswith(name)), OLDER_HOST_LINK)
    return replace(constants, link=min(constants.link, share), **HOST_ALL_REDUCE)
