"""Fits the analytic model's few constants to measurements: a bounded, seedless simplex search over mean absolute log error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance import efficiency
from budsim.performance.candidates import Floats
from budsim.performance.efficiency import CONSTANTS, Constants
from budsim.performance.measurements import Measurements
from budsim.performance.memory import memory_use
from budsim.performance.roofline import prepare
from budsim.performance.scheduler import Modelled, steady_state

LARGEST_SHARE = 0.97
"""No share of a peak may be fitted beyond this: law L2."""
SHARES = "gemm expert_gemm bandwidth expert_bandwidth cache_bandwidth decode_attention prefill_attention link".split()


def modelled(measurements: Measurements) -> Modelled:
    """Return what the analytic model says of each measured configuration."""
    ranks = prepare(measurements.candidates)
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
        efficiency.CONSTANTS[kind] = constants(point)
        service = modelled(measurements)
        pairs = ((measurements.tpot_s, service.tpot_s, 2.0), (measurements.ttft_s, service.ttft_s, 1.0))
        value = sum(share * _mean_log_error(measured, model, weights) for measured, model, share in pairs)
        progress(value + 0.002 * float(np.abs(point).sum()))
        return value + 0.002 * float(np.abs(point).sum())

    try:
        found = minimize(
            error, np.zeros(len(names)), method="Powell", options={"maxfev": evaluations, "xtol": 0.02, "ftol": 1e-3}
        )
    finally:
        efficiency.CONSTANTS[kind] = start
    return constants(found.x)


def _mean_log_error(measured: Floats, model: Floats, weights: Floats) -> float:
    known = np.isfinite(measured) & (measured > 0)
    if not known.any():
        return 0.0
    errors = np.minimum(np.abs(np.log(measured[known] / model[known])), 2.0)
    return float(np.average(errors, weights=weights[known]))
