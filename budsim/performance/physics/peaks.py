"""The FLOP/s a device can reach at best, by engine and format of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from budsim.commons.precision import Precision
from budsim.engine_ops.profiles import profiles
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.performance.candidates import Candidates, Floats
from budsim.performance.physics.constants import FITTED, PhysicsConstants
from budsim.performance.physics.processor_kernels import (
    BLOCK_ENGINES,
    ProcessorKernels,
    processor_kernels,
)

# Formats an engine only stores, with the one it multiplies in, by kind of device.
MULTIPLIED_IN: Mapping[tuple[str, DeviceKind, Precision], Precision] = {
    (name, kind, stored): computed
    for name, profile in profiles().items()
    for kind, stored, computed in profile.multiplied_in
}


def matrix_peak(
    engine: str, device: Device, precision: Precision, constants: PhysicsConstants = FITTED
) -> float:
    """Return the FLOP/s at which ``engine`` multiplies weights stored as ``precision`` at best.

    That of the whole device: the data sheet's dense peak, or for block formats of an engine with
    kernels of its own what their instructions do.
    """
    kernels = _own_kernels(engine, device, constants)
    if kernels and kernels.operations(precision):
        return kernels.operations(precision) * device.compute_units * device.clock_hz
    if device.kind is DeviceKind.CUDA and not device.runs_natively(precision):
        return device.peak_flops_per_s(precision)
    return device.peak_flops_per_s(MULTIPLIED_IN.get((engine, device.kind, precision), precision))


def attention_peak(engine: str, device: Device, constants: PhysicsConstants = FITTED) -> float:
    """Return the FLOP/s of attention over a 16 bit cache at best, of the whole device."""
    kernels = _own_kernels(engine, device, constants)
    if kernels:
        return kernels.attention * device.compute_units * device.clock_hz
    return device.peak_flops_per_s(Precision.BF16)


def peaks(candidates: Candidates, constants: PhysicsConstants = FITTED) -> tuple[Floats, Floats]:
    """Return the peaks of every engine on every device of a population, FLOP/s.

    Returns
    -------
    matrices : float array, shape (engines, devices, formats)
        Formats in the order of `Precision`.
    attention : float array, shape (engines, devices)
    """
    engines = tuple(engine.name for engine in candidates.engines)
    if constants is FITTED:
        return _fitted_peaks(engines, candidates.devices)
    return _peaks(engines, candidates.devices, constants)


@lru_cache(maxsize=64)
def _fitted_peaks(engines: tuple[str, ...], devices: tuple[Device, ...]) -> tuple[Floats, Floats]:
    return _peaks(engines, devices, FITTED)


def _peaks(
    engines: tuple[str, ...], devices: tuple[Device, ...], constants: PhysicsConstants
) -> tuple[Floats, Floats]:
    matrices = [
        [[matrix_peak(engine, device, each, constants) for each in Precision] for device in devices]
        for engine in engines
    ]
    attention = [
        [attention_peak(engine, device, constants) for device in devices] for engine in engines
    ]
    return np.array(matrices), np.array(attention)


def _own_kernels(
    engine: str, device: Device, constants: PhysicsConstants
) -> ProcessorKernels | None:
    if engine not in BLOCK_ENGINES or not device.clock_hz:
        return None
    return processor_kernels(constants.processor_kernels, device)
