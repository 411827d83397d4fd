"""Towers of families: as large as published, and read wherever a config.json keeps them."""

from __future__ import annotations

import pytest

from budsim.model_ops.catalog import catalog_entries
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.encoders import Tower
from budsim.model_ops.registry import resolve_model

INTERNVL3, GLM4_1V = "OpenGVLab/InternVL3-8B", "zai-org/GLM-4.1V-9B-Thinking"
OMNI2_5, OMNI3 = "Qwen/Qwen2.5-Omni-7B", "Qwen/Qwen3-Omni-30B-A3B-Instruct"
QWEN2_AUDIO = "Qwen/Qwen2-Audio-7B-Instruct"


def weights(tower: Tower | None) -> float:
    """Return the weights of a tower's blocks and of its projector."""
    assert tower is not None
    return float(tower.layers * tower.block_parameters + tower.projector_parameters)


@pytest.mark.parametrize(
    ("model", "published", "tolerance"),
    [
        # InternViT-300M of 304 M and a projector of 27 M (InternVL3's card).
        (INTERNVL3, 331e6, 0.01),
        # MoonViT-SO-400M, as SigLIP-SO-400M: 413 M, and a projector of 28 M.
        ("moonshotai/Kimi-VL-A3B-Instruct", 441e6, 0.01),
        # "MoonViT-400M" with its projector of 54 M (Kimi-K2.5's card).
        ("moonshotai/Kimi-K2.5", 467e6, 0.02),
        # "198 B with its vision tower", 196 B without (vLLM recipes).
        ("stepfun-ai/Step-3.7-Flash", 2e9, 0.1),
        # "675M ViT" of Qwen2-VL and newer (arXiv 2409.12191).
        (OMNI2_5, 675e6, 0.01),
        # SigLIP2-SO-400M (543 M with four projectors; arXiv 2509.17765).
        (OMNI3, 543e6, 0.03),
    ],
)
def test_towers_of_images_are_as_large_as_published(
    model: str, published: float, tolerance: float
) -> None:
    """Embeddings of patches and positions, which each patch meets once or never, are left out."""
    assert weights(resolve_model(model).encoders.tower) == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize("model", [QWEN2_AUDIO, OMNI2_5, OMNI3])
def test_encoders_of_audio_are_as_large_as_whisper_s(model: str) -> None:
    """Whisper large-v3's encoder has 637 M weights; Qwen3-Omni's AuT "about 0.6B"."""
    assert weights(resolve_model(model).encoders.audio_tower) == pytest.approx(637e6, rel=0.02)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        # Sizes on the models' pages of the Hugging Face hub, billions.
        (INTERNVL3, 7.94),
        ("OpenGVLab/InternVL3_5-8B", 8.53),
        (GLM4_1V, 10.3),
        ("zai-org/GLM-4.5V", 108),
        ("moonshotai/Kimi-VL-A3B-Instruct", 16.4),
        (QWEN2_AUDIO, 8.40),
        # What thinks, hears and sees; what speaks is no part of it.
        (OMNI2_5, 8.93),
        (OMNI3, 31.7),
    ],
)
def test_models_are_as_large_as_published(model: str, published: float) -> None:
    """All weights that an engine holds."""
    assert resolve_model(model).parameters / 1e9 == pytest.approx(published, rel=0.01)


def test_models_that_speak_are_read_by_the_part_that_thinks() -> None:
    """The catalog's thinker_config is the same as a config.json of it alone."""
    whole = catalog_entries()[OMNI2_5.lower()].config
    thinker = whole["thinker_config"]
    assert isinstance(thinker, dict)
    alone = {**thinker, "architectures": whole["architectures"], "model_type": "qwen2_5_omni"}
    found, expected = (architecture_from_config("omni", each) for each in (whole, alone))
    assert found == expected


def test_internvl_keeps_its_text_model_in_llm_config() -> None:
    """Its layers are those of Qwen2.5-7B."""
    found, text = resolve_model(INTERNVL3), resolve_model("Qwen/Qwen2.5-7B-Instruct")
    assert (found.hidden_size, found.layers) == (text.hidden_size, text.layers)


def test_a_checkpoint_may_allow_fewer_tiles() -> None:
    """max_dynamic_patch and use_thumbnail of config.json."""
    whole = dict(catalog_entries()[INTERNVL3.lower()].config)
    one = architecture_from_config("one", {**whole, "max_dynamic_patch": 1}).encoders.image
    bare = architecture_from_config("bare", {**whole, "use_thumbnail": False}).encoders.image
    assert one is not None
    assert bare is not None
    assert one.image(4000, 3000).tokens == 256
    assert bare.image(4000, 3000).tokens == 12 * 256
