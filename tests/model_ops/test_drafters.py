"""What guesses tokens for a model."""

from __future__ import annotations

import pytest

from budsim.model_ops.drafters import EAGLE3_VOCABULARY, eagle3_head, has_mtp_layer, mtp_layer
from budsim.model_ops.registry import resolve_model


def test_the_mtp_layer_of_deepseek_has_its_published_size() -> None:
    """Model card: 14 B weights in the module; table and head (2 x 0.93 B) are the model's."""
    model = resolve_model("deepseek-ai/DeepSeek-R1")
    layer = mtp_layer(model)
    shared = 2 * model.vocab_size * model.hidden_size
    assert layer.parameters - shared == pytest.approx(11.5e9, rel=0.05)
    assert layer.is_moe


def test_an_eagle_head_is_one_dense_layer() -> None:
    """The head of Llama-3.1-8B: about 0.35 B weights and half of its own short vocabulary."""
    head = eagle3_head(resolve_model("meta-llama/Llama-3.1-8B-Instruct"))
    assert head.layer_count == 1
    assert head.vocab_size == EAGLE3_VOCABULARY
    assert not head.is_moe
    assert 0.3e9 < head.parameters < 0.7e9


def test_families_with_a_layer_for_guesses_are_known() -> None:
    """DeepSeek-V3 brings one, Llama none."""
    assert has_mtp_layer(resolve_model("deepseek-ai/DeepSeek-V3"))
    assert not has_mtp_layer(resolve_model("meta-llama/Llama-3.1-8B-Instruct"))
