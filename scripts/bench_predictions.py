"""Time of 1,000 candidates predicted as the search does, of the trees, and of loading artefacts.

Beside it stands the time of the usual way. Times are processor seconds of one core, the least of
several runs: other work on the machine does not show in them.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from xgboost import XGBRegressor

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Candidates, rows_of
from budsim.performance.learned.features import Matrix, feature_matrix, feature_names
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictor import CHECKOUT, AnalyticPredictor, load_predictor
from budsim.performance.serving.steady_state import steady_state

CANDIDATES = 1_000
NAIVE_CANDIDATES = 20
ENGINE_YEAR = 2026.5
RUNS = 9
BUDGETS_MS = {"predicted as the search does": 50.0, "loading all artefacts": 300.0}
LARGEST_ARTEFACTS_MB = 20.0


def main() -> int:
    """Print one line per way; 1 when a budget is exceeded."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    predictor, candidates = load_predictor(), population()
    boosters, seen = predictor.regressors[DeviceKind.CUDA].boosters.values(), features(candidates)
    times = {
        "loading all artefacts": least_s(load_predictor, runs=3),
        "physics": least_s(lambda: AnalyticPredictor().predict(candidates)),
        "predicted as the search does": least_s(lambda: predictor.predict(candidates)),
        "both targets' trees, for parties that were measured": least_s(
            lambda: [booster.inplace_predict(seen) for booster in boosters]
        ),
    }
    print(f"{CANDIDATES} candidates, processor time of one core, least of {RUNS} runs")
    over = [report(name, seconds) for name, seconds in times.items()]
    for name, seconds in naive(candidates).items():
        report(name, seconds)
    size_mb = sum(file.stat().st_size for file in CHECKOUT.rglob("*") if file.is_file()) / 1e6
    print(
        f"{'size of all artefacts':<52}{size_mb:10.1f} MB  (at most {LARGEST_ARTEFACTS_MB:.0f} MB)"
    )
    return int(any(over) or size_mb > LARGEST_ARTEFACTS_MB)


def population() -> Candidates:
    """Return candidates as a search makes them.

    One model and traffic; layouts, precisions, replicas and two engines mixed.
    """
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "device_name": rng.choice(["H100-SXM", "H200-SXM"], CANDIDATES),
            "tp": rng.choice(["1", "2", "4", "8"], CANDIDATES),
            "engine": rng.choice(["vllm", "sglang"], CANDIDATES),
            "precision": rng.choice(["bf16", "fp8"], CANDIDATES),
            "concurrency": rng.integers(1, 65, CANDIDATES).astype(str),
            "model_hf": "meta-llama/Llama-3.1-70B-Instruct",
            "input_tokens": "2048",
            "output_tokens": "512",
            "mode": "serving",
        }
    )
    years = np.full(CANDIDATES, ENGINE_YEAR)
    return replace(read_measurements(rows).candidates, stack_year=years, engine_year=years)


def features(candidates: Candidates) -> Matrix:
    """Return what the regressors see of candidates."""
    ranks = prepare(candidates)
    memory = memory_use(ranks)
    return feature_matrix(ranks, memory, steady_state(ranks, memory))


def naive(candidates: Candidates) -> dict[str, float]:
    """Return the time of `XGBRegressor.predict` on data frames.

    All candidates at once, and one by one with their physics.
    """
    models = [XGBRegressor(n_jobs=1), XGBRegressor(n_jobs=1)]
    for model, target in zip(models, ("ttft", "tpot"), strict=True):
        model.load_model(CHECKOUT / DeviceKind.CUDA.value / f"{target}.ubj")

    def predict(some: Candidates) -> None:
        frame = pd.DataFrame(features(some), columns=list(feature_names()))
        for model in models:
            model.predict(frame)

    def one_by_one() -> None:
        for row in range(NAIVE_CANDIDATES):
            predict(rows_of(candidates, np.array([row])))

    return {
        "the same by scikit-learn's API, all at once": least_s(lambda: predict(candidates)),
        "the same by scikit-learn's API, one by one (scaled)": least_s(one_by_one, runs=3)
        * CANDIDATES
        / NAIVE_CANDIDATES,
    }


def least_s(work: Callable[[], object], runs: int = RUNS) -> float:
    """Return the least processor seconds of several runs."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def report(name: str, seconds: float) -> bool:
    """Print a line; return whether it is over its budget."""
    budget = BUDGETS_MS.get(name)
    over = budget is not None and seconds * 1e3 > budget
    told = f"  (at most {budget:.0f} ms){'  OVER BUDGET' if over else ''}" if budget else ""
    print(f"{name:<52}{seconds * 1e3:10.1f} ms{told}")
    return over


if __name__ == "__main__":
    sys.exit(main())
