"""What a regressor sees."""

from __future__ import annotations

import numpy as np

from budsim.performance.learned.features import feature_matrix, feature_names
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.steady_state import steady_state
from tests.performance.populations import population


def features(**columns: object) -> dict[str, np.ndarray]:
    """Return the features of a population by name."""
    ranks = prepare(population(**columns))  # type: ignore[arg-type]
    memory = memory_use(ranks)
    matrix = feature_matrix(ranks, memory, steady_state(ranks, memory))
    return dict(zip(feature_names(), matrix.T, strict=True))


def test_features_are_finite_but_for_unknown_years() -> None:
    """Nobody stated when the software is from."""
    found = features(concurrency=[1, 64, 4096])
    unknown = {name for name, values in found.items() if not np.isfinite(values).all()}
    assert unknown == {"stack_year", "engine_year"}


def test_loads_are_logarithms() -> None:
    """A concurrency of 64 is log 64; prompts of 1024 tokens are log 1024."""
    found = features(concurrency=64, input_tokens=1024)
    assert np.isclose(found["log_concurrency"], np.log(64))
    assert np.isclose(found["log_input"], np.log(1024))


def test_shares_of_a_step_are_parts_of_it() -> None:
    """Weights, compute, cache and link are between 0 and 1, and at most 1 together."""
    found = features()
    names = [f"decode_{cause}_share" for cause in ("weights", "compute", "cache", "link")]
    parts = np.array([found[name] for name in names])
    assert (parts >= 0).all()
    assert parts.sum() <= 1.0 + 1e-6


def test_an_engine_is_told_apart_by_name() -> None:
    """VLLM's column is 1 and SGLang's 0."""
    found = features(engine="vllm")
    assert (found["engine_vllm"][0], found["engine_sglang"][0]) == (1.0, 0.0)
