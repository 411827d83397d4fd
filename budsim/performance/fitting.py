"""Fits the analytic model's few constants to measurements: a bounded, seedless simplex search over mean absolute log error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Floats
from budsim.performance.efficiency import CONSTANTS, Constants
from budsim.performance.measurements import Measurements
from budsim.performance.memory import memory_use
from budsim.performance.roofline import prepare
from budsim.performance.scheduler import Modelled, steady_state

LARGEST_SHARE = 0.97
"""No share of a peak may be fitted beyond this: law L2."""
STEP_PRICE = 0.002
"""Error charged per e-fold from where a constant started: rows that say nothing of it leave it alone."""
SHARES = "gemm expert_gemm bandwidth expert_bandwidth cache_bandwidth decode_attention prefill_attention link".split()


def modelled(measurements: Measurements, constants: Mapping[DeviceKind, Constants] = CONSTANTS) -> Modelled:
    """Return what the analytic model says of each measured configuration."""
    ranks = prepare(measurements.candidates, constants)
    return steady_state(ranks, memory_use(ranks))


def fit(
    measurements: Measurements,
    kind: DeviceKind,
    weights: Floats,
    *,
    evaluations: int = 600,
    progress: Callable[[float], None] = lambda _: None,
) -> Constants:
    """Return constants of ``kind`` that make the mean absolute log error of TPOT and TTFT smallest, TPOT counting double.

    ``weights`` (n,) weigh the rows; ``progress`` is told the error of each evaluation.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    start = CONSTANTS[kind]
    names = [field.name for field in fields(Constants) if getattr(start, field.name) > 0]

    def constants(point: Floats) -> Constants:
        values = {name: getattr(start, name) * float(np.exp(step)) for name, step in zip(names, point, strict=True)}
        return Constants(**{**asdict(start), **{n: min(v, LARGEST_SHARE) if n in SHARES else v for n, v in values.items()}})

    def error(point: Floats) -> float:
        service = modelled(measurements, {**CONSTANTS, kind: constants(point)})
        pairs = ((measurements.tpot_s, service.tpot_s, 2.0), (measurements.ttft_s, service.ttft_s, 1.0))
        value: float = sum(share * _mean_log_error(measured, model, weights) for measured, model, share in pairs)
        value += STEP_PRICE * float(np.abs(point).sum())
        progress(value)
        return value

    options = {"maxfev": evaluations, "xtol": 0.02, "ftol": 1e-3}
    found = minimize(error, np.zeros(len(names)), method="Powell", options=options)
    return constants(found.x)


def _mean_log_error(measured: Floats, model: Floats, weights: Floats) -> float:
    known = np.isfinite(measured) & (measured > 0)
    if not known.any():
        return 0.0
    errors = np.minimum(np.abs(np.log(measured[known] / model[known])), 2.0)
    return float(np.average(errors, weights=weights[known]))
