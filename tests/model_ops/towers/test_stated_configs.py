"""Models of images and sounds that no catalog holds, by the sizes that their publishers state."""

from __future__ import annotations

from typing import Any

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.catalog import catalog_entries
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.encoders import encoder_work
from budsim.model_ops.media import Media


def text(model_type: str, **changes: object) -> dict[str, Any]:
    """Return Qwen3-8B's text model, under the name that a wrapper gives it."""
    qwen3_8b: dict[str, Any] = {
        "model_type": model_type,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    }
    return qwen3_8b | changes


QWEN2_7B = text(
    "qwen2",
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    vocab_size=152064,
)
QWEN2_72B = text(
    "qwen2",
    hidden_size=8192,
    intermediate_size=29568,
    num_hidden_layers=80,
    num_attention_heads=64,
    vocab_size=152064,
)
ARIA_TEXT = text(
    "aria_text",
    hidden_size=2560,
    intermediate_size=1664,
    num_hidden_layers=28,
    num_attention_heads=20,
    num_key_value_heads=20,
    vocab_size=100352,
    moe_num_experts=64,
    moe_topk=6,
    moe_num_shared_experts=2,
)
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}
QWEN3_TOWER = SIGLIP | {"depth": 27, "patch_size": 16, "deepstack_visual_indexes": [8, 16, 24]}
QWEN3_TOWER |= {"num_position_embeddings": 2304, "out_hidden_size": 4096}
MERGED = {"spatial_merge_size": 2, "temporal_patch_size": 2}
QWEN2_5_TOWER = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "patch_size": 14}
INTERN_6B = {"hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 45}

# Class, its config.json, and weights on the model's page of the Hugging Face hub.
STATED: dict[str, tuple[str, dict[str, Any], float]] = {
    "rhymes-ai/Aria": (
        "AriaForConditionalGeneration",
        {
            "model_type": "aria",
            "text_config": ARIA_TEXT,
            "vision_config": SIGLIP | {"patch_size": 14, "image_size": 980},
        },
        25.3e9,
    ),
    "allenai/Molmo2-8B": (
        "Molmo2ForConditionalGeneration",
        {
            "model_type": "molmo2",
            "text_config": text("molmo2_text", use_qk_norm=True),
            "vit_config": SIGLIP | {"image_default_input_size": [378, 378], "image_patch_size": 14},
            "adapter_config": {
                "vit_layers": [-3, -9],
                "hidden_size": 1152,
                "intermediate_size": 12288,
            },
        },
        8.66e9,
    ),
    "AIDC-AI/Ovis2.5-9B": (
        "Ovis2_5",
        {
            "model_type": "ovis2_5",
            "llm_config": text("qwen3"),
            "vit_config": SIGLIP | {"patch_size": 16, "image_size": 512, "hidden_stride": 2},
            "visual_vocab_size": 65536,
        },
        9.17e9,
    ),
    "nvidia/NVLM-D-72B": (
        "NVLM_D",
        {
            "model_type": "NVLM_D",
            "llm_config": QWEN2_72B,
            "vision_config": INTERN_6B | {"image_size": 448, "patch_size": 14},
            "max_dynamic_patch": 6,
            "use_thumbnail": True,
        },
        79.4e9,
    ),
    "xlangai/OpenCUA-7B": (
        "OpenCUAForConditionalGeneration",
        {
            "model_type": "opencua",
            "text_config": QWEN2_7B,
            "vision_config": QWEN2_5_TOWER | MERGED | {"out_hidden_size": 3584},
        },
        8.29e9,
    ),
    "stepfun-ai/Step3-VL-10B": (
        "StepVLForConditionalGeneration",
        {
            "model_type": "step_robotics",
            "text_config": text("qwen3"),
            "vision_config": {"width": 1536, "layers": 47, "image_size": 728, "patch_size": 14},
        },
        10.2e9,
    ),
    "mispeech/midashenglm-7b": (
        "MiDashengLMModel",
        {
            "model_type": "midashenglm",
            "text_config": QWEN2_7B | {"model_type": "qwen2_5_omni_text"},
            "audio_encoder_config": {"embed_dim": 1280, "depth": 32, "target_length": 1008},
        },
        8.29e9,
    ),
    # Qwen3-VL-8B, as whose part that understands vLLM loads it.
    "nvidia/Cosmos3": (
        "Cosmos3ForConditionalGeneration",
        {
            "model_type": "cosmos3_omni",
            "text_config": text("qwen3_vl_text"),
            "vision_config": QWEN3_TOWER | MERGED,
        },
        8.77e9,
    ),
}

# Canvases of LLaVA-OneVision's family: all of up to 6 x 6 tiles of 384 pixels.
CANVASES = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
TILES_384 = SIGLIP | {"model_type": "siglip_vision_model", "image_size": 384}
# Without figures of weights: class, config.json.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "R-4B": (
        "RForConditionalGeneration",
        {
            "text_config": text("qwen3", hidden_size=2560, intermediate_size=9728),
            "vision_config": TILES_384 | {"patch_size": 14},
            "image_grid_pinpoints": CANVASES,
        },
    ),
    "Bee-8B": (
        "BeeForConditionalGeneration",
        {
            "text_config": text("qwen3"),
            "vision_config": TILES_384 | {"patch_size": 14},
            "image_grid_pinpoints": CANVASES,
        },
    ),
    "Granite 4 Vision": (
        "Granite4VisionForConditionalGeneration",
        {
            "model_type": "granite4_vision",
            "text_config": text("granite4_vision_text"),
            "vision_config": TILES_384 | {"patch_size": 16},
            "image_grid_pinpoints": CANVASES,
            "downsample_rate": "4/8",
            "deepstack_layer_map": [[-19, 9], [-13, 6], [-7, 3], [-1, 0]],
        },
    ),
    "Ling-3.0-flash-VL": (
        "BailingMoeV3VLForConditionalGeneration",
        {
            "text_config": dict(catalog_entries()["inclusionai/ling-3.0-flash"].config),
            "vision_config": QWEN3_TOWER | MERGED,
        },
    ),
    "Llama Nemotron Nano VL": (
        "Llama_Nemotron_Nano_VL",
        {
            "llm_config": text("llama"),
            "vision_config": {"args": {"model": "vit_huge_patch16_224"}},
            "force_image_size": 512,
            "use_thumbnail": True,
            "projector_hidden_size": 4096,
        },
    ),
}


def stated(model: str) -> Architecture:
    """Return what is read of a model's config.json."""
    family, config = STATED[model][:2] if model in STATED else OTHERS[model]
    whole = {"architectures": [family], "torch_dtype": "bfloat16", **config}
    return architecture_from_config(model, whole)


def test_models_are_as_large_as_published() -> None:
    """All weights that an engine holds."""
    for model, (family, _, published) in STATED.items():
        found = stated(model)
        assert found.family == family
        assert not found.is_embedding
        assert found.parameters == pytest.approx(published, rel=0.01), model


# Computed by the functions named beside them, run on their own; they agree with ours on 63 to 80
# sizes each.
IMAGES = [
    # AriaImageProcessor pads to 980 x 980, 4,900 patches, which 256 queries read.
    ("rhymes-ai/Aria", 448, 448, 256, 2),
    ("rhymes-ai/Aria", 1920, 1080, 256, 2),
    # 14 x 14 of the whole, and crops of 19 x 19 patches with margins of 4 (vLLM molmo2.py,
    # get_num_image_tokens).
    ("allenai/Molmo2-8B", 378, 378, 196 + 196, 32),
    ("allenai/Molmo2-8B", 1920, 1080, 196 + 42 * 23, 41),
    # 32 x 32 pixels a token (vLLM ovis2_5.py, smart_resize).
    ("AIDC-AI/Ovis2.5-9B", 448, 448, 14 * 14, 2),
    ("AIDC-AI/Ovis2.5-9B", 1920, 1080, 60 * 34, 2),
    # 4 tiles and the whole, each with its name (vLLM nvlm_d.py, get_image_repl).
    ("nvidia/NVLM-D-72B", 448, 448, 256, 9),
    ("nvidia/NVLM-D-72B", 1024, 1024, 5 * 256, 29),
    # As Qwen2.5-VL (vLLM opencua.py).
    ("xlangai/OpenCUA-7B", 448, 448, 16 * 16, 2),
    ("xlangai/OpenCUA-7B", 1920, 1080, 69 * 39, 2),
    # As Step3 (vLLM step3_vl.py, get_num_patches).
    ("stepfun-ai/Step3-VL-10B", 727, 727, 169, 2),
    ("stepfun-ai/Step3-VL-10B", 728, 728, 169 + 4 * 81, 11),
    # As Qwen3-VL (vLLM cosmos3.py).
    ("nvidia/Cosmos3", 448, 448, 14 * 14, 2),
    ("nvidia/Cosmos3", 1920, 1080, 60 * 34, 2),
    # As LLaVA-NeXT, of tiles of 27 x 27 tokens (vLLM rvl.py); Bee of at most nine (bee.py).
    ("R-4B", 384, 384, 2 * 27 * 27, 27),
    ("R-4B", 1920, 1080, 27 * 27 + 135 * 75, 75),
    ("Bee-8B", 384, 384, 2 * 27 * 27, 27),
    ("Bee-8B", 1920, 1080, 27 * 27 + 108 * 60, 60),
    # Of 12 x 12 tokens (vLLM granite4_vision.py, get_num_image_tokens).
    ("Granite 4 Vision", 384, 384, 2 * 12 * 12, 12),
    ("Granite 4 Vision", 1920, 1080, 12 * 12 + 60 * 34, 34),
    # As Qwen3-VL, whose tower it has (vLLM bailing_moe_v3_vl.py).
    ("Ling-3.0-flash-VL", 1024, 1024, 32 * 32, 2),
    ("Ling-3.0-flash-VL", 1920, 1080, 60 * 34, 2),
    # Tiles of 512 pixels, 256 tokens each (vLLM nemotron_vl.py).
    ("Llama Nemotron Nano VL", 512, 512, 256, 2),
    ("Llama Nemotron Nano VL", 1024, 1024, 5 * 256, 2),
]


def test_an_image_is_as_long_as_published() -> None:
    """Tokens of the towers, and marks between them."""
    for model, width, height, tokens, marks in IMAGES:
        work = encoder_work(
            stated(model).encoders, Media(images=1, width=width, height=height), model
        )
        seen = work.largest_item, work.prompt_tokens - work.largest_item
        assert seen == (tokens, marks), (model, width, height)


def test_a_video_is_as_long_as_published() -> None:
    """Eight frames of 640 x 360 pixels: 9 x 9 tokens each, 20 x 11, and pairs of as many."""
    media = Media(video_frames=8, width=640, height=360)
    for model, tokens in (
        ("allenai/Molmo2-8B", 8 * 81),
        ("AIDC-AI/Ovis2.5-9B", 8 * 20 * 11),
        ("nvidia/Cosmos3", 4 * 20 * 11),
    ):
        assert encoder_work(stated(model).encoders, media, model).largest_item == tokens, model


def test_sounds_of_midashenglm_are_short() -> None:
    """Five tokens a second (vLLM midashenglm.py, calculate_mel_frames_dasheng)."""
    rule = stated("mispeech/midashenglm-7b").encoders.audio
    assert rule is not None
    assert [rule.sound(seconds).tokens for seconds in (3.0, 30.0, 61.3)] == [15, 150, 306]


def test_models_of_images_alone_read_no_video() -> None:
    """They show none in vLLM 0.32, though their towers could show frames."""
    for model in (*OTHERS, "nvidia/NVLM-D-72B", "xlangai/OpenCUA-7B"):
        assert stated(model).encoders.modalities == ("image",)


def test_classes_that_end_in_model_may_write_text() -> None:
    """Skywork R1V's and MiDashengLM's have a head, other than a body alone."""
    whole = {"model_type": "qwen2", **QWEN2_7B}
    for family, is_embedding in (
        ("SkyworkR1VChatModel", False),
        ("MiDashengLMModel", False),
        ("Qwen2Model", True),
    ):
        config = {**whole, "architectures": [family]}
        assert architecture_from_config(family, config).is_embedding is is_embedding


def test_ling_projects_what_it_merges_once() -> None:
    """From 4,608 merged values to 2,560 and on to 2,560 (vLLM pull request 56820)."""
    tower = stated("Ling-3.0-flash-VL").encoders.tower
    assert tower is not None
    assert tower.outputs == 1
    assert tower.projector_parameters == (4608 + 2560) * 2560


def test_a_rate_of_queries_is_two_sides() -> None:
    """Granite 4 Vision states it as text."""
    family, config = OTHERS["Granite 4 Vision"]
    whole = {"architectures": [family], **config, "downsample_rate": "half"}
    with pytest.raises(UnsupportedModel, match="downsample_rate"):
        architecture_from_config("granite", whole)
