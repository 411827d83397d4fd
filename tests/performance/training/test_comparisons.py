"""Errors by group, and ranking within a question."""

import numpy as np
import pytest

from budsim.performance.training.comparisons import breakdown, ranking
from tests.performance.training.compared import comparison


def test_ranking_is_within_questions():
    """Perfect order within each of two questions is 1, whatever the order between them.

    Reversed is -1; four rows are too few.
    """
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert ranking(
        comparison([*values, *values], [*values, *(10 * v for v in values)], ["a"] * 5 + ["b"] * 5)
    ) == pytest.approx(1)
    assert ranking(comparison(values, values[::-1], ["a"] * 5)) == pytest.approx(-1)
    assert np.isnan(ranking(comparison(values[:4], values[:4], ["a"] * 4)))


def test_breakdown_counts_errors_and_coverage_by_group():
    """Five predictions, one twice too high: median 0 %, mean 20 %, and four of five inside.

    Every group has its row.
    """
    table = breakdown(comparison([1, 2, 3, 4, 5], [2, 2, 3, 4, 5], ["a"] * 5)).set_index("rows of")
    assert list(table.index) == [
        "all",
        "device H100",
        "engine vllm",
        "model <b>m</b>",
        "mode serving",
    ]
    assert tuple(table.loc["all", ["rows", "median", "mean", "in 90 % interval"]]) == (
        "5",
        "0.0%",
        "20.0%",
        "80.0%",
    )
