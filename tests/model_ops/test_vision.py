"""Vision towers are counted, or refused by name."""

from __future__ import annotations

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.encoders import encoder_work
from budsim.model_ops.media import Media
from tests.model_ops.configs import llama


def test_unread_wrappers_pass_their_text_model_on() -> None:
    """A wrapper's text model is read from text_config, its vision tower from vision_config."""
    text = llama(model_type="mistral")
    vision = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16, "patch_size": 2}
    config = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "text_config": text,
    }
    plain = architecture_from_config("text", text)
    whole = architecture_from_config("whole", {**config, "vision_config": vision})
    block, stem, projector = 4 * 64 + 3 * 128 + 16, 96 + 8, 8 + 256 + 512 + 4096
    assert whole.parameters - plain.parameters == block + stem + projector
    assert whole.family == "Mistral3ForConditionalGeneration"


def test_unknown_vision_tower_is_refused() -> None:
    """A tower of unknown size is not guessed."""
    config = {"model_type": "mystery_vl", "text_config": llama(), "vision_config": {"depth": 3}}
    with pytest.raises(UnsupportedModel, match="vision_config"):
        architecture_from_config("mystery", config)


@pytest.mark.parametrize("model_type", ["vlm", "hyperclovax_vision_v2"])
def test_hyperclova_has_a_tower_of_qwen_and_a_projector(model_type: str) -> None:
    """HyperCLOVAX-SEED-Think-32B is 33 billion weights with its tower of 0.7 billion."""
    tower = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3456,
        "num_heads": 16,
        "out_hidden_size": 5120,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    text = llama(
        model_type="hyperclovax",
        hidden_size=5120,
        num_hidden_layers=72,
        intermediate_size=24192,
        num_attention_heads=40,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=128256,
    )
    config = {"model_type": model_type, "text_config": text}
    alone = architecture_from_config("text", config).parameters
    whole = architecture_from_config("both", {**config, "vision_config": tower})
    assert whole.parameters - alone == pytest.approx(0.70e9, rel=0.05)
    assert whole.parameters == pytest.approx(33.3e9, rel=0.01)


def test_qwen2_vl_has_the_published_size() -> None:
    """8,291,375,616 weights (safetensors total of Qwen/Qwen2-VL-7B-Instruct)."""
    text = {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
    }
    tower = {
        "depth": 32,
        "embed_dim": 1280,
        "hidden_size": 3584,
        "mlp_ratio": 4,
        "num_heads": 16,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    found = architecture_from_config(
        "Qwen/Qwen2-VL-7B-Instruct",
        {
            "architectures": ["Qwen2VLForConditionalGeneration"],
            "model_type": "qwen2_vl",
            "vision_config": tower,
            **text,
        },
    )
    assert found.parameters == 8_291_375_616
    image = encoder_work(found.encoders, Media(images=1, width=1024, height=1024), "qwen2-vl")
    assert image.largest_item == 37 * 37
