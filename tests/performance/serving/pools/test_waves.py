"""Who waits for a worker, and who for a place."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.performance.serving.pools.waves import placed, prefilled


def test_prompts_queue_at_each_worker() -> None:
    """Two workers, prompts of 2 s at 0, 0, 1 and 5 s: the third waits until 2 s."""
    done, free = prefilled(np.array([0.0, 0.0, 1.0, 5.0]), np.full(4, 2.0), np.zeros(2))
    assert done.tolist() == pytest.approx([2.0, 2.0, 4.0, 7.0])
    assert free.tolist() == pytest.approx([4.0, 7.0])


def test_a_worker_that_is_busy_begins_when_it_is_free() -> None:
    """Busy until 3 s: a prompt of 2 s that comes at once is read at 5 s."""
    done, _ = prefilled(np.array([0.0]), np.array([2.0]), np.array([3.0]))
    assert done.tolist() == pytest.approx([5.0])


def test_requests_take_the_places_that_are_free_first() -> None:
    """Two places, each decodes for 10 s: the third starts when the first has ended."""
    start, held = placed(np.array([0.0, 1.0, 2.0]), np.full(3, 10.0), np.zeros(2))
    assert start.tolist() == pytest.approx([0.0, 1.0, 10.0])
    assert held.tolist() == pytest.approx([11.0, 20.0])
