"""What kernels reach of a data sheet and cost besides: the quantities, and the ideal.

`kernel_constants` and `processor_constants` hold their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

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
    nvfp4 : ratio
        What products in NVFP4 reach of their own peak, relative to MXFP4 ones, which engines
        multiply as 8 bit.
    gemm_converted, expert_gemm_converted : ratio
        What products in 16 bit reach whose weights have fewer bits and are converted in the
        kernel, relative to the share in 16 bit.
    gemm_emulated : ratio
        What products in 16 bit reach of the fp32 peak on devices without 16 bit instructions,
        relative to ``gemm``.
    half_rows, expert_half_rows : rows
        A product of so many rows reaches half of its share.
    bandwidth, expert_bandwidth, cache_bandwidth : share of the memory bandwidth, 0..1
        While weights, experts and the KV cache are read.
    bandwidth_4bit : ratio
        What reading weights of dense products in 4 bit reaches, relative to ``bandwidth``.
    decode_attention, prefill_attention : share of the peak FLOP/s, 0..1
        What attention reaches for running sequences and for long prompts.
    prefill_half_context : tokens
        Prompt tokens that look back at so many reach half of ``prefill_attention``.
    sparse_prefill : ratio
        What prompts reach in models whose indexers choose the tokens, relative to
        ``prefill_attention``.
    linear_prefill : share of the peak FLOP/s, 0..1
        What prompts reach in layers of linear attention.
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
    prompt_factor : ratio
        What prompts add to a step, relative to the sum of their kernels' times.
    gemm_latency_s, narrow_gemm_latency_s : seconds a product
        A launch, and on top the conversion of activations to 8 or 4 bit.
    scaled_gemm_latency_s : seconds a product
        The conversion to 8 bit where a whole matrix has one scale: some engines do it in passing.
    narrow_experts_latency_s, short_experts_latency_s : seconds a layer of experts
        The same conversion for experts in 8 bit, and in 4.
    fused_experts_s : seconds a layer of MXFP4 experts without a shared one takes less
        Their kernels route, multiply twice and sum in one or two launches.
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
    nvfp4: Number
    gemm_converted: Number
    expert_gemm_converted: Number
    gemm_emulated: Number
    half_rows: Number
    expert_half_rows: Number
    bandwidth: Number
    expert_bandwidth: Number
    cache_bandwidth: Number
    bandwidth_4bit: Number
    decode_attention: Number
    prefill_attention: Number
    prefill_half_context: Number
    sparse_prefill: Number
    linear_prefill: Number
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
    prompt_factor: Number
    gemm_latency_s: Number
    narrow_gemm_latency_s: Number
    scaled_gemm_latency_s: Number
    narrow_experts_latency_s: Number
    short_experts_latency_s: Number
    fused_experts_s: Number
    expert_traffic: Number
    token_latency_s: Number
    core_reach: Number
    core_latency_s: Number
    prompt_latency_s: Number
    sequence_latency_s: Number
    head_latency_s: Number
    roofline_exponent: Number
    overlap_exponent: Number


# Hardware that reaches its data sheet and costs nothing besides; the others differ from it.
IDEAL: KernelConstants[float] = KernelConstants(
    gemm=1.0,
    expert_gemm=1.0,
    gemm_8bit=1.0,
    gemm_4bit=1.0,
    expert_gemm_8bit=1.0,
    expert_gemm_4bit=1.0,
    nvfp4=1.0,
    gemm_converted=1.0,
    expert_gemm_converted=1.0,
    gemm_emulated=1.0,
    half_rows=0.0,
    expert_half_rows=0.0,
    bandwidth=1.0,
    expert_bandwidth=1.0,
    cache_bandwidth=1.0,
    bandwidth_4bit=1.0,
    decode_attention=1.0,
    prefill_attention=1.0,
    prefill_half_context=0.0,
    sparse_prefill=1.0,
    linear_prefill=1.0,
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
    prompt_factor=1.0,
    gemm_latency_s=0.0,
    narrow_gemm_latency_s=0.0,
    scaled_gemm_latency_s=0.0,
    narrow_experts_latency_s=0.0,
    short_experts_latency_s=0.0,
    fused_experts_s=0.0,
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
