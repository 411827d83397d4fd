"""One ordinary measured row, and rows that differ from it."""

from __future__ import annotations

import pandas as pd

from budsim.performance.measured.measurements import Measurements, read_measurements

ROW = {
    "source": "own",
    "device_type": "cuda",
    "device_name": "H100-SXM",
    "n_devices": "8",
    "tp": "8",
    "engine": "vllm",
    "model_hf": "meta-llama/Llama-3.1-70B-Instruct",
    "precision": "fp8",
    "input_tokens": "1000",
    "output_tokens": "100",
    "concurrency": "16",
    "mode": "serving",
    "quality": "A",
}


def read(*changes: dict[str, str]) -> Measurements:
    """Read one row per dict of changes to an ordinary one."""
    return read_measurements(pd.DataFrame([{**ROW, **change} for change in changes]).fillna(""))
