"""Equal layers are counted together, and small weights are summed."""

from __future__ import annotations

from budsim.model_ops.families.text_model import Layer, TextModel, group_layers
from budsim.model_ops.layers import Attention, AttentionKind, FeedForward


def layer(width: int, extra: int = 0) -> Layer:
    """Return a layer of 4 heads of 16 with a feed-forward part of this width."""
    attention = Attention(
        kind=AttentionKind.FULL, heads=4, kv_heads=2, head_dim=16, value_head_dim=16
    )
    return Layer(
        attention=attention,
        feed_forward=FeedForward(width=width, gated=True),
        extra_parameters=extra,
    )


def test_equal_layers_form_a_group_wherever_they_stand() -> None:
    """Layers A, A, B, A are 3 A and 1 B."""
    groups = group_layers([layer(128), layer(128), layer(256), layer(128)])
    widths = [(group.count, group.feed_forward.width) for group in groups if group.feed_forward]
    assert widths == [(3, 128), (1, 256)]


def test_small_weights_do_not_split_a_group() -> None:
    """Norms and biases are counted for the model; they do not change how a layer runs."""
    assert [group.count for group in group_layers([layer(128, 64), layer(128, 192)])] == [2]


def test_small_weights_are_those_of_both_halves_and_the_rest() -> None:
    """Two decoder layers of 100, an encoder layer of 10, and 1 outside them are 211."""
    model = TextModel(
        hidden=64,
        vocabulary=100,
        context=128,
        layers=[layer(128, 100)] * 2,
        encoder_layers=[layer(128, 10)],
        tied=True,
        extra_parameters=1,
    )
    assert model.all_extra_parameters == 211
