"""Encoder-decoders of the T5 kind are counted to the last weight."""

from __future__ import annotations

from typing import Any

from budsim.model_ops.config import architecture_from_config

T5_SMALL: dict[str, Any] = {
    "model_type": "t5",
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_heads": 8,
    "num_layers": 6,
    "vocab_size": 32128,
    "n_positions": 512,
}


def test_t5_small_has_its_published_size() -> None:
    """60,506,624 weights (arXiv 1910.10683: 60 M)."""
    assert architecture_from_config("t5-small", T5_SMALL).parameters == 60_506_624


def test_a_gated_feed_forward_part_has_three_matrices() -> None:
    """T5 v1.1 adds a gate of 512 x 2,048 to each of 12 layers."""
    gated = {**T5_SMALL, "feed_forward_proj": "gated-gelu"}
    more = architecture_from_config("t5-v1.1", gated).parameters - 60_506_624
    assert more == 12 * 512 * 2048


def test_the_halves_may_differ_in_depth() -> None:
    """Six encoder layers and two decoder layers, which have a second attention."""
    model = architecture_from_config("uneven", {**T5_SMALL, "num_decoder_layers": 2})
    assert sum(group.count for group in model.layers if group.cross_attention) == 2


def test_whisper_is_counted_to_the_last_weight() -> None:
    """Whisper tiny has 37,760,640 weights with its encoder (transformers num_parameters()).

    Of the encoder we leave out biases and norms: 4 layers of 4,224, two of convolutions, one norm.
    """
    tiny = {
        "model_type": "whisper",
        "d_model": 384,
        "encoder_layers": 4,
        "encoder_ffn_dim": 1536,
        "decoder_layers": 4,
        "decoder_attention_heads": 6,
        "decoder_ffn_dim": 1536,
        "vocab_size": 51865,
        "num_mel_bins": 80,
    }
    found = architecture_from_config("tiny", tiny)
    left_out = 4 * (3 * 384 + 1536 + 384 + 4 * 384) + 2 * 384 + 2 * 384
    assert found.parameters == 37_760_640 - left_out
    assert (found.max_context_tokens, found.text_context_tokens) == (1_948, 448)
