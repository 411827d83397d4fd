"""Nemotron's towers: as large as published, and as many tokens as vLLM's processor makes."""

from __future__ import annotations

from typing import Any

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.catalog import catalog_entries
from budsim.model_ops.config import architecture_from_config

TEXT = dict(catalog_entries()["nvidia/nvidia-nemotron-3-nano-30b-a3b-bf16"].config)
SOUND = {"hidden_size": 1024, "intermediate_size": 4096, "projection_hidden_size": 4096}
FREE = {"min_num_patches": 1024, "max_num_patches": 13312}


def nemotron(
    family: str, args: dict[str, Any], tower: dict[str, Any], **changes: object
) -> Architecture:
    """Return a Nemotron of 30 B that sees by a ViT-H of RADIO."""
    config = {
        "architectures": [family],
        "model_type": family,
        "llm_config": TEXT,
        "vision_config": {"args": {"model": "vit_huge_patch16_224", **args}, **tower},
        "force_image_size": 512,
        "projector_hidden_size": 20480,
        "torch_dtype": "bfloat16",
    }
    return architecture_from_config("nemotron", {**config, **changes})


def omni(**tower: object) -> Architecture:
    """Return a model whose images may have any size."""
    return nemotron("NemotronH_Nano_Omni_Reasoning_V3", FREE, tower, sound_config=SOUND)


def test_towers_are_as_large_as_published() -> None:
    """C-RADIOv2-H has 653 M weights, Parakeet's encoder 0.6 B (their cards)."""
    encoders = omni().encoders
    for tower, published, tolerance in (
        (encoders.tower, 653e6, 0.01),
        (encoders.audio_tower, 0.6e9, 0.02),
    ):
        assert tower is not None
        weights = tower.parameters - tower.projector_parameters
        assert weights == pytest.approx(published, rel=tolerance)


def test_images_of_any_size_keep_it() -> None:
    """Computed by DynamicResolutionImageTiler.process_media, which agrees on 80 sizes."""
    rule = omni().encoders.image
    assert rule is not None
    sizes = [(448, 448), (1024, 1024), (1920, 1080), (4000, 4000)]
    assert [rule.image(*size).tokens for size in sizes] == [256, 1024, 2040, 3306]


def test_frames_have_a_number_of_patches() -> None:
    """Pairs of 42 x 24 patches in the video's shape, and of 30 x 30 without it."""
    size = {"video_temporal_patch_size": 2, "video_target_num_patches": 1000}
    shaped = omni(**size, video_maintain_aspect_ratio=True).encoders.video
    squares = omni(**size).encoders.video
    assert shaped is not None
    assert squares is not None
    # get_video_target_size_and_feature_size of 640 x 360.
    assert shaped.video(8, 640, 360).tokens == 4 * 12 * 21
    assert squares.video(8, 640, 360).tokens == 4 * 15 * 15


def test_the_second_version_cuts_tiles() -> None:
    """2 x 2 tiles of 512 pixels and the whole; a frame is one (get_num_image_tokens)."""
    encoders = nemotron("NemotronH_Nano_VL_V2", {}, {}, use_thumbnail=True).encoders
    assert encoders.modalities == ("image", "video")
    assert encoders.image is not None
    assert encoders.video is not None
    assert encoders.image.image(512, 512).tokens == 256
    assert encoders.image.image(1024, 1024).tokens == 5 * 256
    assert encoders.video.video(8, 640, 360).tokens == 8 * 256


def test_sounds_are_twelve_and_a_half_tokens_a_second() -> None:
    """Frames of 10 ms, joined by eight (vLLM parakeet.py, audio_token_count)."""
    rule = omni().encoders.audio
    assert rule is not None
    assert [rule.sound(seconds).tokens for seconds in (10.0, 30.0)] == [125, 375]


def test_an_unknown_tower_is_refused() -> None:
    """By the name of its field."""
    with pytest.raises(UnsupportedModel, match=r"vision_config\.args\.model"):
        nemotron("NemotronH_Nano_VL_V2", {"model": "vit_giant"}, {})
