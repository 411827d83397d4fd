"""Laws of lengths: means, bounds and what their names in text stand for."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.lengths import (
    EmpiricalLength,
    FixedLength,
    LengthLaw,
    LognormalLength,
    UniformLength,
    parse_lengths,
)

EVEN = (np.arange(1000) + 0.5) / 1000


@pytest.mark.parametrize(
    "law",
    [
        FixedLength(tokens=300),
        UniformLength(low=100, high=500),
        LognormalLength(mean_tokens=300, variation=0.5),
        EmpiricalLength(values=(100, 500)),
    ],
    ids=lambda law: type(law).__name__,
)
def test_drawn_lengths_have_the_mean_and_the_bound_of_their_law(law: LengthLaw) -> None:
    """Lengths at even quantiles have the law's mean within 1 % and never pass its longest."""
    drawn = law.at(EVEN)
    assert drawn.mean() == pytest.approx(300, rel=0.01)
    assert law.mean == 300
    assert drawn.max() <= law.most


def test_uniform_lengths_reach_both_ends_equally_often() -> None:
    """Of 1 to 4 tokens each makes a quarter of the draws."""
    counts = np.bincount(UniformLength(low=1, high=4).at(EVEN))
    assert counts.tolist() == [0, 250, 250, 250, 250]


def test_lognormal_lengths_have_the_stated_variation() -> None:
    """The standard deviation of a wide cut is the variation times the mean."""
    law = LognormalLength(mean_tokens=1000, variation=0.5, longest=100_000)
    assert law.at(EVEN).std() == pytest.approx(500, rel=0.03)


def test_observed_lengths_keep_their_order_and_repeat() -> None:
    """Two lengths fill five requests in turn."""
    assert EmpiricalLength(values=(7, 9)).at(EVEN[:5]).tolist() == [7, 9, 7, 9, 7]


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("fixed", FixedLength(tokens=100)),
        ("uniform", UniformLength(low=50, high=150)),
        ("uniform:10-90", UniformLength(low=10, high=90)),
        (" Lognormal:0.5", LognormalLength(mean_tokens=100, variation=0.5)),
        ("lognormal", LognormalLength(mean_tokens=100, variation=1.0)),
    ],
)
def test_a_law_is_read_from_its_name(text: str, law: LengthLaw) -> None:
    """Names with or without parameters stand for the law of the given mean."""
    assert parse_lengths(text, 100) == law


@pytest.mark.parametrize(
    "text", ["", "normal", "uniform:9", "uniform:x-y", "fixed:3", "lognormal:a"]
)
def test_an_unknown_law_is_an_error_that_lists_the_known_ones(text: str) -> None:
    """The message names the field and what may be written."""
    with pytest.raises(InvalidInput, match=r"lengths.*uniform:LOW-HIGH"):
        parse_lengths(text, 100)


@pytest.mark.parametrize("text", ["uniform:5-2", "uniform:0-9", "lognormal:-1", "lognormal:99"])
def test_a_law_out_of_range_is_an_error_of_the_lengths(text: str) -> None:
    """The error names the text that was given, not a field of the law made of it."""
    with pytest.raises(InvalidInput, match=rf"^lengths: .*{text}"):
        parse_lengths(text, 100)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: FixedLength(tokens=-1), "tokens"),
        (lambda: UniformLength(low=5, high=4), "high"),
        (lambda: UniformLength(low=0, high=4), "low"),
        (lambda: LognormalLength(mean_tokens=100, variation=0.0), "variation"),
        (lambda: LognormalLength(mean_tokens=100, variation=1.0, longest=50), "longest"),
        (lambda: EmpiricalLength(values=()), "values"),
        (lambda: EmpiricalLength(values=(3, -1)), "values"),
    ],
)
def test_impossible_lengths_are_refused_by_field(make: object, field: str) -> None:
    """The error names the field that is wrong."""
    with pytest.raises(InvalidInput, match=f"^{field}:"):
        make()  # type: ignore[operator]
