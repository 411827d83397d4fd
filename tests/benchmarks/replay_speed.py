"""How fast the replay is, in processor time of one core.

``python -m tests.benchmarks.replay_speed``.

The three figures have marks; the exit status is 1 when one is missed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.arrivals import draw_requests
from budsim.performance.serving.replay import replay
from budsim.performance.serving.replay.replay import replicas_of
from budsim.performance.serving.replay.runs import run
from budsim.performance.traffic import Traffic
from tests.performance.populations import population

REQUESTS, CANDIDATES, REPEATS = 100_000, 50, 5
LEAST_REQUESTS_PER_S = 300_000
MOST_CANDIDATES_S, MOST_COLD_S = 0.150, 1.0
SMALL = "meta-llama/Llama-3.1-8B-Instruct"
LOADS = {
    "closed loop": Traffic.closed(concurrency=64, input_tokens=1000, output_tokens=200),
    "at a rate": Traffic.at_rate(requests_per_s=8.0, input_tokens=1000, output_tokens=200),
}
COLD = """
import time
from budsim.performance.serving.replay import native
started = time.perf_counter()
native.kernel()
print(time.perf_counter() - started)
"""


def main() -> int:
    """Print one line a figure; 1 when a mark is missed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    missed = [_requests_per_s(name, traffic) for name, traffic in LOADS.items()]
    missed += [_candidates(name, traffic) for name, traffic in LOADS.items()]
    return int(any([*missed, _cold()]))


def _requests_per_s(name: str, traffic: Traffic) -> bool:
    table = population(model=SMALL, tp=[1])
    replica = replicas_of(table, memory_use(prepare(table)))[0]
    drawn = draw_requests(replace(traffic, requests=REQUESTS))
    rate = len(drawn) / _least_s(lambda: run(replica, drawn))
    print(f"{name + ', requests a second':<40}{rate:12,.0f}    (at least {LEAST_REQUESTS_PER_S:,})")
    return rate < LEAST_REQUESTS_PER_S


def _candidates(name: str, traffic: Traffic) -> bool:
    sizes = [(1, 2, 4, 8)[row % 4] for row in range(CANDIDATES)]
    table = population(model=SMALL, tp=sizes, max_num_seqs=[64 + row for row in range(CANDIDATES)])
    memory = memory_use(prepare(table))
    seconds = _least_s(lambda: replay(table, memory, traffic))
    title = f"{name}, {CANDIDATES} candidates with tables"
    print(f"{title:<40}{seconds * 1e3:12,.0f} ms (at most {MOST_CANDIDATES_S * 1e3:,.0f} ms)")
    return seconds > MOST_CANDIDATES_S


def _cold() -> bool:
    """Load the kernel in a new process, compiled before."""
    command = [sys.executable, "-c", COLD]
    runs = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(REPEATS)
    ]
    print(f"{'loading the compiled kernel':<40}{min(runs) * 1e3:12,.1f} ms (at most 1,000 ms)")
    return min(runs) > MOST_COLD_S


def _least_s(call: Callable[[], object]) -> float:
    """Return the least processor time of several calls: other work does not show in it."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
