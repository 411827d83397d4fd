"""Models of Mamba layers only, and Falcon-H1's parallel hybrids."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.model_ops.registry import resolve_model


@pytest.mark.parametrize(
    ("model_id", "parameters"),
    [
        ("state-spaces/mamba-130m-hf", 129_135_360),
        ("state-spaces/mamba-2.8b-hf", 2_768_345_600),
        ("tiiuae/falcon-mamba-7b", 7_272_665_088),
        ("mistralai/Mamba-Codestral-7B-v0.1", 7_285_403_648),
    ],
)
def test_mamba_models_have_the_published_size(model_id: str, parameters: int) -> None:
    """To the last weight, as the model cards count them."""
    assert resolve_model(model_id).parameters == parameters


def test_mamba_models_hold_a_state_and_no_cache() -> None:
    """Mamba-130M: 24 layers of 1,536 x 16 values, and three columns of its convolution."""
    model = resolve_model("state-spaces/mamba-130m-hf")
    assert model.kv_bytes_per_token(Precision.BF16) == 0
    values = 1536 * 16 + 3 * (1536 + 2 * 16)
    assert model.state_bytes_per_sequence() == 24 * 2 * values


def test_a_parallel_hybrid_has_a_cache_and_a_state_in_each_layer() -> None:
    """Falcon-H1-7B: 44 layers, each 2 KV heads of 128 and 24 heads of 128 x 256 states."""
    model = resolve_model("tiiuae/Falcon-H1-7B-Instruct")
    assert model.kv_bytes_per_token(Precision.BF16) == 44 * 2 * 2 * 128 * 2
    recurrent, channels = 24 * 128 * 256, 2 * 256 + 24 * 128
    assert model.state_bytes_per_sequence() == 44 * 2 * (recurrent + 3 * channels)
