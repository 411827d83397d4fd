"""A population as a table."""

import numpy as np

from budsim.performance.candidates import rows_of
from tests.performance.populations import population


def test_figures_of_devices_and_engines_are_spread_over_rows() -> None:
    """Each row has that of its own device and engine."""
    table = population(tp=[1, 2, 4])
    assert table.by_device([7.0]).tolist() == [7.0, 7.0, 7.0]
    assert table.by_engine([3.0]).tolist() == [3.0, 3.0, 3.0]


def test_rows_are_picked_with_their_distinct_values() -> None:
    """The third and the first row keep model, device and engine."""
    table = population(tp=[1, 2, 4], concurrency=[10, 20, 30])
    picked = rows_of(table, np.array([2, 0]))
    assert len(picked) == 2
    assert picked.tp.tolist() == [4, 1]
    assert picked.concurrency.tolist() == [30, 10]
    assert picked.architectures is table.architectures
