"""An invented benchmark that tests train on: physics, slower by a known factor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.predictor import AnalyticPredictor, Predictor, load_predictor
from budsim.performance.training.fit import Trained, train
from budsim.performance.training.score import predict_table
from budsim.performance.training.site_calibration import Calibrated, calibrate
from tests.performance.learned.site import CREATED, site, sweep
from tests.performance.populations import TREES, TRUE_FACTOR


@pytest.fixture(scope="session")
def benchmark() -> pd.DataFrame:
    """Invent a benchmark: the analytic model's own answers, slower by a factor.

    The factor is known, with 2 % noise.
    """
    rows = [
        {
            "source": "invented",
            "device_type": "cuda",
            "device_name": device,
            "tp": "8",
            "n_devices": "8",
            "engine": engine,
            "model_hf": model,
            "precision": "fp8",
            "input_tokens": str(prompt),
            "output_tokens": "256",
            "concurrency": str(load),
            "mode": "serving",
            "quality": "A",
        }
        for device in ("H100-SXM", "H200-SXM")
        for engine in ("vllm", "sglang")
        for model in ("meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-235B-A22B")
        for prompt in (256, 2048)
        for load in (1, 4, 16, 32, 64)
    ]
    table = predict_table(pd.DataFrame(rows), AnalyticPredictor())
    noise = np.random.default_rng(0).lognormal(np.log(TRUE_FACTOR), 0.02, size=(2, len(table)))
    table["ttft_ms_mean"] = (table["pred_ttft_ms"].astype(float) * noise[0]).astype(str)
    table["tpot_ms_mean"] = (table["pred_tpot_ms"].astype(float) * noise[1]).astype(str)
    return table


@pytest.fixture(scope="session")
def artefacts(benchmark: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with models trained on the invented benchmark."""
    folder = tmp_path_factory.mktemp("models")
    train(benchmark, folder, rounds=TREES)
    return folder


@pytest.fixture(scope="session")
def trained(
    benchmark: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> dict[DeviceKind, Trained]:
    """Train a few trees on the invented benchmark."""
    return train(benchmark, tmp_path_factory.mktemp("models"), rounds=10)


@pytest.fixture(scope="session")
def shipped() -> Predictor:
    """Return the shipped models."""
    return load_predictor()


@pytest.fixture(scope="session")
def few(shipped: Predictor) -> Calibrated:
    """Calibrate on three loads of one configuration."""
    return calibrate(site(shipped, sweep(4, 16, 64)), shipped, created=CREATED)
