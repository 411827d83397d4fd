"""Parallelism as tables write it."""

from __future__ import annotations

from tests.performance.measured.measured_rows import read


def test_attention_ranks_of_experts_are_not_replicas() -> None:
    """(tp 1, dp 8) on 8 devices is one MoE replica with attention held whole on each.

    A dense model's dp are replicas.
    """
    experts = read({"model_hf": "deepseek-ai/DeepSeek-R1", "tp": "1", "dp": "8", "ep": "8"})
    assert (experts.candidates.tp[0], experts.candidates.dp[0], experts.replicas[0]) == (8, 8, 1)
    dense = read({"tp": "2", "dp": "4"})
    assert (dense.candidates.tp[0], dense.replicas[0], dense.candidates.concurrency[0]) == (2, 4, 4)


def test_devices_whose_use_a_row_does_not_say_are_stages() -> None:
    """(tp 2, pp 1) of a model on 8 devices leaves four times as many as it uses.

    A pipeline of four stages.
    """
    assert read({"tp": "2", "pp": "1"}).candidates.pp[0] == 4
    assert read({"tp": "2", "dp": "4"}).candidates.pp[0] == 1
