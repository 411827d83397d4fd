"""Rows whose columns contradict each other, or that no server can be: why, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.measured.measurements import BLANKS, Measurements
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare

# Weights of a row that does not state their format may have a quarter of the bits of the model's
# own: 4 of 16.
SMALLEST_FORMAT = 0.25

# Engines that keep on the host what a GPU does not hold.
OFFLOADING = frozenset({"llama.cpp"})


def why_impossible(measurements: Measurements) -> list[str]:
    """Return why no server can be as each readable row says, "" where one can.

    Columns contradict each other, weights are larger than the memory of the stated devices, or the
    engine cannot divide the model's heads by the tensor ranks. Rows that do not state their devices
    are left alone, as are rows with a measured figure: they ran, whatever their columns say.
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
    kinds = (_devices, _hardware, _lengths, _heads, _memory)
    reasons = zip(*(each(measurements) for each in kinds), strict=True)
    return [
        "" if measured else next(filter(None, told), "")
        for measured, told in zip(ran.tolist(), reasons, strict=True)
    ]


def _devices(measurements: Measurements) -> list[str]:
    """Return why the layout of a row needs more devices than it states, in words."""
    table, count = measurements.candidates, _numbers(measurements, "n_devices")
    processors = table.by_device([each.kind is DeviceKind.CPU for each in table.devices]) > 0
    # Attention ranks of a MoE model are tensor ranks too, and processes of a processor share it.
    used = table.tp * table.pp * np.where(processors, 1.0, measurements.replicas)
    return [
        f"n_devices: {count[row]:g} do not hold the {used[row]:g} of tp, pp and dp; expected as "
        "many or more"
        if used[row] > count[row]
        else ""
        for row in range(len(used))
    ]


def _hardware(measurements: Measurements) -> list[str]:
    """Return why a row's kind of device or its cores are not those of the device, in words."""
    table, kinds = measurements.candidates, _texts(measurements, "device_type")
    cores, found = _stated(measurements, "cores"), []
    for row, kind in enumerate(kinds):
        device = table.devices[table.device[row]]
        if kind in set(DeviceKind) and kind != device.kind:
            found.append(f"device_type: {kind} of {device.name}; expected {device.kind}")
        elif cores[row] and device.kind is not DeviceKind.CPU:
            found.append(f"cores: given for {device.name}; expected a processor")
        else:
            found.append("")
    return found


def _lengths(measurements: Measurements) -> list[str]:
    """Return why a model cannot read or write as many tokens as a row states, in words."""
    table, prompts = measurements.candidates, _numbers(measurements, "input_tokens")
    outputs, found = _numbers(measurements, "output_tokens"), []
    for row, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        model = table.architectures[table.architecture[row]]
        written = 0.0 if model.is_embedding else output
        if prompt + written > model.max_context_tokens:
            most = f"input_tokens + output_tokens of at most {model.max_context_tokens}"
            found.append(
                f"input_tokens: {prompt:g} + {written:g} exceed the context; expected {most}"
            )
        elif model.is_embedding and output > 1:
            told = f"output_tokens: {output:g} of {model.model_id}, which generates none"
            found.append(f"{told}; expected blank or 0")
        else:
            found.append("")
    return found


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
    return np.array([text != "" for text in _texts(measurements, column)], dtype=bool)


def _numbers(measurements: Measurements, column: str) -> Floats:
    """Return the numbers of a column, nan where a row states none: nan exceeds nothing."""
    texts = pd.Series(_texts(measurements, column), dtype=object)
    return pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)


def _texts(measurements: Measurements, column: str) -> list[str]:
    """Return what readable rows say in a column, in lower case, "" where nothing."""
    table = measurements.table
    if column not in table:
        return [""] * len(measurements)
    text = table[column].astype(str).str.strip().str.lower().to_numpy()[measurements.rows]
    return ["" if each in BLANKS else each for each in text]
