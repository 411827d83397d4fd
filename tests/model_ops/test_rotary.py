"""Tables of rotary positions."""

from __future__ import annotations

import pytest

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.registry import resolve_model


@pytest.mark.parametrize(
    ("model_id", "values"),
    [
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 10_485_760 * 128),
        ("google/gemma-3-4b-it", 131_072 * 256 * (8 + 1)),
        ("deepseek-ai/DeepSeek-V3", 163_840 * 64),
        ("openai-community/gpt2", 0),
        ("MiniMaxAI/MiniMax-M2.5", 196_608 * 64),
        ("Qwen/Qwen3.5-397B-A17B", 262_144 * 64),
        ("google/gemma-4-31B-it", 262_144 * (512 + 256)),
    ],
)
def test_engines_compute_a_table_of_all_positions(model_id: str, values: int) -> None:
    """2.5 GiB a rank for Scout's ten million positions; two tables for Gemma; none if learned."""
    assert resolve_model(model_id).rotary_values == values


def test_the_turned_part_of_a_head_is_what_the_table_holds() -> None:
    """The width is a share of the head or a count of values; linear scaling lengthens the table."""
    base = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    }
    config = {
        **base,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "partial_rotary_factor": 0.5,
    }
    for stated, values in (
        ({}, 128 * 8),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 4 * 128 * 8),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 128 * 8),
        ({"rotary_dim": 4, "partial_rotary_factor": 1.0}, 128 * 4),
    ):
        assert architecture_from_config("rotary", {**config, **stated}).rotary_values == values
