"""What a family does that its config.json does not say; a flag in the config wins."""

from __future__ import annotations

import pytest

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.families.decoder import read_decoder
from budsim.model_ops.families.traits import FamilyTraits, QkNorm
from tests.model_ops.configs import llama

PLAIN = read_decoder(ConfigReader(llama()), FamilyTraits()).all_extra_parameters


@pytest.mark.parametrize(
    ("traits", "more"),
    [
        (FamilyTraits(norms=4), 2 * 2 * 64),
        (FamilyTraits(norm_values=2), 2 * 2 * 64 + 64),
        (FamilyTraits(norm_values=0), -(2 * 2 * 64 + 64)),
        (FamilyTraits(qk_norm=QkNorm.HEAD), 2 * 2 * 16),
        (FamilyTraits(qk_norm=QkNorm.PROJECTION), 2 * (64 + 32)),
        (FamilyTraits(qkv_bias=("", True)), 2 * (64 + 32 + 32)),
        (FamilyTraits(ff_bias=("", True)), 2 * (2 * 128 + 64)),
        (FamilyTraits(sinks=True), 2 * 4),
        (FamilyTraits(head_bias=True), 100),
        (FamilyTraits(final_norm=False), -64),
    ],
)
def test_each_trait_adds_its_weights(traits: FamilyTraits, more: int) -> None:
    """Two layers of width 64 with 4 heads of 16, 2 KV heads, and 100 tokens."""
    assert read_decoder(ConfigReader(llama()), traits).all_extra_parameters == PLAIN + more


def test_what_the_config_states_wins() -> None:
    """A Gemma shares its table with the head; a config that says otherwise is believed."""
    tied = architecture_from_config("tied", llama(model_type="gemma", tie_word_embeddings=True))
    untied = architecture_from_config("not", llama(model_type="gemma", tie_word_embeddings=False))
    assert untied.parameters - tied.parameters == 100 * 64
