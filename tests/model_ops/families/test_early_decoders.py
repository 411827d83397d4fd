"""Decoders with field names of their own are read as any other decoder."""

from __future__ import annotations

from typing import Any

import pytest

from budsim.commons.errors import InvalidInput, UnsupportedModel
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import LAYER, llama


def read(**changes: object) -> Architecture:
    """Return the small Llama read as another family."""
    return architecture_from_config("small", llama(**changes))


def kv_heads(model: Architecture) -> int:
    """Return the KV heads of the first layer."""
    return model.layers[0].attention.kv_heads


def test_falcon_7b_has_one_kv_head_and_its_published_size() -> None:
    """6,921,720,704 weights, as the checkpoint of falcon-7b lists its tensors."""
    falcon: dict[str, Any] = {
        "model_type": "falcon",
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "vocab_size": 65024,
        "multi_query": True,
        "parallel_attn": True,
        "max_position_embeddings": 2048,
    }
    model = architecture_from_config("falcon", falcon)
    assert kv_heads(model) == 1
    assert model.parameters == 6_921_720_704


def test_bigcode_has_one_kv_head_unless_told_otherwise() -> None:
    """``multi_query`` is true where the config is silent."""
    bigcode = {"model_type": "gpt_bigcode", "n_positions": 128, "num_key_value_heads": ...}
    assert kv_heads(read(**bigcode)) == 1
    assert kv_heads(read(**bigcode, multi_query=False)) == 4


def test_the_first_qwen_counts_gate_and_up_projection_together() -> None:
    """A width of 256 is 128 for each; an odd one is refused."""
    qwen = {"model_type": "qwen", "num_key_value_heads": ..., "no_bias": True}
    model = read(**qwen, intermediate_size=256)
    feed_forward = model.layers[0].feed_forward
    assert feed_forward is not None
    assert feed_forward.width == 128
    with pytest.raises(InvalidInput, match="intermediate_size"):
        read(**qwen, intermediate_size=255)


def test_an_opt_with_narrow_embeddings_is_refused() -> None:
    """OPT-350M projects embeddings of 512 to a width of 1,024."""
    with pytest.raises(UnsupportedModel, match="word_embed_proj_dim"):
        read(model_type="opt", word_embed_proj_dim=32, num_key_value_heads=...)


def test_hunyuan_lists_the_experts_of_each_layer() -> None:
    """Every layer has 2 of 4 experts; the lists say so for each layer."""
    model = read(
        model_type="hunyuan_v1_moe",
        num_experts=4,
        moe_topk=[2, 2],
        num_shared_expert=[1, 1],
        moe_intermediate_size=[32, 32],
    )
    feed_forward = model.layers[0].feed_forward
    assert feed_forward is not None
    assert (feed_forward.experts_per_token, feed_forward.shared_width) == (2, 32)


def test_dbrx_nests_its_settings() -> None:
    """KV heads and experts stand in ``attn_config`` and ``ffn_config``."""
    model = read(
        model_type="dbrx",
        num_key_value_heads=...,
        attn_config={"kv_n_heads": 2},
        ffn_config={"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    )
    feed_forward = model.layers[0].feed_forward
    assert feed_forward is not None
    assert (kv_heads(model), feed_forward.experts, feed_forward.width) == (2, 4, 32)


def test_parallel_branches_share_a_norm() -> None:
    """StableLM with parallel branches has one norm a layer, with biases."""
    serial = read(model_type="stablelm", use_parallel_residual=False)
    parallel = read(model_type="stablelm", use_parallel_residual=True)
    assert serial.parameters - parallel.parameters == 2 * 2 * 64
    assert parallel.parameters > 2 * (LAYER - 128)
