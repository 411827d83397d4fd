"""What every family's reader returns, and the arithmetic of norms and biases they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from budsim.model_ops.architecture import Attention, FeedForward, LayerGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: how it mixes tokens and channels, and its norms, biases and other small weights."""

    attention: Attention
    feed_forward: FeedForward | None
    extra: int = 0
    cross_attention: Attention | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A model's shape before its name, precision and vision tower are known.

    ``extra`` counts small weights outside the layers: final norms, biases of the head, poolers.
    """

    hidden: int
    vocabulary: int
    context: int
    layers: Sequence[Layer]
    tied: bool
    extra: int = 0
    positions: int = 0
    encoder_layers: Sequence[Layer] = ()
    is_bidirectional: bool = False

    @property
    def all_extra(self) -> int:
        """Small weights of the whole model."""
        return self.extra + sum(layer.extra for layer in (*self.layers, *self.encoder_layers))


def grouped(layers: Sequence[Layer]) -> tuple[LayerGroup, ...]:
    """Return the layers with equal ones counted together, in the order each kind first appears."""
    kinds = Counter(
        (layer.attention, layer.feed_forward, layer.cross_attention) for layer in layers
    )
    return tuple(
        LayerGroup(
            count=count, attention=attention, feed_forward=feed_forward, cross_attention=cross
        )
        for (attention, feed_forward, cross), count in kinds.items()
    )


def attention_biases(attention: Attention, hidden: int, *, qkv: bool, out: bool) -> int:
    """Return the number of bias values of grouped attention's projections."""
    projected = attention.heads * attention.head_dim + attention.kv_heads * (
        attention.head_dim + attention.value_head_dim
    )
    return projected * qkv + hidden * out


def feed_forward_biases(feed_forward: FeedForward, hidden: int) -> int:
    """Return the number of bias values of a layer's dense or expert matrices, and of its router."""
    one = feed_forward.width * (2 if feed_forward.gated else 1) + hidden
    return one * feed_forward.experts + feed_forward.experts if feed_forward.experts else one
