"""Models as arrays."""

from __future__ import annotations

import numpy as np

from budsim.commons.precision import Precision
from budsim.performance.physics.architecture_arrays import (
    architecture_arrays,
    cached_bytes,
    stored_bytes,
)
from tests.performance.by_hand import EXPERTS, model


def test_a_model_is_a_row_and_a_matrix_a_column() -> None:
    """The token table, QKV, output, up and down; a second model's router and experts are padding.

    QKV has 1000 inputs and 3000 outputs, two thirds of them keys and values.
    """
    arrays = architecture_arrays((model(), model(feed_forward=EXPERTS)))
    assert arrays.matrices.inputs[0].tolist() == [1000, 1000, 1000, 1000, 3000, 0]
    assert arrays.matrices.outputs[0].tolist() == [1000, 3000, 1000, 3000, 1000, 0]
    assert arrays.matrices.kv_share[0, 1] == 2000 / 3000
    assert arrays.matrices.copies[1].tolist() == [1, 1, 1, 1, 8, 8]
    assert arrays.matrices.active_copies[1].tolist() == [1, 1, 1, 1, 2, 2]
    assert arrays.experts.tolist() == [0, 8]


def test_a_tied_head_is_multiplied_but_not_stored_again() -> None:
    """With a head of its own a model has one column more."""
    own = architecture_arrays((model(head=True),))
    assert own.matrices.sampled[0].tolist() == [False, True, False, False, False, False]


def test_bytes_follow_the_format() -> None:
    """Layers in 8 bit take one byte a value, the token table two; 4,000 and 2,000 B of cache."""
    pair = (Precision.BF16, Precision.FP8)
    assert stored_bytes((model(),), pair)[0].tolist() == [[2, 2, 2, 2, 2], [2, 1, 1, 1, 1]]
    assert np.array_equal(cached_bytes((model(),), pair)[0], [[4000], [2000]])
