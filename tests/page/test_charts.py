"""Scales, ticks and numbers of drawings."""

import pytest

from budsim.page.charts import BOTTOM, LEFT, RIGHT, TOP, frame, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.03417, "0.0342"),
        (12.5, "12.5"),
        (263.4, "263"),
        (1234.5, "1,234"),
        (100.0, "100"),
        (0, "0"),
    ],
)
def test_number_has_three_digits(value, text):
    """Numbers are told with three digits, large ones with separators."""
    assert number(value) == text


def test_number_that_is_none_is_a_dash():
    """What is not finite is a dash."""
    assert number(float("nan")) == number(float("inf")) == "–"


def test_equal_ratios_are_equally_far_apart():
    """On a logarithmic axis 10 lies as far from 1 as from 100, and all values lie inside."""
    box = frame([1, 10, 100], [1, 10, 100], 400)
    left, middle, right = (box.x.at(value) for value in (1, 10, 100))
    assert middle - left == pytest.approx(right - middle, abs=0.2)
    assert LEFT < left < right < 400 - RIGHT
    assert TOP < box.y.at(100) < box.y.at(1) < box.height - BOTTOM


def test_equal_steps_are_equally_far_apart():
    """On a plain axis 2 lies as far from 1 as from 3, and the axis begins at 0."""
    box = frame([1, 2, 3], [1, 2, 3], 400, log_x=False)
    one, two, three = (box.x.at(value) for value in (1, 2, 3))
    assert two - one == pytest.approx(three - two, abs=0.2)
    assert box.x.at(0) == LEFT


@pytest.mark.parametrize("width", [280, 640, 1200])
@pytest.mark.parametrize("span", [(1, 1), (1, 1.2), (0.001, 5000), (20, 90)])
def test_ticks_leave_room_for_their_texts(width, span):
    """Whatever the span, there are at least one and never more ticks than fit."""
    scale = frame(span, span, width).x
    assert 1 <= len(scale.ticks) <= width / 40
    gaps = [
        after.at - before.at for before, after in zip(scale.ticks, scale.ticks[1:], strict=False)
    ]
    assert all(gap >= 25 for gap in gaps)


def test_values_beyond_the_ends_lie_at_the_ends():
    """A range longer than the axis ends at its edge."""
    scale = frame([1, 10], [1, 10], 400).x
    assert scale.at(1e9) == scale.end
    assert scale.at(1e-9) == scale.start
