"""Results of llama.cpp's benchmarks become rows."""

from __future__ import annotations

from typing import Any

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.llama_bench import batched_row, single_row, tables_in

TEST: dict[str, Any] = {
    "build_commit": "abc1234",
    "build_number": 6000,
    "cpu_info": "AMD Ryzen 9",
    "gpu_info": "NVIDIA GeForce RTX 4090",
    "backends": "CUDA",
    "model_type": "llama 8B Q4_K - Medium",
    "n_gpu_layers": 99,
    "n_prompt": 512,
    "n_gen": 0,
    "n_depth": 0,
    "avg_ts": 5120.0,
    "test_time": "2026-01-02T03:04:05Z",
}
TABLE = """
| model                  |   size | params | backend | ngl |         test |             t/s |
| ---------------------- | -----: | -----: | ------- | --: | -----------: | --------------: |
| llama 8B Q4_K - Medium | 4 GiB  | 8.03 B | CUDA    |  99 |        pp512 | 5120.00 ± 12.34 |
| llama 8B Q4_K - Medium | 4 GiB  | 8.03 B | CUDA    |  99 | tg128 @ d512 |   125.00 ± 0.50 |

build: abc1234 (6000)
"""
BATCHED = """
|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|   128 |    100 |    4 |    912 |    0.100 |  5120.00 |    1.000 |   400.00 |    1.100 |   829.09 |
"""


def test_a_prompts_time_is_the_ttft() -> None:
    """512 tokens at 5,120 tokens/s take 100 ms."""
    row = single_row(TEST)
    assert row["ttft_ms_mean"] == pytest.approx(100.0)
    assert (row["device_name"], row["precision"]) == ("NVIDIA GeForce RTX 4090", "q4_k_m")
    assert (row["concurrency"], row["engine_version"]) == (1, "abc1234_b6000")


def test_tables_tell_what_json_does() -> None:
    """pp512 is 100 ms to the first token, tg128 at 125 tokens/s after 512 is 8 ms a token."""
    prompt, generated = (single_row(cells) for cells in tables_in(TABLE))
    assert prompt["ttft_ms_mean"] == pytest.approx(100.0)
    assert generated["tpot_ms_mean"] == pytest.approx(8.0)
    assert (generated["input_tokens"], generated["output_tokens"]) == (512, 128)


def test_a_batch_starts_at_once() -> None:
    """Four prompts take 0.1 s together, 100 tokens of each 1 s: 10 ms a token, 364 tokens/s."""
    (row,) = (batched_row(cells) for cells in tables_in(BATCHED))
    assert (row["ttft_ms_mean"], row["tpot_ms_mean"]) == pytest.approx((100.0, 10.0))
    assert row["output_tokens_per_s_total"] == pytest.approx(400 / 1.1)
    assert (row["concurrency"], row["mode"]) == (4, "static_batch")


def test_processors_without_a_gpu_are_named() -> None:
    """With no layer on the GPU the CPU computed, with so many threads."""
    cpu = {"n_gpu_layers": 0, "n_threads": 8, "backends": "CPU"}
    row = single_row({**TEST, **cpu})
    assert row["device_name"] == "AMD Ryzen 9"
    assert "threads per process=8" in str(row["notes"])


def test_a_prompt_and_its_generation_in_one_time_are_refused() -> None:
    """-pg gives one time for both."""
    with pytest.raises(InvalidInput, match="-pg"):
        single_row({**TEST, "n_gen": 128})
