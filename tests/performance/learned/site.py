"""An invented site, slower than the shipped predictions."""

from dataclasses import replace

import numpy as np
import pandas as pd

from budsim.performance.predictor import Predictor
from budsim.performance.training.score import predict_table
from budsim.performance.training.site_calibration import Calibrated
from tests.performance.populations import population

SLOWER = 1.5
"""The invented site is so much slower than what is shipped: power caps, an older driver."""
ROW = {
    "source": "site",
    "device_type": "cuda",
    "device_name": "H100-SXM",
    "engine": "vllm",
    "model_hf": "meta-llama/Llama-3.1-70B-Instruct",
    "n_devices": "4",
    "tp": "4",
    "precision": "fp8",
    "input_tokens": "1024",
    "output_tokens": "256",
    "mode": "serving",
    "quality": "A",
}
CREATED = "2026-01-31"


def site(
    shipped: Predictor, rows: list[dict[str, str]], factor: float = SLOWER, noise: float = 0.03
) -> pd.DataFrame:
    """Measure configurations at the invented site.

    The shipped predictions, slower by a factor, with a little noise.
    """
    table = predict_table(pd.DataFrame([{**ROW, **row} for row in rows]), shipped)
    spread = np.random.default_rng(0).lognormal(np.log(factor), noise, size=(2, len(table)))
    table["ttft_ms_mean"] = (table.pred_ttft_ms.astype(float) * spread[0]).astype(str)
    table["tpot_ms_mean"] = (table.pred_tpot_ms.astype(float) * spread[1]).astype(str)
    return table[[*ROW, "concurrency", "ttft_ms_mean", "tpot_ms_mean"]]


def sweep(*loads: int, **changes: str) -> list[dict[str, str]]:
    """Return one row for each concurrency."""
    return [{**changes, "concurrency": str(load)} for load in loads]


def at(predictor: Predictor, **changes: object) -> tuple[float, float]:
    """Return predicted TTFT and TPOT of a candidate like the measured ones, in seconds."""
    defaults = {"tp": 4, "concurrency": 16, "input_tokens": 1024, "output_tokens": 256}
    service = predictor.predict(population(**{**defaults, **changes}))[1].service
    return float(service.ttft_s[0]), float(service.tpot_s[0])


def corrected(shipped: Predictor, found: Calibrated, **changes: object) -> np.ndarray:
    """Return by what factor a calibration changes TTFT and TPOT."""
    own = replace(shipped, calibration=found.calibration)
    return np.array(at(own, **changes)) / np.array(at(shipped, **changes))
