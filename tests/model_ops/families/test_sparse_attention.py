"""Compressed and indexed caches."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.model_ops.registry import resolve_model


def test_indexers_shared_between_layers_store_keys_once() -> None:
    """GLM-5.2 keeps index keys in 21 of its 78 layers, GLM-5 in all."""
    per_layer = 128 + 4
    own = resolve_model("zai-org/GLM-5").kv_bytes_per_token(Precision.BF16)
    shared = resolve_model("zai-org/GLM-5.2").kv_bytes_per_token(Precision.BF16)
    assert own - shared == (78 - 21) * per_layer


def test_sparse_latents_keep_scales_and_rotary_part_beside_eight_bits() -> None:
    """An fp8 cache of DeepSeek-V3.2 in vLLM: 656 B a layer and token, 132 B for the indexer."""
    assert resolve_model("deepseek-ai/DeepSeek-V3.2").kv_bytes_per_token(Precision.FP8) == 61 * (
        512 + 16 + 128 + 132
    )
    assert resolve_model("deepseek-ai/DeepSeek-V3").kv_bytes_per_token(Precision.FP8) == 61 * (
        512 + 64
    )


def test_compressed_latents_stand_for_many_tokens() -> None:
    """DeepSeek-V4-Flash: 512 values for 1, 4 or 128 tokens in 2, 21 and 20 layers."""
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


def test_layers_may_read_the_cache_of_an_earlier_one() -> None:
    """DeepSeek-V4.1-Flash stores entries in 4 of 40 layers: three for 2 tokens, one for each."""
    model = resolve_model("deepseek-ai/DeepSeek-V4.1-Flash")
    entry, index, window = (448 + 64) * 2, 128 + 4, 2 * (448 + 64) * 2
    stored = 3 * (entry + index) / 2 + entry + index
    assert model.kv_bytes_per_token(Precision.BF16) == stored + window
    assert model.parameters == pytest.approx(552e9, rel=0.01)
