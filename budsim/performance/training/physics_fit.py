"""Fits the analytic model's constants to measurements.

A bounded, seedless simplex search over mean absolute log error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from budsim.engine_ops.engine_profile import FirstToken
from budsim.performance.candidates import Floats
from budsim.performance.measured.measurements import Measurements
from budsim.performance.physics.attainable import KernelConstants
from budsim.performance.physics.constants import FITTED, PhysicsConstants
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.processor_kernels import ProcessorKernels
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.steady_state import Modelled, steady_state

# No share of a peak may be fitted beyond this.
LARGEST_SHARE = 0.97

# Error charged per e-fold from where a constant started: rows that say nothing of it leave it
# alone.
STEP_PRICE = 0.004

# Rows further off than a factor of e count no more: mislabelled rows must not pull.
LARGEST_ERROR = 1.0
Table = TypeVar("Table", KernelConstants[float], FirstToken, ProcessorKernels)

# Constants that are shares of a peak.
SHARES = (
    "gemm expert_gemm bandwidth expert_bandwidth cache_bandwidth decode_attention "
    "prefill_attention link"
).split()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One constant: of kinds or generations of devices, of engines, or of cores.

    ``of`` names keys of the tables of `PhysicsConstants`; several keys keep their proportions.
    """

    of: tuple[str, ...]
    name: str

    def scaled(self, constants: PhysicsConstants, factor: float) -> PhysicsConstants:
        """Return the constants with it multiplied; shares of a peak stay below it."""
        return replace(
            constants,
            kernels=self._scaled(constants.kernels, factor),
            first_token=self._scaled(constants.first_token, factor),
            processor_kernels=self._scaled(constants.processor_kernels, factor),
        )

    def _scaled(self, table: Mapping[str, Table], factor: float) -> Mapping[str, Table]:
        largest = LARGEST_SHARE if self.name in SHARES else np.inf
        changed = {
            key: replace(
                table[key], **{self.name: min(getattr(table[key], self.name) * factor, largest)}
            )
            for key in self.of
            if key in table
        }
        return {**table, **changed}


def modelled(measurements: Measurements, constants: PhysicsConstants = FITTED) -> Modelled:
    """Return what the analytic model says of each measured configuration."""
    ranks = prepare(measurements.candidates, constants)
    return steady_state(ranks, memory_use(ranks))


def fit(
    measurements: Measurements,
    parameters: Sequence[Parameter],
    weights: Floats,
    *,
    start: PhysicsConstants = FITTED,
    evaluations: int = 600,
    progress: Callable[[float], None] = lambda _: None,
) -> PhysicsConstants:
    """Return ``start`` with the parameters of the smallest mean absolute log error.

    TPOT counts double. ``weights`` (n,) weigh the rows; ``progress`` is told the error of each
    evaluation.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    def scaled(point: Floats) -> PhysicsConstants:
        """Return the start constants with each parameter scaled by the exponential of its step."""
        found = start
        for parameter, step in zip(parameters, point, strict=True):
            found = parameter.scaled(found, float(np.exp(step)))
        return found

    def error(point: Floats) -> float:
        """Return the weighted mean log error of TPOT and TTFT plus the price of the steps."""
        service = modelled(measurements, scaled(point))
        pairs = (
            (measurements.tpot_s, service.tpot_s, 2.0),
            (measurements.ttft_s, service.ttft_s, 1.0),
        )
        value: float = sum(
            share * _mean_log_error(measured, model, weights) for measured, model, share in pairs
        )
        value += STEP_PRICE * float(np.abs(point).sum())
        progress(value)
        return value

    options = {"maxfev": evaluations, "xtol": 0.02, "ftol": 1e-3}
    found = minimize(error, np.zeros(len(parameters)), method="Powell", options=options)
    return scaled(found.x)


def _mean_log_error(measured: Floats, model: Floats, weights: Floats) -> float:
    known = np.isfinite(measured) & (measured > 0)
    if not known.any():
        return 0.0
    errors = np.minimum(np.abs(np.log(measured[known] / model[known])), LARGEST_ERROR)
    return float(np.average(errors, weights=weights[known]))
