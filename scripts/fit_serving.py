"""Fits what kernel timings leave out, and prints the errors of physics on withheld rows.

``python scripts/fit_serving.py FOLDER_OF_MEASUREMENTS`` fits the latencies that NVIDIA's
generations share, from neutral values: once to all rows, and once without each model and each
device in turn. About half an hour on one core. ``scripts/fit_host.py`` fits what engines' hosts
add.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.measured.measurements import Measurements, read_measurements
from budsim.performance.measured.tables import read_tables
from budsim.performance.physics.constants import FITTED, PhysicsConstants
from budsim.performance.training.physics_fit import Parameter, fit, modelled
from budsim.performance.training.reports import MARK_SOURCES
from budsim.performance.training.rows import measured_times, training_rows, usable_rows

NVIDIA = tuple(key for key in FITTED.kernels if key == DeviceKind.CUDA or key.startswith("sm"))
NEUTRAL = {
    "layer_latency_s": 25e-6,
    "moe_latency_s": 30e-6,
    "prefill_latency_s": 60e-6,
    "index_latency_s": 50e-6,
}
FEWEST_ROWS = 3
EVALUATIONS = 500


def main(folder: str) -> None:
    """Print the constants fitted to all rows, then the errors of withheld groups."""
    table = usable_rows(read_tables([Path(folder)]))
    table = table[
        (table.device_type == DeviceKind.CUDA.value)
        & (table["mode"] == "serving")
        & table.source.isin(MARK_SOURCES)
    ]
    table = table.iloc[read_measurements(table.reset_index(drop=True)).rows].reset_index(drop=True)
    everything = read_measurements(table)
    names = training_rows(everything).names
    constants = fitted(everything, names)
    print({name: getattr(constants.kernels[DeviceKind.CUDA], name) for name in NEUTRAL})
    print(summary("all rows, fitted to themselves", errors(everything, constants)))
    for split in ("model", "device"):
        found = []
        for group, withheld in groups(names, "shape" if split == "model" else split):
            others = read_measurements(table[~withheld].reset_index(drop=True))
            own = read_measurements(table[withheld].reset_index(drop=True))
            found.append(errors(own, fitted(others, names[~withheld])))
            print(
                summary(
                    f"  {split} {names.model[withheld].iloc[0] if split == 'model' else group}",
                    found[-1],
                ),
                flush=True,
            )
        together = {target: np.concatenate([each[target] for each in found]) for target in found[0]}
        print(summary(f"each {split} withheld", together))


def groups(names: pd.DataFrame, column: str) -> Iterator[tuple[str, Booleans]]:
    """Yield each group of at least `FEWEST_ROWS` rows and which rows are its own."""
    for group, count in names[column].value_counts().items():
        if count >= FEWEST_ROWS:
            yield str(group), np.asarray(names[column] == group)


def fitted(measurements: Measurements, names: pd.DataFrame) -> PhysicsConstants:
    """Return the constants fitted from neutral ones.

    Each setting of a model weighs by the root of its rows. Mean TTFT of runs without a warm-up
    holds one cold start and teaches nothing.
    """
    cold = measurements.candidates.cold_start & ~measurements.median
    warm = replace(measurements, ttft_s=np.where(cold, np.nan, measurements.ttft_s))
    parameters = [Parameter(NVIDIA, name) for name in NEUTRAL]
    rows = names.groupby(["shape", "engine", "device", "precision"]).tp.transform("size")
    return fit(
        warm, parameters, 1.0 / np.sqrt(rows.to_numpy()), start=neutral(), evaluations=EVALUATIONS
    )


def neutral() -> PhysicsConstants:
    """Return the constants in use with what is fitted set to round values."""
    constants = FITTED
    own = constants.kernels[DeviceKind.CUDA]
    for name, value in NEUTRAL.items():
        constants = Parameter(NVIDIA, name).scaled(constants, value / getattr(own, name))
    return constants


def errors(measurements: Measurements, constants: PhysicsConstants) -> dict[str, Floats]:
    """Return absolute relative errors of the rows that measured each target."""
    service = modelled(measurements, constants)
    measured = measured_times(measurements, {"ttft": service.ttft_s, "tpot": service.tpot_s})
    ratios = {"tpot": service.tpot_s / measured["tpot"], "ttft": service.ttft_s / measured["ttft"]}
    return {target: np.abs(ratio[np.isfinite(ratio)] - 1.0) for target, ratio in ratios.items()}


def summary(name: str, found: dict[str, Floats]) -> str:
    """Return a line of medians and 90th percentiles."""
    parts = (
        f"{target} {len(each):5} rows, median {np.median(each):6.1%}, "
        f"p90 {np.quantile(each, 0.9):6.1%}"
        for target, each in found.items()
        if len(each)
    )
    return f"{name:40} {'   '.join(parts)}"


if __name__ == "__main__":
    main(sys.argv[1])
