"""How fast the search is with the shipped regressors, in CPU time of one core.

``python -m tests.benchmarks.speed``.
"""

import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from budsim.performance.predictor import Predictor, load_predictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.question import Question
from tests.benchmarks.spaces import (
    A100,
    GAUDI,
    H100,
    L40S,
    MI300X,
    XEON,
    question,
    space_of,
    targets,
)

SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"
CANDIDATES = 4096
LEAST_PER_S = 20_000
MOST_BYTES = 1e9
REPEATS = 3


def main() -> int:
    """Print one line per figure; 1 when a mark is missed."""
    predictor = load_predictor()
    rate = _candidates_per_s(predictor)
    print(f"{'candidates a second':<36}{rate:10,.0f}     (at least {LEAST_PER_S:,})")
    late = [_report(name, asked, limit, predictor) for name, asked, limit in _questions()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{'peak memory of all of it':<36}{peak / 1e6:10,.0f} MB"
        f"  (at most {MOST_BYTES / 1e6:,.0f} MB)"
    )
    return int(rate < LEAST_PER_S or any(late) or peak > MOST_BYTES)


def _questions() -> list[tuple[str, Question, float]]:
    types = (H100, A100, L40S, GAUDI, MI300X, XEON)
    load = {"model": SEVENTY, "targets": targets(2.0, 25.0)}
    return [
        ("4 nodes, 32 GPUs of one type", question(*[H100] * 4, load=(2048, 256, 256), **load), 1.0),
        (
            "4 nodes, 32 GPUs of four types",
            question(H100, A100, L40S, MI300X, load=(2048, 256, 256), **load),
            1.0,
        ),
        ("60 nodes of six types", question(*types * 10, load=(2048, 256, 1200), **load), 5.0),
        (
            "1,000 nodes of six types",
            question(*(types * 167)[:1000], load=(2048, 256, 20_000), **load),
            5.0,
        ),
    ]


def _report(name: str, asked: Question, limit_s: float, predictor: Predictor) -> bool:
    seconds = _least_cpu_s(lambda: answer(asked, predictor))
    print(f"{name:<36}{seconds:10.2f} s   (at most {limit_s:.0f} s)")
    return seconds > limit_s


def _candidates_per_s(predictor: Predictor) -> float:
    space = space_of("8B, six types, 500 users")
    drawn = np.random.default_rng(0).integers(0, space.sizes, size=(CANDIDATES, len(space.sizes)))
    genomes = space.repair(drawn)
    return CANDIDATES / _least_cpu_s(lambda: space.score(genomes, predictor))


def _least_cpu_s(work: Callable[[], object]) -> float:
    """Return the least CPU time of a few runs, seconds: others share the machine."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
