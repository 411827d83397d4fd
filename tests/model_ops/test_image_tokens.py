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
INTERNVL3, GEMMA3N = "OpenGVLab/InternVL3-8B", "google/gemma-3n-E4B-it"
KIMI_VL, KIMI_K2_5 = "moonshotai/Kimi-VL-A3B-Instruct", "moonshotai/Kimi-K2.5"
GLM4_1V, GLM4_5V = "zai-org/GLM-4.1V-9B-Thinking", "zai-org/GLM-4.5V"
MINIMAX3, MUSE = "MiniMaxAI/MiniMax-M3", "meta-models/Muse-Glimmer-30B"
QWEN3_OMNI = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
DEEPSEEK, STEP = "deepseek-ai/DeepSeek-V4.1-Flash", "stepfun-ai/Step-3.7-Flash"


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
        # "Each 448 x 448 tile is 256 tokens", 1 to 12 tiles and a thumbnail (model cards of
        # InternVL 2.5 and 3): one tile, 2 x 1, 3 x 4 as 4000 x 3000 is.
        (INTERNVL3, 448, 448, 256),
        (INTERNVL3, 896, 448, 3 * 256),
        (INTERNVL3, 4000, 3000, 13 * 256),
        # Patches of 14 pixels, four a token, never enlarged: 4,096 patches at most in Kimi-VL
        # (its in_token_limit), 16,384 in Kimi-K2.5.
        (KIMI_VL, 28, 28, 1),
        (KIMI_VL, 896, 896, 1_024),
        (KIMI_K2_5, 896, 896, 1_024),
        (KIMI_K2_5, 3584, 3584, 4_096),
        # 28 x 28 pixels a token, 8 to 6,144 of them (Glm4vImageProcessor).
        (GLM4_1V, 1024, 1024, 37 * 37),
        (GLM4_5V, 1024, 1024, 37 * 37),
        # At most 451,584 pixels, 24 x 24 tokens (MiniMaxM3VLImageProcessor).
        (MINIMAX3, 672, 672, 576),
        (MINIMAX3, 2000, 2000, 576),
        # Images of 256, 512 or 768 pixels "encoded to 256 tokens each" (Gemma 3n model card).
        (GEMMA3N, 768, 768, 256),
        (QWEN3_OMNI, 1024, 1024, 1_024),
        # 42 x 42 pixels a token, at least 295,936 of them, at most 1,024 tokens with the marks
        # (vLLM deepseek_v41/common/mm_preprocess.py): 13 x 13, 18 x 18 and 27 x 36.
        (DEEPSEEK, 448, 448, 13 * 13),
        (DEEPSEEK, 756, 756, 18 * 18),
        (DEEPSEEK, 4000, 3000, 27 * 36),
        # A whole of 169 tokens and windows of 81 (transformers 5.23 Step3p7Processor): none, 2 x 2,
        # 6 x 5 (of 3,024 x 2,268 pixels), 3 along a long image.
        (STEP, 728, 728, 169),
        (STEP, 1024, 1024, 169 + 4 * 81),
        (STEP, 4000, 3000, 169 + 30 * 81),
        (STEP, 600, 200, 169 + 3 * 81),
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
        (INTERNVL3, 2),  # <img> and </img>
        (DEEPSEEK, 16 + 2),  # one after each row of 42 pixels of 672, begin and end
        (STEP, 2),  # begin and end of the whole
        (KIMI_K2_5, 4),  # <|media_begin|>image<|media_content|> and <|media_end|>
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


@pytest.mark.parametrize(("model", "most"), [(KIMI_VL, 1_024), (GLM4_1V, 6_144), (MUSE, 4_096)])
def test_large_images_are_reduced(model: str, most: int) -> None:
    """An image of any size takes no more tokens than the family's limit, but nearly as many."""
    for width, height in ((9000, 9000), (9000, 3000), (3000, 9001)):
        found = work(model, Media(images=1, width=width, height=height)).largest_item
        # Kimi pads a side that is no whole number of tokens.
        assert 0.9 * most < found <= 1.07 * most


def test_a_long_image_is_cut_along_its_long_side() -> None:
    """Of grids of at most 12 tiles 6 x 2 is nearest to 3:1 and filled by 3000 x 1000 pixels."""
    assert work(INTERNVL3, Media(images=1, width=3000, height=1000)).largest_item == 13 * 256
    # A small one takes the smaller grid of the same shape: 3 x 1.
    assert work(INTERNVL3, Media(images=1, width=900, height=300)).largest_item == 4 * 256


def test_a_frame_of_internvl_is_one_tile() -> None:
    """Eight frames are eight tiles of 256 tokens, each with its name around it."""
    found = work(INTERNVL3, Media(video_frames=8, width=1920, height=1080))
    assert (found.largest_item, found.prompt_tokens) == (8 * 256, 8 * (256 + 6))
