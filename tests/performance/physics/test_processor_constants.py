"""Constants of engines on processors."""

from budsim.performance.physics.processor_constants import (
    LLAMA_CPP,
    LLAMA_CPP_ONE_CACHE,
    VLLM_CPU,
    VLLM_CPU_AVX2,
)


def test_without_avx512_fewer_of_the_cycles_count() -> None:
    """fp32 reaches 59 of 105 GFLOP/s; bf16 8.5, a seventh of that."""
    assert abs(VLLM_CPU_AVX2.gemm * 105 - 59) < 1
    assert abs(VLLM_CPU_AVX2.gemm * VLLM_CPU_AVX2.gemm_emulated * 105 - 8.5) < 0.5
    assert VLLM_CPU.gemm_emulated == 1.0


def test_caches_apart_cost_no_heads_in_turn() -> None:
    """Only the cache that all sequences share is multiplied head by head."""
    assert LLAMA_CPP.head_latency_s == 0.0 < LLAMA_CPP_ONE_CACHE.head_latency_s
