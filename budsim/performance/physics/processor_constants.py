"""Kernel constants of processors, by engine: their kernels differ more than their cores."""

from __future__ import annotations

from dataclasses import replace

from budsim.performance.physics.attainable import IDEAL

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
