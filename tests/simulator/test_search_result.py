"""What a search evaluated: the best compromise, and the first of equal rows."""

import numpy as np

from budsim.simulator.search_result import SearchResult, first_of_each


def test_the_knee_is_the_best_compromise():
    """Of a cheap, a fast and a middling genome the middling one is the knee.

    One that misses its targets never is.
    """
    rows = [[0.0, 1.0, 1.0, 1.0], [0.0, 2.0, 1.0, 0.2], [0.0, 1.2, 1.0, 0.3], [0.5, 0.1, 1.0, 1.5]]
    explored = SearchResult(
        genomes=np.arange(4)[:, None], objectives=np.array(rows), violation=np.zeros(4)
    )
    assert explored.knee() == 2


def test_without_anything_feasible_there_is_no_knee():
    """A space in which nothing fits has no knee."""
    explored = SearchResult(
        genomes=np.zeros((1, 1), dtype=np.int64), objectives=np.zeros((1, 4)), violation=np.ones(1)
    )
    assert explored.knee() is None


def test_the_first_of_each_distinct_row_is_kept():
    """(3, 1, 3, 2, 1) gives the places 0, 1 and 3."""
    assert first_of_each(np.array([3, 1, 3, 2, 1])).tolist() == [0, 1, 3]
