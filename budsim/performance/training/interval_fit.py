"""Intervals from the residuals of cross-validation, and how often they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.intervals import (
    ANALYTIC_SPREADS,
    COVERAGES,
    FEWEST_OF_ENGINE,
    MIDDLE,
    Novelty,
    Regime,
    Residuals,
    Spread,
    spread,
    stratum_name,
)
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.learned.scatter import even, mean_of
from budsim.performance.predictions import PERCENTILES
from budsim.performance.training.cross_validation import (
    SPLITS,
    Validation,
    e2e_residuals,
    percentile_residuals,
)
from budsim.performance.training.rows import Rows
from budsim.performance.training.strangers import Scattered, middle_of, of_strangers, scatter_of

# Parts the groups are divided into to judge coverage.
COVERAGE_FOLDS = 10


def spreads(rows: Rows, validations: Mapping[Novelty, Validation]) -> dict[str, Spread]:
    """Return residual quantiles of each quantity by stratum.

    A kind whose TTFT was never measured has the analytic model's spread, and end-to-end latency
    then that of TPOT.
    """
    parts = rows.parts()

    def residuals(name: str) -> dict[str, Residuals]:
        """Return the residuals of one quantity by stratum."""
        return {
            stratum_name(novelty, *part): _of_stratum(
                rows, name, validation.residuals, at, novelty
            ).residuals
            for novelty, validation in validations.items()
            for part, at in parts.items()
            if _has_own_quantiles(novelty, part[1])
        }

    strange = validations[Novelty.NEW_PARTY].residuals
    serving = rows.regimes()[Regime.SERVING]
    found = {name: residuals(name) for name in (*TARGETS, "e2e", *PERCENTILES)}
    known = {
        name: replace(
            _with_middles(spread(each, ANALYTIC_SPREADS[name]), each),
            scatter=scatter_of(rows, name, strange, serving),
        )
        for name, each in found.items()
        if any(map(len, each.values()))
    }
    unknown = {name: ANALYTIC_SPREADS[name] for name in ("ttft", *PERCENTILES)}
    every = {**unknown, "e2e": known["tpot"], **known}
    return {name: _at_least_as_wide(each, every[mean_of(name)]) for name, each in every.items()}


def physics_alone(rows: Rows) -> dict[str, Floats]:
    """Return log(measured / predicted) of every quantity without any correction."""
    nothing = {target: np.zeros(len(rows)) for target in TARGETS}
    return {
        **{target: rows.log_ratio(target) for target in TARGETS},
        "e2e": e2e_residuals(rows, nothing),
        **percentile_residuals(rows, nothing),
    }


def _with_middles(made: Spread, residuals: Mapping[str, Residuals]) -> Spread:
    """Return the spread with the medians of strangers, whom no regressor corrects."""
    middles = {
        name: (middle_of(each),) * 2
        for name, each in residuals.items()
        if name.startswith(Novelty.NEW_PARTY) and len(each)
    }
    quantiles = {name: {**made.quantiles[name], MIDDLE: both} for name, both in middles.items()}
    return replace(made, quantiles={**made.quantiles, **quantiles})


def _at_least_as_wide(percentile: Spread, mean: Spread) -> Spread:
    """Return the spread of a percentile, for strangers at least as wide as that of its mean.

    Fewer parties measured percentiles, and their rows agree by chance.
    """
    if percentile is mean:
        return percentile

    def wider(name: str, coverage: float) -> tuple[float, float]:
        (low, high), (least, most) = (each.quantiles[name][coverage] for each in (percentile, mean))
        return min(low, least), max(high, most)

    strange = [name for name in percentile.quantiles if name.startswith(Novelty.NEW_PARTY)]
    quantiles = {
        name: {**percentile.quantiles[name], **{c: wider(name, c) for c in COVERAGES}}
        for name in strange
    }
    return replace(percentile, quantiles={**percentile.quantiles, **quantiles})


def _has_own_quantiles(novelty: Novelty, engine: str) -> bool:
    """Return whether the rows of an engine (or "" of all) have quantiles of their own.

    Not for strangers: ranges by engine held no more of withheld parties' rows and were wider.
    """
    return not engine or novelty is not Novelty.NEW_PARTY


def _of_stratum(
    rows: Rows, name: str, residuals: Mapping[str, Floats], at: Booleans, novelty: Novelty
) -> Scattered:
    if novelty is Novelty.NEW_PARTY:
        return of_strangers(rows, name, residuals, at)
    values, groups = residuals[name], rows.groups[SPLITS[novelty]]
    known = at & np.isfinite(values)
    return Scattered(residuals=Residuals(values[known], groups[known]), scatter=even(name))


def coverage90(rows: Rows, residuals: Mapping[str, Floats], novelty: Novelty) -> dict[str, Floats]:
    """Return, by quantity, 1.0 where a row lies in a 90 % interval of other groups' residuals.

    It is nan where the row's value is unknown. The intervals for each tenth of the groups come from
    the other nine tenths of the stratum, so that near duplicates never decide their own interval.
    """
    groups = rows.groups[SPLITS[novelty]]
    fold = groups % COVERAGE_FOLDS
    inside = {name: np.full(len(rows), np.nan) for name in residuals}
    parts = rows.parts()
    for name, values in residuals.items():
        # The part of an engine comes after the whole regime, and replaces its result.
        for (regime, engine), at in parts.items():
            if not _has_own_quantiles(novelty, engine):
                continue
            known = at & np.isfinite(values)
            usual = ANALYTIC_SPREADS[name].quantiles[stratum_name(novelty, regime)][0.9]
            for own in (known & (fold == number) for number in range(COVERAGE_FOLDS)):
                found = _of_stratum(rows, name, residuals, known & ~own, novelty)
                other = found.residuals
                if own.any() and (other.suffice(FEWEST_OF_ENGINE) if engine else len(other)):
                    low, high = found.ends(rows.features[own], 0.9, usual)
                    inside[name][own] = (values[own] >= low) & (values[own] <= high)
    return inside
