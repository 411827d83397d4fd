"""LFM2: short convolutions are counted, and keep two columns of inputs."""

from __future__ import annotations

from budsim.commons.precision import Precision
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.layers import AttentionKind
from budsim.model_ops.registry import resolve_model
from tests.model_ops.configs import llama


def test_a_convolution_has_three_projections_in_and_one_out() -> None:
    """Width 64: 64 x 192 in, 64 x 64 out, a kernel of 3 for each channel, and two norms."""
    config = llama(model_type="lfm2", layer_types=["conv", "conv"], conv_L_cache=3)
    model = architecture_from_config("conv", {**config, "tie_word_embeddings": True})
    layer = 64 * 192 + 64 * 64 + 3 * 64 + 3 * 64 * 128 + 2 * 64
    assert model.parameters == 2 * layer + 6400 + 64
    assert model.kv_bytes_per_token(Precision.BF16) == 0
    assert model.state_bytes_per_sequence() == 2 * 2 * 64 * 2


def test_listed_layers_attend() -> None:
    """The older ``full_attn_idxs`` names the layers that attend."""
    config = llama(model_type="lfm2", full_attn_idxs=[1])
    kinds = [group.attention.kind for group in architecture_from_config("lfm2", config).layers]
    assert kinds == [AttentionKind.LINEAR, AttentionKind.FULL]


def test_the_adjusted_width_is_two_thirds_rounded_up() -> None:
    """LFM2-1.2B: 12,288 becomes 8,192; its published size is 1,170,340,608."""
    model = resolve_model("LiquidAI/LFM2-1.2B")
    assert {group.feed_forward.width for group in model.layers if group.feed_forward} == {8192}
    assert model.parameters == 1_170_340_608


def test_the_mixture_serves_as_its_publisher_says() -> None:
    """LFM2.5-8B-A1B: 6 of 24 layers cache keys and values of 8 heads x 64."""
    model = resolve_model("LiquidAI/LFM2.5-8B-A1B")
    assert model.parameters / 8.3e9 < 1.03
    assert model.kv_bytes_per_token(Precision.BF16) == 6 * 2 * 8 * 64 * 2
