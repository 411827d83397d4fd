"""KV cache and recurrent state sizes follow from how a model attends."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.commons.units import KIB
from budsim.model_ops.architecture import AttentionKind
from budsim.model_ops.config import architecture_from_config
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


def test_indexers_shared_between_layers_store_keys_once() -> None:
    """GLM-5.2 keeps index keys in 21 of its 78 layers, GLM-5 in all."""
    per_layer = 128 + 4
    own = resolve_model("zai-org/GLM-5").kv_bytes_per_token(Precision.BF16)
    shared = resolve_model("zai-org/GLM-5.2").kv_bytes_per_token(Precision.BF16)
    assert own - shared == (78 - 21) * per_layer


def test_sparse_latents_keep_scales_and_rotary_part_beside_eight_bits() -> None:
    """An fp8 cache of DeepSeek-V3.2 takes vLLM's 656 bytes a layer and token and the indexer's 132; plain MLA half of 16 bit."""
    assert resolve_model("deepseek-ai/DeepSeek-V3.2").kv_bytes_per_token(Precision.FP8) == 61 * (
        512 + 16 + 128 + 132
    )
    assert resolve_model("deepseek-ai/DeepSeek-V3").kv_bytes_per_token(Precision.FP8) == 61 * (
        512 + 64
    )


def test_compressed_latents_stand_for_many_tokens() -> None:
    """DeepSeek-V4-Flash: an entry of 448 + 64 values for 1, 4 (with its index key) or 128 tokens in 2, 21 and 20 layers."""
    model = resolve_model("deepseek-ai/DeepSeek-V4-Flash")
    entry, index = (448 + 64) * 2, 128 + 4
    assert (
        model.kv_bytes_per_token(Precision.BF16)
        == 2 * entry + 21 * (entry + index) / 4 + 20 * entry / 128
    )
    looks = {
        (group.attention.compression, group.attention.window, group.attention.index_topk)
        for group in model.layers
    }
    assert looks == {(1, 128, None), (4, None, 4 * 512), (128, None, None)}
    assert (
        model.kv_bytes_per_token(Precision.BF16)
        < resolve_model("deepseek-ai/DeepSeek-V3").kv_bytes_per_token(Precision.BF16) / 8
    )


def test_linear_layers_hold_a_state_instead_of_a_cache() -> None:
    """Qwen3-Next: 36 layers of 32 heads x 128 x 128 and three columns of 8,192 convolved channels."""
    architecture = resolve_model("Qwen/Qwen3-Next-80B-A3B-Instruct")
    assert architecture.state_bytes_per_sequence() == 2 * 36 * (32 * 128 * 128 + 3 * 8192)
    assert architecture.kv_bytes_per_token(Precision.BF16) == 12 * 2 * 2 * 256 * 2
    assert architecture.attention_heads == 16


def test_a_state_is_kept_in_the_format_its_configuration_asks_for() -> None:
    """Qwen3.5 keeps the recurrent matrices in fp32, the convolved columns in 16 bit: 45 layers of 64 heads x 128 x 128."""
    assert resolve_model("Qwen/Qwen3.5-397B-A17B").state_bytes_per_sequence() == 45 * (
        64 * 128 * 128 * 4 + 3 * 12288 * 2
    )


def test_full_attention_models_hold_no_state() -> None:
    """A transformer of full attention keeps nothing per sequence but its cache."""
    assert resolve_model("meta-llama/Llama-3.1-8B-Instruct").state_bytes_per_sequence() == 0


@pytest.mark.parametrize(
    ("model_id", "windowed", "full", "window"),
    [
        ("mistralai/Mistral-7B-v0.1", 32, 0, 4096),
        ("google/gemma-2-9b", 21, 21, 4096),
        ("google/gemma-3-27b-it", 52, 10, 1024),
        ("google/gemma-4-26B-A4B-it", 25, 5, 1024),
        ("XiaomiMiMo/MiMo-V2-Flash", 39, 9, 128),
        ("openai/gpt-oss-20b", 12, 12, 128),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 36, 12, 8192),
        ("Qwen/Qwen2.5-7B-Instruct", 0, 28, None),
        ("mistralai/Mistral-7B-Instruct-v0.3", 0, 32, None),
    ],
)
def test_windows_alternate_as_the_family_does(
    model_id: str, windowed: int, full: int, window: int | None
) -> None:
    """Layers that see only a window are told from those that see everything."""
    groups = resolve_model(model_id).layers
    counts = {
        kind: sum(g.count for g in groups if g.attention.kind is kind) for kind in AttentionKind
    }
    assert (counts[AttentionKind.SLIDING], counts[AttentionKind.FULL]) == (windowed, full)
    assert {g.attention.window for g in groups if g.attention.kind is AttentionKind.SLIDING} <= {
        window
    }


def test_models_of_linear_layers_only_still_have_heads() -> None:
    """Tensor parallelism divides the linear heads of a model that has no other attention."""
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "hybrid_override_pattern": "M-",
        "intermediate_size": 64,
    }
    attention = {
        "num_attention_heads": 4,
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "ssm_state_size": 8,
    }
    rest = {
        "model_type": "nemotron_h",
        "conv_kernel": 4,
        "vocab_size": 100,
        "max_position_embeddings": 64,
    }
    architecture = architecture_from_config("linear", {**config, **attention, **rest})
    assert architecture.attention_heads == 8
    assert architecture.kv_bytes_per_token(Precision.BF16) == 0
