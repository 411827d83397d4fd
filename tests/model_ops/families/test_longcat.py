"""LongCat-Flash: two latent attentions a layer, and experts that compute nothing."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.model_ops.registry import resolve_model


def test_each_layer_caches_two_latents() -> None:
    """28 layers x 2 latents of 512 + 64 values in 16 bit; 560 B in all, 27 B at work."""
    model = resolve_model("meituan-longcat/LongCat-Flash-Chat")
    assert model.kv_bytes_per_token(Precision.BF16) == 28 * 2 * (512 + 64) * 2
    assert model.parameters == pytest.approx(560e9, rel=0.01)
    assert model.active_parameters == pytest.approx(27e9, rel=0.05)


def test_ngram_tables_are_stored_and_looked_up() -> None:
    """12 tables of 78 x 131,072 rows of 256 values: 31.4 of LongCat-Flash-Lite's 68.5 billion."""
    model = resolve_model("meituan-longcat/LongCat-Flash-Lite")
    rows, width = model.layer_inputs
    assert rows * width == pytest.approx(31.4e9, rel=0.001)
    assert model.parameters == pytest.approx(68.5e9, rel=0.01)
    assert model.active_parameters < 5e9
