"""Where the time of a request goes between two pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.predictions import BOUNDS
from budsim.performance.serving.pools.causes import pool_causes
from budsim.performance.serving.pools.queues import steady_pools
from tests.performance.serving.pools.test_queues import pools


def test_causes_add_up_to_the_latency() -> None:
    """Nothing of a request's time is left out or counted twice."""
    both = pools(load=64.0)
    served = steady_pools(both)
    spent = pool_causes(both, served)
    assert spent.sum(axis=0) == pytest.approx(served.e2e_s(np.array([200.0])), rel=1e-6)
    assert (spent >= 0).all()


def test_a_slow_link_is_named() -> None:
    """A cache of 524 MB over 1 MB/s takes longer than everything else."""
    slow = pools(load=2.0)
    slow = replace(slow, link_bytes_per_s=np.array([1e6]))
    spent = pool_causes(slow, steady_pools(slow))
    assert BOUNDS[int(spent[:, 0].argmax())] == "link"
