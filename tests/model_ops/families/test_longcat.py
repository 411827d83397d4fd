"""LongCat-Flash: two latent attentions a layer, and experts that compute nothing."""

from __future__ import annotations

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.commons.precision import Precision
from budsim.model_ops.catalog import catalog_entries
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.registry import resolve_model


def test_each_layer_caches_two_latents() -> None:
    """28 layers x 2 latents of 512 + 64 values in 16 bit; 560 B in all, 27 B at work."""
    model = resolve_model("meituan-longcat/LongCat-Flash-Chat")
    assert model.kv_bytes_per_token(Precision.BF16) == 28 * 2 * (512 + 64) * 2
    assert model.parameters == pytest.approx(560e9, rel=0.01)
    assert model.active_parameters == pytest.approx(27e9, rel=0.05)


def test_ngram_embeddings_are_refused() -> None:
    """The size of n-gram tables is not guessed."""
    entry = catalog_entries()["meituan-longcat/longcat-flash-chat"]
    config = {**entry.config, "ngram_vocab_size_ratio": 78}
    with pytest.raises(UnsupportedModel, match="ngram_vocab_size_ratio"):
        architecture_from_config("lite", config)
