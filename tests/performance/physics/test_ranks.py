"""What one rank holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.model_ops.layers import AttentionKind
from budsim.performance.physics.ranks import attention_ranks
from tests.performance.by_hand import ATTENTION, EXPERTS, candidates, model, ranks


@pytest.mark.parametrize(("tp", "megabytes"), [(1, 20.0), (2, 10.0), (4, 5.0)])
def test_ranks_divide_the_weights(tp: int, megabytes: float) -> None:
    """10e6 values x 2 B, over tp ranks; the token table of 1000 x 1000 is divided, too."""
    assert ranks(tp=tp).weight_bytes == pytest.approx((megabytes + 2.0 / tp) * 1e6)


def test_key_heads_are_not_divided_below_one() -> None:
    """Two key heads, four ranks: QKV has 8 x 100 + 2 x 200 columns, of which a rank holds 400.

    1000 x (200 + 200) x 2 B = 800,000 B.
    """
    grouped = ranks(model(replace(ATTENTION, heads=8, kv_heads=2)), tp=4)
    assert grouped.matrices.stored_bytes[0, 1] == pytest.approx(800_000)


def test_data_parallel_attention_is_whole_on_every_rank() -> None:
    """Eight ranks, two groups of data: attention is split over four, over one at eight groups."""
    assert attention_ranks(candidates(tp=8, dp=[1, 2, 8])).tolist() == [8.0, 4.0, 1.0]


def test_layers_are_counted_by_kind() -> None:
    """Three layers of experts with linear attention and no index."""
    linear = replace(ATTENTION, kind=AttentionKind.LINEAR)
    layers = ranks(model(linear, EXPERTS, layers=3)).layers
    counted = (layers.all[0], layers.moe[0], layers.linear[0], layers.indexed[0])
    assert counted == (3.0, 3.0, 3.0, 0.0)


def test_a_processor_has_the_cores_it_is_bound_to() -> None:
    """Four of ten, or all where nothing is said."""
    assert np.array_equal(ranks(cores=4).cores, [4.0])
    assert np.array_equal(ranks().cores, [10.0])
