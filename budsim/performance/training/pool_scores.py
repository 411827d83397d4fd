"""Measured rows of disaggregated deployments with predictions beside them, to be scored."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from budsim.performance.candidates import Floats
from budsim.performance.learned.pool_correction import load_pools
from budsim.performance.measured.pool_columns import MODE
from budsim.performance.measured.pool_measurements import PoolMeasurements, read_pools
from budsim.performance.measured.pool_predictions import predict_pools
from budsim.performance.predictor import Predictor, trained_folder

# What such rows are called among the modes of other rows.
DISAGGREGATED: Final = "disaggregated"

# Columns in which each quantity was measured, the first that is not blank.
_MEASURED: Final = {
    "ttft_ms": ("ttft_ms_mean", "ttft_ms_p50"),
    "tpot_ms": ("tpot_ms_mean", "tpot_ms_p50"),
    "e2e_ms": ("e2e_latency_ms", "e2e_ms_p50"),
    "output_tokens_per_s": ("output_tokens_per_s_total",),
}


def is_disaggregated(table: pd.DataFrame) -> pd.Series:
    """Return which rows of a table are of disaggregated deployments."""
    if "mode" not in table:
        return pd.Series(False, index=table.index)
    return table["mode"] == MODE


def judged_pools(table: pd.DataFrame, predictor: Predictor) -> tuple[pd.DataFrame, list[str]]:
    """Return readable rows as `budsim.performance.training.score.judge` does, and problems.

    Rows that do not state the workers of both pools are judged too: one of each is taken.
    """
    fresh = table.reset_index(drop=True)
    measurements = read_pools(fresh)
    problems = [problem for problem in measurements.problems if problem]
    if not len(measurements):
        return pd.DataFrame(), problems
    rows = fresh.iloc[measurements.rows].reset_index(drop=True)
    correction = load_pools(trained_folder()) if predictor.regressors else None
    found = predict_pools(measurements, correction)
    columns = _about(measurements, rows)
    for name, (value, low, high) in found.quantities.items():
        columns |= {
            name: _measured(rows, name),
            f"{name}_pred": value,
            f"{name}_low": low,
            f"{name}_high": high,
        }
    return pd.DataFrame(columns), problems


def _about(measurements: PoolMeasurements, rows: pd.DataFrame) -> dict[str, object]:
    """Return what rows are grouped by: the decode workers are named."""
    decode = measurements.pools.decode
    return {
        "device": [decode.devices[at].name for at in decode.device],
        "engine": [decode.engines[at].name for at in decode.engine],
        "model": [decode.architectures[at].model_id for at in decode.architecture],
        "mode": [DISAGGREGATED] * len(rows),
        "source": rows.get("source", pd.Series("", index=rows.index)).astype(str).tolist(),
        "input": decode.input_tokens,
        "output": decode.output_tokens,
    }


def _measured(rows: pd.DataFrame, name: str) -> Floats:
    found = np.full(len(rows), np.nan)
    for column in _MEASURED[name]:
        if column in rows:
            values = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=np.float64)
            found = np.where(np.isfinite(found), found, values)
    return found
