"""L17 for the shipped models: five hundred drawn pairs of devices, the better never slower."""

from functools import cache
from itertools import product

import numpy as np

from budsim.performance.predictor import load_predictor
from tests.performance.populations import population
from tests.performance.test_laws import ORDERED

GRID = list(product([1, 2, 4, 8], [100, 1000, 8000], [1, 16, 64, 256]))
OUTPUT = 256
PAIRS = 500
ALMOST = 1.01
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


predictor = cache(load_predictor)


@cache
def served(device: str, engine: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tokens a device's cache holds, TTFT and TPOT of each row of the grid."""
    tp, prompts, loads = (list(column) for column in zip(*GRID, strict=True))
    table = population(
        model=MODEL,
        device=device,
        engine=engine,
        tp=tp,
        input_tokens=prompts,
        output_tokens=OUTPUT,
        concurrency=loads,
    )
    memory, predictions = predictor().predict(table)
    service = predictions.service
    return memory.kv_capacity_tokens, service.ttft_s, service.tpot_s


def test_no_drawn_pair_is_worse_by_more_than_one_per_cent() -> None:
    """Where all requests fit into both, the device at least as good in every figure is as fast."""
    rng = np.random.default_rng(17)
    needed = np.array([load * (prompt + OUTPUT) for _, prompt, load in GRID])
    for pair in rng.integers(0, len(ORDERED), PAIRS).tolist():
        for engine in ("vllm", "sglang"):
            (room, *before), (more, *after) = (served(name, engine) for name in ORDERED[pair])
            fits = (room >= needed) & (more >= needed)
            for one, other in zip(before, after, strict=True):
                worst = np.max((other / one)[fits], initial=0.0)
                assert worst <= ALMOST, (ORDERED[pair], engine, worst)
