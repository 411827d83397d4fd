"""KV cache and recurrent state sizes follow from how a model attends."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.commons.units import KIB
from budsim.model_ops.registry import resolve_model


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", 320 * KIB),  # 2 x 80 layers x 8 heads x 128 x 2 bytes
        ("meta-llama/Llama-3.1-8B-Instruct", 128 * KIB),  # 2 x 32 x 8 x 128 x 2
        ("meta-llama/Llama-2-7b-hf", 512 * KIB),  # 2 x 32 x 32 x 128 x 2: every head its own
        ("deepseek-ai/DeepSeek-V3", 70_272),  # 61 x (512 + 64) x 2
        (
            "deepseek-ai/DeepSeek-V3.2",
            78_324,
        ),  # 61 x ((512 + 64) x 2 + 128 + 4): the indexer's 8-bit keys and their scale
        ("openai/gpt-oss-120b", 72 * KIB),  # 2 x 36 x 8 x 64 x 2
        ("bigcode/starcoder", 20 * KIB),  # 2 x 40 x 1 x 128 x 2: one head for all
        ("Qwen/Qwen3.5-397B-A17B", 30 * KIB),  # 15 of 60 layers: 2 x 15 x 2 x 256 x 2
        ("tiiuae/falcon-7b", 8 * KIB),  # 2 x 32 x 1 x 64 x 2
        (
            "google/gemma-4-31B-it",
            50 * 2 * 16 * 256 * 2 + 10 * 2 * 4 * 512 * 2,
        ),  # windowed and wide heads
        (
            "XiaomiMiMo/MiMo-V2-Flash",
            (39 * 8 + 9 * 4) * (192 + 128) * 2,
        ),  # more KV heads where the window is short
        (
            "MiniMaxAI/MiniMax-M3",
            60 * 2 * 4 * 128 * 2 + 57 * 128 * 2,
        ),  # an index key beside keys and values in 57 layers
        ("moonshotai/Kimi-K3", 24 * (512 + 64) * 2),  # 24 latent layers among 69 of delta state
        ("ai21labs/AI21-Jamba-1.5-Mini", 4 * 2 * 8 * 128 * 2),  # 4 of 32 layers attend
    ],
)
def test_cache_of_one_token(model_id: str, expected: int) -> None:
    """A token's keys and values, or its latent, take what the shape says in 16 bit."""
    assert resolve_model(model_id).kv_bytes_per_token(Precision.BF16) == expected


def test_full_attention_models_hold_no_state() -> None:
    """A transformer of full attention keeps nothing per sequence but its cache."""
    assert resolve_model("meta-llama/Llama-3.1-8B-Instruct").state_bytes_per_sequence() == 0
