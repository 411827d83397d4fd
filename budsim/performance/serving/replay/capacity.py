"""The rate one replica carries in the long run."""

from __future__ import annotations

import numpy as np

from budsim.performance.serving.arrivals import Requests, crowded
from budsim.performance.serving.replay.runs import Replica, run
from budsim.performance.serving.replay.summary import throughput

# Requests in flight while the largest rate is measured, relative to the places there are.
CROWD = 1.2
# Bounds of their number.
LEAST_CROWD, MOST_CROWD = 16, 4_096


def largest_stable_rate(replica: Replica, requests: Requests) -> float:
    """Return the requests per second one replica carries in the long run.

    It is the throughput with more requests in flight than there are places: what the engine does
    when it never runs out of work.
    """
    places = replica.places(float(np.mean(requests.prompt_tokens + requests.output_tokens / 2.0)))
    crowd = int(np.clip(np.ceil(CROWD * places), LEAST_CROWD, MOST_CROWD))
    return sum(throughput(each) for each in run(replica, crowded(requests, crowd)))
