"""Images become as many tokens as each family's own processor makes of them."""

from __future__ import annotations

import pytest

from budsim.model_ops.encoders import EncoderWork, encoder_work
from budsim.model_ops.media import Media
from budsim.model_ops.registry import resolve_model

QWEN2_5, QWEN3 = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
GEMMA3, GEMMA4 = "google/gemma-3-27b-it", "google/gemma-4-31B-it"
LLAMA4 = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
MISTRAL3 = "mistralai/Mistral-Small-3.1-24B-Instruct-2503"


def work(model: str, media: Media) -> EncoderWork:
    """Return what a catalog model's towers do."""
    architecture = resolve_model(model)
    return encoder_work(architecture.encoders, media, model)


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        # A token is 28 x 28 pixels (Qwen's answer on huggingface.co/Qwen/Qwen2-VL-7B-Instruct,
        # discussion 47): 1024 / 28 rounds to 37.
        (QWEN2_5, 1024, 1024, 37 * 37),
        # Its card: 4 to 16,384 tokens an image.
        (QWEN2_5, 10, 10, 4),
        (QWEN2_5, 3584, 3584, 16_384),
        (QWEN2_5, 16_000, 16_000, 16_384),
        # 32 x 32 pixels a token, 64 at least (preprocessor_config.json of Qwen3-VL).
        (QWEN3, 1024, 1024, 1_024),
        (QWEN3, 32, 32, 64),
        # "Images are encoded to 256 tokens each" (Gemma 3 model card).
        (GEMMA3, 4000, 3000, 256),
        # Sides are multiples of 48 pixels, at most 2,520 patches with 280 tokens
        # (ai.google.dev/gemma/docs/capabilities/vision): 16 x 16 and 22 x 12.
        (GEMMA4, 1024, 1024, 256),
        (GEMMA4, 1920, 1080, 22 * 12),
        # One tile of 336 pixels is 144 tokens, at most 16 tiles and the whole: 2,448.
        (LLAMA4, 336, 336, 144),
        (LLAMA4, 672, 672, 5 * 144),
        (LLAMA4, 1344, 1344, 17 * 144),
        # 28 x 28 pixels a token, sides of at most 1,540: 55 x 55.
        (MISTRAL3, 1540, 1540, 3_025),
        (MISTRAL3, 3080, 1540, 55 * 28),
    ],
)
def test_an_image_is_as_long_as_published(model: str, width: int, height: int, tokens: int) -> None:
    """The embeddings of one image, by the family's published rule."""
    assert work(model, Media(images=1, width=width, height=height)).largest_item == tokens


@pytest.mark.parametrize(
    ("model", "marks"),
    [
        (QWEN2_5, 2),  # vision_start and vision_end
        (GEMMA3, 4),  # two line breaks, start and end of image
        (GEMMA4, 2),  # begin and end
        (LLAMA4, 3 + 2 * 1 + 2),  # begin, whole, end; one mark in each of two rows, one after each
        (MISTRAL3, 24),  # one after each row of 28 pixels of 672
    ],
)
def test_marks_around_an_image_are_prompt_tokens_too(model: str, marks: int) -> None:
    """Tokens that begin, end and divide the image of 672 x 672 pixels."""
    found = work(model, Media(images=1, width=672, height=672))
    assert found.prompt_tokens - found.largest_item == marks


def test_each_image_of_a_request_counts() -> None:
    """Three images are three times as many tokens and patches."""
    one, three = (work(QWEN3, Media(images=n, width=640, height=480)) for n in (1, 3))
    assert three.prompt_tokens == 3 * one.prompt_tokens == 3 * (20 * 15 + 2)
    assert three.linear_flops == pytest.approx(3 * one.linear_flops)


def test_a_video_takes_one_image_for_each_pair_of_frames() -> None:
    """Eight frames of 448 x 448 are 4 x 16 x 16 tokens in Qwen2.5-VL."""
    found = work(QWEN2_5, Media(video_frames=8, width=448, height=448))
    assert found.largest_item == 4 * 16 * 16


def test_frames_of_a_long_video_are_reduced() -> None:
    """All frames of Qwen3-VL hold at most 25,165,824 pixels, 12,288 tokens.

    768 frames have 32,768 pixels each: 7 x 4 tokens for each of 384 pairs.
    """
    found = work(QWEN3, Media(video_frames=768, width=1920, height=1080))
    assert found.largest_item == 384 * 7 * 4


def test_audio_of_gemma_is_25_tokens_a_second() -> None:
    """Ten seconds are 250 tokens (ai.google.dev/gemma/docs/capabilities/audio), and two marks."""
    found = work("google/gemma-4-E4B-it", Media(audio_s=10.0))
    assert (found.largest_item, found.prompt_tokens) == (250, 252)
