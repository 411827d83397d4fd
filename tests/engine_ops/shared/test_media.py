"""How engines are told which items a request may hold."""

from __future__ import annotations

import json

import pytest

from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ArgumentValue
from budsim.engine_ops.shared.media import most_items
from budsim.model_ops.media import TEXT_ONLY, Media
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import real_arguments, replica

QWEN = resolve_model("Qwen/Qwen2.5-VL-7B-Instruct")
IMAGES = Media(images=2, width=1024, height=768)


def arguments(engine: str, media: Media) -> dict[str, ArgumentValue]:
    """Return what starts Qwen2.5-VL on one H100."""
    return dict(serving_engines[engine].launch(QWEN, replica("H100-SXM", media=media)).args)


def test_items_nobody_sends_are_none() -> None:
    """Of what the model reads: two images, no video; it hears nothing."""
    assert most_items(QWEN, IMAGES) == {"image": 2, "video": 0}


def test_vllm_keeps_memory_for_images_of_that_size() -> None:
    """Count and size in JSON, as its MultiModalConfig.limit_per_prompt reads them."""
    stated = json.loads(str(arguments("vllm", IMAGES)["limit-mm-per-prompt"]))
    assert stated == {"image": {"count": 2, "width": 1024, "height": 768}, "video": 0}


def test_vllm_is_told_the_frames_of_a_video() -> None:
    """One video of 32 frames."""
    media = Media(video_frames=32, width=640, height=480)
    stated = json.loads(str(arguments("vllm", media)["limit-mm-per-prompt"]))
    assert stated["video"] == {"count": 1, "num_frames": 32, "width": 640, "height": 480}


def test_sglang_serves_towers() -> None:
    """Its towers are switched on, and items are counted."""
    stated = arguments("sglang", IMAGES)
    assert stated["enable-multimodal"] is True
    assert json.loads(str(stated["limit-mm-data-per-request"])) == {"image": 2, "video": 0}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_text_alone_says_nothing(engine: str) -> None:
    """Requests of text leave the engine's defaults."""
    assert not any("limit-mm" in flag for flag in arguments(engine, TEXT_ONLY))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_flag_is_one_of_the_parser(engine: str) -> None:
    """The engine's own list has it."""
    assert set(arguments(engine, IMAGES)) <= real_arguments(engine).keys()
