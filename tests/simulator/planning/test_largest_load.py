"""The largest load is found in few rounds of many loads at once."""

import math

import numpy as np
import pytest

from budsim.simulator.planning.largest_load import LargestLoad, above

MOST = 1_000_000


class Trials:
    """Rooms of ways that carry so much each, and the loads that were tried in each round."""

    def __init__(self, *most: float) -> None:
        self.most, self.tried = np.array(most, dtype=float), []

    def __call__(self, ways, loads):
        """Return what is left of each way, as a share of the load."""
        self.tried.append((ways.tolist(), loads.tolist()))
        return self.most[ways][:, None] / loads - 1.0


def sought(trials: Trials, *first: float, close: float = 1.01, **known: int) -> LargestLoad:
    """Return the search after it has ended."""
    search = LargestLoad(trials, np.arange(len(trials.most)), MOST, **known)
    search.seek(np.array(first), close)
    return search


@pytest.mark.parametrize("first", [(1.0,), (50.0, 90.0), (20_000.0,), (400_000.0, 900_000.0)])
def test_the_largest_load_is_found_to_a_hundredth(first):
    """From any first loads on, in at most 16 rounds; exactly below 100."""
    for most in (1, 7, 93, 1_000, 250_000, MOST):
        trials = Trials(most)
        found = sought(trials, *first)
        assert found.low <= most < found.high <= above(found.low)
        assert len(trials.tried) <= 16


def test_two_rounds_tell_a_load_that_was_nearly_known():
    """Of 1,450 the first loads were 1,200 and 1,500, and rooms tell where the way misses."""
    trials = Trials(1_450.0)
    assert sought(trials, 1_200.0, 1_500.0).low == pytest.approx(1_450, rel=0.01)
    assert len(trials.tried) == 2


def test_ways_that_do_not_carry_what_others_do_are_left_out():
    """Of 100, 95, 70 and 20 only the best two are tried again, and one is left."""
    trials = Trials(100, 95, 70, 20)
    found = sought(trials, 50.0, 90.0, 120.0)
    assert [ways for ways, _ in trials.tried][:2] == [[0, 1, 2, 3], [0, 1]]
    assert (found.low, found.ways.tolist()) == (100, [0])


def test_what_misses_by_far_is_not_tried_under_less():
    """Nothing carries 100: a way that misses it by a tenth is tried on, one by four fifths not."""
    trials = Trials(90, 88, 20)
    assert sought(trials, 100.0).low == 90
    assert trials.tried[1][0] == [0, 1]


def test_the_largest_load_that_is_carried_counts():
    """A load that is missed below one that is carried does not end the search."""

    def rooms(ways, loads):
        return np.where((loads <= 150) & (loads != 120), 0.1, -0.1)[None, :]

    search = LargestLoad(rooms, np.zeros(1, dtype=np.int64), MOST)
    search.seek(np.array([100.0, 120.0, 140.0, 200.0]))
    assert search.low == 150


def test_nothing_is_asked_of_what_is_of_no_interest():
    """Of 60, where only 90 and more count, nothing below 90 is tried."""
    trials = Trials(60)
    assert sought(trials, 90.0, 95.0, least=90).low == 0
    assert trials.tried == [([0], [90, 95])]


def test_nothing_is_carried_by_what_tells_nothing():
    """A way that is not even stable carries nothing."""
    search = LargestLoad(
        lambda ways, loads: np.full((len(ways), len(loads)), -math.inf), np.arange(2), MOST
    )
    search.seek(np.array([100.0]))
    assert (search.low, search.high) == (0, 1)


def test_better_ways_may_be_tried_afterwards():
    """What carries 1,000 to a fourth is followed by a way that carries 1,200."""
    trials = Trials(1_000, 1_200)
    search = LargestLoad(trials, np.zeros(1, dtype=np.int64), MOST)
    search.seek(np.array([900.0, 1_100.0]), 1.25)
    assert len(trials.tried) == 1
    search.go_on_with(np.array([0, 1]))
    assert search.low == pytest.approx(1_200, rel=0.01)
    assert search.ways.tolist() == [1]


def test_the_last_few_loads_are_tried_at_once():
    """Between 10 and 17 there are six, and 14 is known after them."""
    trials = Trials(14)
    assert sought(trials, 10.0, 17.0).low == 14
    assert trials.tried[1][1] == [11, 12, 13, 14, 15, 16]
    assert len(trials.tried) == 2
