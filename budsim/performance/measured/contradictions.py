"""Rows whose columns contradict each other, or that no server can be: why, in words."""

from __future__ import annotations

import numpy as np

from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.measured.measurements import Measurements
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare

# Weights of a row that does not state their format may have a quarter of the bits of the model's
# own: 4 of 16.
SMALLEST_FORMAT = 0.25

# Engines that keep on the host what a GPU does not hold.
OFFLOADING = frozenset({"llama.cpp"})


def why_impossible(measurements: Measurements) -> list[str]:
    """Return why no server can be as each readable row says, "" where one can.

    Weights are larger than the memory of the devices the row states, or the engine cannot divide
    the model's heads by the tensor ranks. Rows that do not state their devices are left alone, as
    are rows with a measured figure: they ran, whatever their columns say.
    """
    figures = np.stack(
        [
            measurements.ttft_s,
            measurements.tpot_s,
            measurements.e2e_s,
            measurements.tokens_per_s,
        ]
    )
    ran: Booleans = np.asarray(np.isfinite(figures).any(axis=0), dtype=bool)
    reasons = zip(ran.tolist(), _heads(measurements), _memory(measurements), strict=True)
    return ["" if measured else heads or memory for measured, heads, memory in reasons]


def _memory(measurements: Measurements) -> list[str]:
    """Return by how much the weights of each row exceed its devices, in words."""
    table = measurements.candidates
    stated = _stated(measurements, "tp") | _stated(measurements, "n_devices")
    offloads = table.by_engine([each.name in OFFLOADING for each in table.engines]) > 0
    on_cpu = table.by_device([each.kind is DeviceKind.CPU for each in table.devices]) > 0
    formats = _stated(measurements, "precision")
    least = np.where(formats, 1.0, SMALLEST_FORMAT)
    held = table.by_device([each.memory_bytes for each in table.devices])
    weights: Floats = memory_use(prepare(table)).weight_bytes * least
    wrong = stated & ~offloads & ~on_cpu & (weights > held)
    return [
        _too_large(measurements, row, weights) if wrong[row] else "" for row in range(len(held))
    ]


def _too_large(measurements: Measurements, row: int, weights: Floats) -> str:
    table = measurements.candidates
    device = table.devices[table.device[row]]
    return (
        f"n_devices: weights of {table.architectures[table.architecture[row]].model_id} take "
        f"{weights[row] / GIB:.0f} GiB on each device, and a {device.name} has "
        f"{device.memory_bytes / GIB:.0f}; expected more devices or a smaller precision"
    )


def _heads(measurements: Measurements) -> list[str]:
    """Return why an engine that serves cannot divide a row's heads, in words."""
    table, stated = measurements.candidates, _stated(measurements, "tp")
    serves = table.by_engine([_serves(each.name) for each in table.engines]) > 0
    heads = np.array(
        [max(each.attention.heads for each in model.layers) for model in table.architectures]
    )[table.architecture]
    ranks = np.maximum(table.tp // np.maximum(table.dp, 1), 1)
    wrong = stated & serves & (heads % ranks > 0)
    return [
        f"tp: {ranks[row]} ranks do not divide {heads[row]} attention heads; expected a divisor"
        if wrong[row]
        else ""
        for row in range(len(heads))
    ]


def _serves(engine: str) -> bool:
    """Return whether an engine is one of those the search starts, on any hardware."""
    return engine.partition("-")[0].partition("(")[0] in serving_engines


def _stated(measurements: Measurements, column: str) -> Booleans:
    """Return which readable rows say something in a column."""
    table = measurements.table
    if column not in table:
        return np.zeros(len(measurements), dtype=bool)
    text = table[column].astype(str).str.strip().str.lower()
    return ~text.isin(["", "nan", "none", "null"]).to_numpy()[measurements.rows]
