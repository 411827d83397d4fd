"""How many runs wait and how long a new one takes."""

import pytest

from budsim.simulator.backlog import Backlog


def test_runs_are_counted_every_fifth_of_a_second():
    """Two readings within 0.2 s cost one query; accepted runs are added in between."""
    counts, times_s = [7, 3], [100.0, 100.125, 100.25]
    waiting = Backlog(lambda: counts.pop(0), workers=1, clock=lambda: times_s.pop(0))
    assert waiting.count() == 7
    waiting.grow(2)
    assert waiting.count() == 9
    assert waiting.count() == 3


@pytest.mark.parametrize(
    ("ahead", "workers", "minutes"), [(0, 1, 1), (19, 1, 1), (20, 1, 2), (39, 2, 1)]
)
def test_the_estimate_grows_with_the_runs_ahead(ahead: int, workers: int, minutes: int):
    """Three seconds a run until one has ended: 21 runs are 63 s, two whole minutes."""
    assert Backlog(lambda: 0, workers=workers).eta_minutes(ahead) == minutes


def test_the_estimate_learns_from_runs_that_ended():
    """One run of 633 s moves the mean from 3 s to 66 s: two minutes for the next."""
    waiting = Backlog(lambda: 0, workers=1)
    waiting.ended(633.0)
    assert waiting.eta_minutes(0) == 2
