"""A population as a table."""

from dataclasses import replace

import numpy as np

from budsim.performance.candidates import joined, kinds_of, rows_of
from budsim.performance.speculation import PLAIN, Speculation
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


def test_tables_are_joined_row_by_row() -> None:
    """Two rows and one are three; rows of a table that guesses no tokens go on guessing none."""
    plain = population(tp=[1, 2], concurrency=[10, 20])
    ways = (PLAIN, Speculation(draft_tokens=2, tokens_per_step=2.0))
    guessing = replace(population(tp=4), speculations=ways, speculation=np.array([1]))
    both = joined([plain, guessing])
    assert both.tp.tolist() == [1, 2, 4]
    assert both.draft_tokens.tolist() == [0, 0, 2]
    assert joined([plain]) is plain


def test_rows_of_a_kind_are_equal_in_all_columns() -> None:
    """Rows (1, 0), (2, 0) and (1, 0) again are of two kinds, and unknowns equal each other."""
    first, kind = kinds_of([np.array([1, 2, 1]), np.zeros(3)])
    assert (first.tolist(), kind.tolist()) == ([0, 1], [0, 1, 0])
    assert kinds_of([np.array([np.nan, np.nan])])[1].tolist() == [0, 0]
