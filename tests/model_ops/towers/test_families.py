"""Towers of families that no model of the catalog has: their sizes, tokens, and what is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from budsim.commons.errors import InvalidInput, UnsupportedModel
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.encoders import Encoders
from budsim.model_ops.towers.heard import HEARD
from budsim.model_ops.towers.reading import READERS
from tests.model_ops.configs import llama

SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "image_size": 384,
    "patch_size": 14,
}
INTERN_VIT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "image_size": [448, 448],
    "patch_size": [14, 14],
}
QWEN_LIKE = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
GLM_LIKE = {**QWEN_LIKE, "depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
WHISPER = {"d_model": 1280, "encoder_layers": 32, "encoder_ffn_dim": 5120, "num_mel_bins": 128}
EVA = {**SIGLIP, "hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 39}
FORMER = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}


def encoders(kind: str, *, name: str = "X", hidden: int = 64, **parts: Any) -> Encoders:
    """Return the towers of a small Llama of width ``hidden`` with these parts around it."""
    whole = {"architectures": [name], "model_type": kind, **parts}
    text = {**llama(), "hidden_size": hidden, "head_dim": 16}
    nested = {} if kind in ("dots_ocr", "minicpmo", "minicpmv") else {"text_config": text}
    return architecture_from_config("toy", {**whole, **(nested or {**text, **whole})}).encoders


@pytest.mark.parametrize(
    ("kind", "parts", "tokens", "millions"),
    [
        # 12 tiles of 512 pixels: 2 x 2 and the whole of 256 each; SigLIP2 of 400 M at 64 hidden.
        (
            "cohere2_vision",
            {
                "vision_config": {**SIGLIP, "image_size": 512, "patch_size": 16},
                "alignment_intermediate_size": 64,
            },
            5 * 256,
            413,
        ),
        # As InternVL 3: 3 x 3 and the whole; InternViT-300M of 304 M.
        ("internvl", {"vision_config": INTERN_VIT}, 10 * 256, 304),
        ("qianfan_ocr", {"vision_config": INTERN_VIT}, 10 * 256, 304),
        ("eagle_2_5_vl", {"vision_config": {**SIGLIP, "image_size": 448}}, 10 * 256, 413),
        # 32 queries of EVA's 1 B (986 M: BLIP-2's card) and a Q-Former of 105 M.
        (
            "blip-2",
            {"vision_config": {**EVA, "image_size": 224}, "qformer_config": FORMER},
            32,
            1090,
        ),
        # 28 x 28 pixels a token.
        ("exaone4_5", {"vision_config": {**QWEN_LIKE, "num_key_value_heads": 16}}, 37 * 37, 658),
        ("glm_ocr", {"vision_config": {**GLM_LIKE, "out_hidden_size": 64}}, 37 * 37, 405),
        ("paddleocr_vl", {"vision_config": SIGLIP}, 37 * 37, 434),
        # Reduced to 1,280 tokens of 28 x 28 pixels.
        ("KeyeVL1_5", {"vision_config": SIGLIP}, 35 * 35, 434),
        # Slices of 448 x 448 pixels at 16 patches a token.
        ("minicpmv4_6", {"vision_config": {**SIGLIP, "image_size": 980}}, 64 + 6 * 60, 459),
        # The whole of 256 tokens; 2 x 2 tiles of 144.
        ("deepseek_ocr2", {"vision_config": {"image_size": 1024}}, 256 + 4 * 144, 454),
    ],
)
def test_towers_and_tokens(kind: str, parts: dict[str, Any], tokens: int, millions: float) -> None:
    """An image of 1024 x 1024; weights of published towers, with projectors to 64 values."""
    name = "DeepseekOCR2ForCausalLM" if kind == "deepseek_ocr2" else "X"
    found = encoders("deepseek_vl_v2" if kind == "deepseek_ocr2" else kind, name=name, **parts)
    assert found.image is not None
    assert found.tower is not None
    assert found.image.image(1024, 1024).tokens == tokens
    assert found.tower.parameters / 1e6 == pytest.approx(millions, rel=0.03)


def test_encoders_of_audio_are_as_large_as_whisper_s() -> None:
    """Whisper large-v3's encoder has 637 M weights; four joined frames are 5,120 values."""
    plain, two, four = (
        encoders(kind, audio_config=WHISPER).audio_tower
        for kind in ("qwen3_asr", "audioflamingo3", "voxtral")
    )
    assert plain is not None
    assert two is not None
    assert four is not None
    assert plain.parameters == pytest.approx(637e6, rel=0.01)
    assert two.projector_parameters == (1280 + 64) * 64
    assert four.projector_parameters == (4 * 1280 + 64) * 64


def test_convolutions_before_the_blocks_count() -> None:
    """Qwen3-Omni's: 28 M, 3.3 G, 0.86 G and 0.26 GFLOPs for 13 positions: 4.46 G."""
    found = encoders("qwen3_asr", audio_config=WHISPER).audio_tower
    assert found is not None
    by_hand = 2 * 9 * 480 * (50 * 64 + 480 * (25 * 32 + 13 * 16)) + 13 * 2 * 480 * 16 * 1280
    assert 13 * found.stem_flops == pytest.approx(by_hand)
    assert by_hand == pytest.approx(4.46e9, rel=0.01)


def test_a_conformer_has_two_feed_forward_parts_and_convolutions() -> None:
    """Granite Speech 3.3: 16 blocks of 1,024; (16 + 4 + 3 x 2) x 1,024^2 weights each."""
    conformer = {"num_layers": 16, "hidden_dim": 1024, "num_heads": 8, "dim_head": 128}
    found = encoders("granite_speech", encoder_config=conformer).audio_tower
    assert found is not None
    assert found.block_parameters == 26 * 1024**2


def test_images_alone_where_the_engine_takes_no_video() -> None:
    """Eagle 2.5 and Skywork-R1V have InternVL's tiles; vLLM serves them images only."""
    found = encoders("eagle_2_5_vl", vision_config={**SIGLIP, "image_size": 448})
    assert (found.modalities, found.video) == (("image",), None)
    assert encoders("internvl", vision_config=INTERN_VIT).modalities == ("image", "video")


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("vision_config", "the vision tower of 'unheard_of'"),
        ("vit_config", "the vision tower of 'unheard_of'"),
        ("audio_config", "the encoder of audio of 'unheard_of'"),
        ("encoder_config", "the encoder of audio of 'unheard_of'"),
    ],
)
def test_a_tower_without_a_rule_is_refused(part: str, problem: str) -> None:
    """Its weights would be missing: the error names the field, and the families that are known."""
    with pytest.raises(UnsupportedModel, match=problem) as error:
        encoders("unheard_of", **{part: {"hidden_size": 8}})
    assert error.value.field == part
    assert "qwen" in error.value.expected


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("llava_next", "image_grid_pinpoints", [[336]]),
        ("llava_next", "image_grid_pinpoints", "many"),
        ("deepseek_vl_v2", "candidate_resolutions", [[1, 1]]),
    ],
)
def test_absurd_canvases_are_refused(kind: str, field: str, value: object) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInput) as error:
        encoders(kind, vision_config=SIGLIP, **{field: value})
    assert error.value.field == field


def test_every_rule_reads_a_plain_tower_or_names_what_it_lacks() -> None:
    """No reader fails on a plain config.json but by naming a field; what it reads is hashable."""
    canvases = {"image_grid_pinpoints": [[336, 672]], "candidate_resolutions": [[384, 768]]}
    for kind in (*READERS, *HEARD):
        with contextlib.suppress(InvalidInput):
            assert isinstance(hash(encoders(kind, vision_config=SIGLIP, **canvases)), int)
