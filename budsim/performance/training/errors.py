"""Figures of how far predictions were off."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.training.rows import Rows


def error_table(
    rows: Rows, residuals: Mapping[str, Floats]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return error figures by quantity: of all rows, by device and by engine."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, residual in residuals.items():
        table[name] = {"all": error_figures(residual)}
        for column in ("device", "engine"):
            for value, at in rows.names.groupby(column).indices.items():
                table[name][f"{column} {value}"] = error_figures(residual[at])
    return table


def error_figures(residuals: Floats) -> dict[str, float]:
    """Return rows, and median, mean and 90th percentile of |predicted / measured - 1|.

    ``residuals`` are log(measured / predicted), nan where unknown.
    """
    known = residuals[np.isfinite(residuals)]
    if not len(known):
        return {"rows": 0}
    errors = np.abs(np.expm1(-known))
    figures = {"median": np.median(errors), "mean": errors.mean(), "p90": np.quantile(errors, 0.9)}
    return {"rows": len(known), **{name: round(float(value), 4) for name, value in figures.items()}}
