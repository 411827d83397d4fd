"""Text models inside wrappers: nested, beside the tower, or under a version."""

from __future__ import annotations

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.families.wrapped import text_part
from tests.model_ops.configs import llama

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "image_size": 28,
    "patch_size": 14,
}


def test_a_text_model_is_found_under_any_of_three_names() -> None:
    """What the whole says of ties and formats is inherited, and its own type where it has none."""
    for part in ("text_config", "llm_config", "language_config"):
        whole = {"model_type": "llava", "torch_dtype": "float16", part: llama(model_type=...)}
        found = text_part(ConfigReader(whole))
        assert (found.text("model_type"), found.text("torch_dtype")) == ("llama", "bfloat16")
        assert found.path("hidden_size") == f"{part}.hidden_size"


def test_versions_of_minicpm_have_text_models_of_their_own() -> None:
    """2.6 is a Qwen2, which has biases of queries, keys and values; 4.0 is a Llama."""
    kinds = [
        text_part(ConfigReader({**llama(), "model_type": "minicpmv", "version": version}))
        for version in (2.6, "4.0", 4.5)
    ]
    assert [each.text("model_type") for each in kinds] == ["qwen2", "llama", "qwen3"]
    with pytest.raises(UnsupportedModel, match=r"version: '3.0' of minicpmv; expected one of 2.5"):
        text_part(ConfigReader({**llama(), "model_type": "minicpmv", "version": 3.0}))


def test_deepseek_without_compressed_caches_has_heads() -> None:
    """DeepSeek-OCR's config.json says deepseek_v2, kv_lora_rank null and heads of size 0."""
    language = {
        **llama(model_type="deepseek_v2", n_routed_experts=8, num_experts_per_tok=2),
        "moe_intermediate_size": 16,
        "kv_lora_rank": None,
        "qk_rope_head_dim": 0,
        "v_head_dim": 0,
    }
    whole = {
        "architectures": ["DeepseekOCRForCausalLM"],
        "model_type": "deepseek_vl_v2",
        "language_config": language,
        "vision_config": {"image_size": 1024},
    }
    found = architecture_from_config("ocr", whole)
    assert {group.attention.kv_heads for group in found.layers} == {2}
    assert found.family == "DeepseekOCRForCausalLM"


def test_deepseek_vl2_names_no_class() -> None:
    """VLLM assumes one where its config.json has none."""
    whole = {
        "model_type": "deepseek_vl_v2",
        "language_config": llama(),
        "vision_config": {"width": 32, "layers": 2, "patch_size": 14},
    }
    assert architecture_from_config("vl2", whole).family == "DeepseekVLV2ForCausalLM"


def test_ernie_has_a_second_group_of_experts_for_images() -> None:
    """Text comes first; 4 experts of 3 x 64 x 8 weights for images are in one of two layers."""
    both = {
        **llama(model_type="ernie4_5_moe_vl"),
        "moe_num_experts": [4, 4],
        "moe_intermediate_size": [16, 8],
        "moe_k": 2,
        "moe_layer_start_index": [1, 1],
        "moe_layer_end_index": [2, 1],
        "vision_config": {**VISION, "spatial_merge_size": 2},
    }
    one = {**both, "moe_num_experts": 4, "moe_intermediate_size": 16}
    found, alone = (architecture_from_config("e", each) for each in (both, one))
    assert found.parameters - alone.parameters == 4 * 3 * 64 * 8
