"""Intervals from the residuals of cross-validation, and how often they hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from budsim.performance.candidates import Booleans, Floats
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
from budsim.performance.predictions import PERCENTILES
from budsim.performance.training.cross_validation import FEWEST_OF_PARTY, SPLITS, Validation
from budsim.performance.training.rows import Rows

# Rows of older software are not used for new parties' intervals; a date in years, our choice.
RECENT_YEAR = 2024.5

# Number of residuals that represent one party.
QUANTILES_OF_PARTY = 100

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
            stratum_name(novelty, *part): _of_stratum(rows, validation.residuals[name], at, novelty)
            for novelty, validation in validations.items()
            for part, at in parts.items()
        }

    found = {name: residuals(name) for name in (*TARGETS, "e2e", *PERCENTILES)}
    known = {
        name: spread(each, ANALYTIC_SPREADS[name])
        for name, each in found.items()
        if any(map(len, each.values()))
    }
    unknown = {name: ANALYTIC_SPREADS[name] for name in ("ttft", *PERCENTILES)}
    return {**unknown, "e2e": known["tpot"], **known}


def _of_stratum(rows: Rows, values: Floats, at: Booleans, novelty: Novelty) -> Residuals:
    if novelty is Novelty.NEW_PARTY:
        return of_strangers(rows, values, at)
    groups = rows.groups[SPLITS[novelty]]
    known = at & np.isfinite(values)
    return Residuals(values[known], groups[known])


def of_strangers(rows: Rows, values: Floats, at: Booleans) -> Residuals:
    """Return residuals that say how far off a new party may be.

    Errors differ between years of software: older rows are used only where none is newer than
    `RECENT_YEAR`.
    """
    known = at & np.isfinite(values)
    recent = known & ~(rows.names.year.to_numpy() < RECENT_YEAR)
    chosen = recent if recent.any() else known
    return evened(Residuals(values[chosen], rows.groups["party"][chosen]))


def evened(residuals: Residuals) -> Residuals:
    """Return the same number of residuals of each group, at evenly spaced quantiles.

    The next party is as likely to be like a small one as like the one with most rows.
    """
    shares = (np.arange(QUANTILES_OF_PARTY) + 0.5) / QUANTILES_OF_PARTY
    codes, rows = np.unique(residuals.groups, return_counts=True)
    kept = codes[rows >= FEWEST_OF_PARTY] if (rows >= FEWEST_OF_PARTY).any() else codes
    if not len(kept):
        return residuals
    values = [np.quantile(residuals.values[residuals.groups == code], shares) for code in kept]
    return Residuals(np.concatenate(values), np.repeat(kept, QUANTILES_OF_PARTY))


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
            known = at & np.isfinite(values)
            for own in (known & (fold == number) for number in range(COVERAGE_FOLDS)):
                other = _of_stratum(rows, values, known & ~own, novelty)
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
