"""What every family's reader returns: layers, and the sizes around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from budsim.model_ops.layers import Attention, FeedForward, LayerGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer; ``extra_parameters`` counts its norms, biases and other small weights.

    One that is to ``repeat`` runs the matrices of an earlier layer again.
    """

    attention: Attention
    feed_forward: FeedForward | None = None
    extra_parameters: int = 0
    cross_attention: Attention | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A model's shape before its name, precision and vision tower are known.

    ``extra_parameters`` counts small weights outside the layers: final norms, biases of the head,
    poolers. ``positions`` is the number of learned absolute positions. ``layer_inputs`` is the
    shape of a token table with a vector for each layer, (0, 0) where there is none.
    """

    hidden: int
    vocabulary: int
    context: int
    layers: Sequence[Layer]
    tied: bool
    extra_parameters: int = 0
    positions: int = 0
    layer_inputs: tuple[int, int] = (0, 0)
    encoder_layers: Sequence[Layer] = ()
    is_bidirectional: bool = False

    @property
    def all_extra_parameters(self) -> int:
        """Small weights of the whole model, in all layers and outside them."""
        layers = (*self.layers, *self.encoder_layers)
        return self.extra_parameters + sum(layer.extra_parameters for layer in layers)


def group_layers(layers: Sequence[Layer]) -> tuple[LayerGroup, ...]:
    """Return the layers with equal ones counted together, in the order each kind first appears.

    Layers A, A, B, A become a group of 3 A and a group of 1 B.
    """
    # A Counter keeps the order in which it meets its keys.
    kinds = Counter(
        (layer.attention, layer.feed_forward, layer.cross_attention, layer.repeat)
        for layer in layers
    )
    return tuple(
        LayerGroup(
            count=count,
            attention=attention,
            feed_forward=feed_forward,
            cross_attention=cross,
            repeat=repeat,
        )
        for (attention, feed_forward, cross, repeat), count in kinds.items()
    )
