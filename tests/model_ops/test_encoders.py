"""Towers: their arithmetic, and models that have none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.model_ops.encoders import Encoders, Tower, encoder_work
from budsim.model_ops.image_tokens import FixedImage
from budsim.model_ops.media import Media
from budsim.model_ops.registry import resolve_model

IMAGE = Media(images=1, width=64, height=64)
TOWER = Tower(layers=2, hidden=10, width=40, block_parameters=1_000, projector_parameters=100)
RULE = FixedImage(tokens=16, patches=64, marks=0)


def test_arithmetic_by_hand() -> None:
    """2 layers x 1,000 weights x 64 patches and 100 x 16 tokens, twice; 4 x 10 x 64 x 64 x 2."""
    found = encoder_work(Encoders(tower=TOWER, image=RULE), IMAGE, "toy")
    assert found.linear_flops == 2 * (2 * 1_000 * 64 + 100 * 16)
    assert found.attention_flops == 4 * 10 * 64 * 64 * 2
    assert found.weight_bytes == 2 * 2 * 1_000
    # 26 x 10 and 2 x 40 values of 2 B for each of 64 patches, twice.
    assert found.touched_bytes == 2 * 2 * 64 * (26 * 10 + 2 * 40)


def test_windows_shorten_attention() -> None:
    """With windows of 16 patches in one of two layers a patch sees 16 + 64 instead of 128."""
    windowed = Tower(
        layers=2,
        hidden=10,
        width=40,
        block_parameters=1_000,
        projector_parameters=100,
        window=16,
        whole_layers=1,
    )
    found = encoder_work(Encoders(tower=windowed, image=RULE), IMAGE, "toy")
    assert found.attention_flops == 4 * 10 * 64 * (16 + 64)


def test_heads_may_be_wider_than_the_residual() -> None:
    """Kimi-K3's heads have 1,536 values together, its residual fewer: scores count heads."""
    wide = replace(TOWER, attention=20)
    found, narrow = (encoder_work(Encoders(tower=t, image=RULE), IMAGE, "") for t in (wide, TOWER))
    assert found.attention_flops == 2 * narrow.attention_flops


def test_blocks_of_towers_are_counted_like_their_weights() -> None:
    """A tower's blocks and projector are within 10 % of the weights its checkpoint states."""
    # Qwen2.5-VL's report: a tower of 0.67 B with its merger; SigLIP of Gemma 3: 417 M.
    for model, stated in (("Qwen/Qwen2.5-VL-7B-Instruct", 676e6), ("google/gemma-3-4b-it", 417e6)):
        tower = resolve_model(model).encoders.tower
        assert tower is not None
        found = tower.layers * tower.block_parameters + tower.projector_parameters
        assert found == pytest.approx(stated, rel=0.1)


@pytest.mark.parametrize(
    ("model", "media", "field"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", IMAGE, "images_per_request"),
        ("google/gemma-3-4b-it", Media(video_frames=8, width=8, height=8), "video_frames"),
        ("Qwen/Qwen3-VL-8B-Instruct", Media(audio_s=1.0), "audio_seconds"),
        ("google/gemma-4-E2B-it", Media(audio_s=31.0), "audio_seconds"),
        # It takes videos; how it samples them is not written down here.
        ("moonshotai/Kimi-K2.5", Media(video_frames=8, width=8, height=8), "video_frames"),
    ],
)
def test_items_a_model_does_not_read_are_refused(model: str, media: Media, field: str) -> None:
    """The error names the field and the model's limit."""
    with pytest.raises(InvalidInput) as error:
        encoder_work(resolve_model(model).encoders, media, model)
    assert error.value.field == field
