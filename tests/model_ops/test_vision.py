"""Vision towers are counted, or refused by name."""

from __future__ import annotations

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.model_ops.config import architecture_from_config
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
