"""Intervals from the residuals of cross-validation, and how often they hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.learned.intervals import (
    ANALYTIC_SPREADS,
    FEWEST_OF_ENGINE,
    Novelty,
    Residuals,
    Spread,
    spread,
    stratum_ends,
    stratum_name,
)
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.training.cross_validation import SPLITS, Validation
from budsim.performance.training.rows import Rows

# Parts the groups are divided into to judge coverage.
COVERAGE_FOLDS = 10


def spreads(rows: Rows, validations: Mapping[Novelty, Validation]) -> dict[str, Spread]:
    """Return residual quantiles of each quantity by stratum.

    A kind whose TTFT was never measured has the analytic model's spread, and end-to-end latency
    then that of TPOT.
    """
    parts = rows.parts()

    def residuals(name: str) -> dict[str, Residuals]:
        return {
            stratum_name(novelty, *part): _known(
                validation.residuals[name], rows.groups[SPLITS[novelty]], at
            )
            for novelty, validation in validations.items()
            for part, at in parts.items()
        }

    found = {name: residuals(name) for name in (*TARGETS, "e2e")}
    known = {
        name: spread(each, ANALYTIC_SPREADS[name])
        for name, each in found.items()
        if any(map(len, each.values()))
    }
    return {"ttft": ANALYTIC_SPREADS["ttft"], "e2e": known["tpot"], **known}


def _known(values: Floats, groups: Integers, at: Booleans) -> Residuals:
    known = at & np.isfinite(values)
    return Residuals(values[known], groups[known])


def coverage90(rows: Rows, residuals: Mapping[str, Floats], novelty: Novelty) -> dict[str, Floats]:
    """Return, by quantity, 1.0 where a row lies in a 90 % interval of other groups' residuals.

    nan where unknown. A tenth of the groups at a time is judged by the rest of its stratum, so that
    near duplicates never decide their own interval.
    """
    groups = rows.groups[SPLITS[novelty]]
    fold = groups % COVERAGE_FOLDS
    inside = {name: np.full(len(rows), np.nan) for name in residuals}
    parts = rows.parts()
    for name, values in residuals.items():
        for (
            regime,
            engine,
        ), at in parts.items():  # an engine's part comes after the whole and overrules it
            known = at & np.isfinite(values)
            for own in (known & (fold == number) for number in range(COVERAGE_FOLDS)):
                other = Residuals(values[known & ~own], groups[known & ~own])
                if own.any() and (other.suffice(FEWEST_OF_ENGINE) if engine else len(other)):
                    low, high = stratum_ends(
                        other,
                        0.9,
                        ANALYTIC_SPREADS[name].quantiles[stratum_name(novelty, regime)][0.9],
                    )
                    inside[name][own] = (values[own] >= min(low, 0.0)) & (
                        values[own] <= max(high, 0.0)
                    )
    return inside
