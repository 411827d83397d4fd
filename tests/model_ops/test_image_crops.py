"""Images in crops become as many tokens as each family's own processor makes of them.

The figures were computed by the functions named beside them, run on their own, and agree with ours
on 80 sizes each.
"""

from __future__ import annotations

import pytest

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.encoders import encoder_work
from budsim.model_ops.image_crops import LargeTiles, Slices
from budsim.model_ops.image_tiles import GlobalTiles
from budsim.model_ops.image_tokens import MergedPatches
from budsim.model_ops.media import Media
from budsim.model_ops.registry import resolve_model

LLAVA, PIXTRAL = "llava-hf/llava-1.5-7b-hf", "mistral-community/pixtral-12b"
NEXT, ONEVISION = "llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/llava-onevision-qwen2-7b-ov-hf"
OCR, VL2 = "deepseek-ai/DeepSeek-OCR", "deepseek-ai/deepseek-vl2-tiny"
PHI3, PHI4 = "microsoft/Phi-3.5-vision-instruct", "microsoft/Phi-4-multimodal-instruct"
MINICPM, MOLMO = "openbmb/MiniCPM-V-2_6", "allenai/Molmo-7B-D-0924"
IDEFICS, SMOL = "HuggingFaceM4/Idefics3-8B-Llama3", "HuggingFaceTB/SmolVLM2-2.2B-Instruct"
LFM2, STEP3, DOTS = "LiquidAI/LFM2-VL-1.6B", "stepfun-ai/step3", "rednote-hilab/dots.ocr"
ERNIE, PALIGEMMA = "baidu/ERNIE-4.5-VL-28B-A3B-PT", "google/paligemma-3b-mix-224"

# Model, width, height, tokens of the towers, and marks.
PUBLISHED = [
    # All of 24 x 24 patches, the class token left out (transformers LlavaProcessor).
    (LLAVA, 1024, 1024, 576, 0),
    (LLAVA, 100, 2000, 576, 0),
    # 16 x 16 patches of 14 pixels and a line break (transformers PaliGemmaProcessor).
    (PALIGEMMA, 1024, 1024, 256, 1),
    # A token for each 16 x 16 pixels and a mark a row, sides of at most 1,024 (PixtralProcessor).
    (PIXTRAL, 1024, 1024, 64 * 64, 64),
    (PIXTRAL, 1920, 1080, 64 * 36, 36),
    # 672 x 672 and the whole; 672 x 336 without 10 of 24 rows (LlavaNextProcessor
    # _get_number_of_features).
    (NEXT, 1024, 1024, 48 * 48 + 576, 48),
    (NEXT, 1920, 1080, 48 * 28 + 576, 28),
    # Tokens of nine tiles of 27 x 27, of the canvas's shape (LlavaOnevisionProcessor).
    (ONEVISION, 1024, 1024, 81 * 81 + 729, 81),
    (ONEVISION, 1920, 1080, 108 * 60 + 729, 60),
    # 16 x 16 of the whole; 2 x 2 and 2 x 1 tiles of 10 x 10 (vLLM deepseek_ocr.py).
    (OCR, 448, 448, 256, 17),
    (OCR, 1024, 1024, 256 + 4 * 100, 17 + 20),
    (OCR, 1920, 1080, 256 + 2 * 100, 17 + 10),
    # 14 x 14 a tile, a mark a row, one between both (vLLM deepseek_vl2.py).
    (VL2, 336, 336, 2 * 196, 14 + 15),
    (VL2, 1024, 1024, 10 * 196, 42 + 15),
    # (2 x 2 + 1) x 144 + 1 + (2 + 1) x 12 = 757 (calc_num_image_tokens on the model card; vLLM's
    # test of its processor).
    (PHI3, 1024, 1024, 5 * 144, 37),
    (PHI3, 1920, 1080, 5 * 144, 37),
    # 3 x 3 and 5 x 3 tiles of 16 x 16 tokens less their padding (vLLM phi4mm.py).
    (PHI4, 448, 448, 2 * 256, 33),
    (PHI4, 1024, 1024, 48 * 48 + 256, 65),
    (PHI4, 1920, 1080, 80 * 45 + 256, 62),
    # 64 queries of the whole and of 2 x 3 or 4 x 2 slices (get_sliced_grid).
    (MINICPM, 448, 448, 64, 5),
    (MINICPM, 1024, 1024, 7 * 64, 5 + 12 + 1),
    (MINICPM, 1920, 1080, 9 * 64, 5 + 16 + 1),
    # The longest side is four tiles; 4 x 4 and 4 x 3, and the whole
    # (Idefics3ImageProcessor.get_number_of_image_patches).
    (IDEFICS, 1024, 1024, 17 * 169, 40),
    (IDEFICS, 1920, 1080, 13 * 169, 31),
    (SMOL, 1024, 1024, 17 * 81, 40),
    # 2 + (12 + 1) x 12 of the whole, 2 + (w + 1) x h of the crops (vLLM molmo.py).
    (MOLMO, 336, 336, 144 + 144, 28),
    (MOLMO, 1920, 1080, 144 + 36 * 28, 28 + 16),
    # One of 14 x 14; 2 x 2 and 4 x 2 tiles of 16 x 16 and the whole (Lfm2VlImageProcessor).
    (LFM2, 448, 448, 14 * 14, 2),
    (LFM2, 1024, 1024, 5 * 256, 7),
    # As Step 3.7, but 728 pixels are cut already (vLLM step3_vl.py).
    (STEP3, 727, 727, 169, 2),
    (STEP3, 728, 728, 169 + 4 * 81, 11),
    (STEP3, 1024, 1024, 169 + 4 * 81, 11),
    # 28 x 28 pixels a token (smart_resize of each).
    (DOTS, 1024, 1024, 37 * 37, 2),
    (DOTS, 1920, 1080, 69 * 39, 2),
    (ERNIE, 1024, 1024, 37 * 37, 2),
    (ERNIE, 4000, 4000, 78 * 78, 2),
]


def test_an_image_is_as_long_as_published() -> None:
    """Tokens of the towers, and marks between them, at two sizes and more a family."""
    for model, width, height, tokens, marks in PUBLISHED:
        media = Media(images=1, width=width, height=height)
        found = encoder_work(resolve_model(model).encoders, media, model)
        seen = found.largest_item, found.prompt_tokens - found.largest_item
        assert seen == (tokens, marks), (model, width, height)


@pytest.mark.parametrize(
    ("model", "tokens", "marks"),
    [
        # Frames of 27 x 27 tokens pooled to 14 x 14, and one line break (LlavaOnevisionProcessor).
        (ONEVISION, 8 * 196, 1),
        # A frame is one slice of 64 queries (vLLM minicpmv.py).
        (MINICPM, 8 * 64, 16),
        # Pairs of frames of 23 x 13 tokens (Ernie4_5_VLMoeProcessor).
        (ERNIE, 4 * 23 * 13, 2),
        # Pairs of at most 768 tokens each, begin, end and time (MiniMaxM3VLVideoProcessor).
        ("MiniMaxAI/MiniMax-M3", 4 * 23 * 13, 32),
        # Pairs of at most 144 tokens: 9 x 16 (MuseGlimmerVideoProcessor).
        ("meta-models/Muse-Glimmer-30B", 4 * 16 * 9, 29),
    ],
)
def test_a_video_is_as_long_as_published(model: str, tokens: int, marks: int) -> None:
    """Eight frames of 640 x 360 pixels."""
    media = Media(video_frames=8, width=640, height=360)
    found = encoder_work(resolve_model(model).encoders, media, model)
    assert (found.largest_item, found.prompt_tokens - found.largest_item) == (tokens, marks)


def test_rules_of_families_that_no_catalog_model_has() -> None:
    """DeepSeek-OCR 2 has no marks a row; MiniCPM-V 4.6 merges 16 patches a token; LFM2's shape."""
    second = GlobalTiles(
        whole_side=1024,
        side=768,
        edge=64,
        patch=16,
        least_tiles=2,
        most_tiles=6,
        has_row_marks=False,
    )
    assert second.image(700, 700).prompt_tokens == 257
    assert second.image(1000, 1500).prompt_tokens == 257 + 6 * 144
    merged = Slices(side=448, patch=14, most_slices=9, merge=4)
    assert merged.image(448, 448).tokens == 64
    assert merged.image(1920, 1080).tokens == 66 + 8 * 64
    whole = MergedPatches(
        patch=16, merge=2, frames=1, least_pixels=64 * 1024, most_pixels=256 * 1024
    )
    tiles = LargeTiles(whole=whole, side=512, least_tiles=2, most_tiles=10, tolerated=2.0)
    assert tiles.image(300, 900).tokens == 9 * 28
    assert tiles.image(1920, 1080).prompt_tokens == 8 * 256 + 8 + 3 + 252


@pytest.mark.parametrize(("name", "tiles"), [("Phi-3-vision-128k-instruct", 16), ("my-phi", 4)])
def test_the_older_phi_is_told_by_the_name_in_its_config(name: str, tiles: int) -> None:
    """Both are Phi3VForCausalLM; 16 or 4 tiles and the whole, 144 tokens each."""
    config = {
        "model_type": "phi3_v",
        "_name_or_path": name,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32064,
        "max_position_embeddings": 131072,
    }
    model = architecture_from_config("phi", config)
    found = encoder_work(model.encoders, Media(images=1, width=1024, height=1024), "phi")
    assert found.largest_item == (tiles + 1) * 144
