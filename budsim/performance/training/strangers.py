"""How far off the servers of somebody unknown may be, from the residuals of those who measured.

Every party counts the same: the next one is as likely to be like a small one as like the one with
most rows. What residuals scatter by is learned from differences *within* parties, so that it cannot
stand for the name of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.learned.features import Matrix
from budsim.performance.learned.intervals import (
    FEWEST_GROUPS,
    FEWEST_RESIDUALS,
    Residuals,
    stratum_ends,
)
from budsim.performance.learned.scatter import SCATTER_BY, Scatter, even, mean_of
from budsim.performance.training.cross_validation import FEWEST_OF_PARTY
from budsim.performance.training.rows import Rows

# Rows of older software are not used for new parties' intervals; a date in years, our choice.
RECENT_YEAR = 2024.5

# Number of residuals that represent one party.
QUANTILES_OF_PARTY = 100

# Residuals below 2 % are that of rounding and repetition: their logarithm says nothing.
LEAST_RESIDUAL = 0.02

# Shares of rows between which the scatter is taken to follow a feature.
FOLLOWED = (0.05, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scattered:
    """Residuals of the usual question, and how those of others scatter."""

    residuals: Residuals
    scatter: Scatter

    def ends(
        self, features: Matrix, coverage: float, analytic: tuple[float, float]
    ) -> tuple[Floats, Floats]:
        """Return the ends (n,) of log(measured / predicted) for each row of a feature matrix.

        The prediction itself lies between them. With too few parties they are no closer than the
        ``analytic`` ones.
        """
        low, high = stratum_ends(self.residuals, coverage, analytic)
        factors = self.scatter.factors(features)
        return min(low, 0.0) * factors, max(high, 0.0) * factors

    def middle(self, features: Matrix) -> Floats:
        """Return the median (n,) of log(measured / predicted) for each row."""
        return middle_of(self.residuals) * self.scatter.factors(features)


def middle_of(residuals: Residuals) -> float:
    """Return the median residual, 0 where too few parties tell it."""
    return float(np.median(residuals.values)) if residuals.suffice(FEWEST_RESIDUALS) else 0.0


def of_strangers(rows: Rows, name: str, residuals: Mapping[str, Floats], at: Booleans) -> Scattered:
    """Return what the rows ``at`` say of one quantity on servers of somebody unknown.

    ``residuals`` are log(measured / predicted) by quantity, arrays of shape (n,).
    """
    scatter = scatter_of(rows, name, residuals, at)
    values = residuals[name] / scatter.factors(rows.features)
    chosen = _recent(rows, at & np.isfinite(values))
    return Scattered(
        residuals=evened(Residuals(values[chosen], rows.groups["party"][chosen])), scatter=scatter
    )


def scatter_of(rows: Rows, name: str, residuals: Mapping[str, Floats], at: Booleans) -> Scatter:
    """Return what the residuals of a quantity scatter by, even where too few parties tell it.

    Percentiles scatter as their means do, which more parties measured. Static batches have no
    clients who could queue.
    """
    mean = mean_of(name)
    scatter = even(mean)
    known = at & np.isfinite(residuals[mean])
    parties, counts = np.unique(rows.groups["party"][known], return_counts=True)
    large = parties[counts >= FEWEST_OF_PARTY]
    if len(large) < FEWEST_GROUPS or rows.names.static[known].any():
        return scatter
    known &= np.isin(rows.groups["party"], large)
    values = scatter.values(rows.features)
    groups = rows.groups["party"][known]
    spread = evened(Residuals(values[known], groups)).values
    low, high = (float(end) for end in np.quantile(spread, FOLLOWED))
    values = np.clip(values[known], low, high)
    sizes = np.log(np.maximum(np.abs(residuals[mean][known]), LEAST_RESIDUAL))
    return Scatter(
        feature=SCATTER_BY[mean],
        slope=_slope(values, sizes, groups),
        usual=float(np.mean(np.clip(spread, low, high))),
        low=low,
        high=high,
    )


def _slope(values: Floats, sizes: Floats, groups: Integers) -> float:
    """Return the slope of sizes over values within groups, each group counting the same."""
    codes = np.unique(groups, return_inverse=True)[1]
    weights = 1.0 / np.bincount(codes)
    x, y = (each - (np.bincount(codes, each) * weights)[codes] for each in (values, sizes))
    each = weights[codes]
    across = float(np.sum(each * x * x))
    return float(np.sum(each * x * y)) / across if across > 0.0 else 0.0


def _recent(rows: Rows, known: Booleans) -> Booleans:
    """Return the rows of recent software, and all where fewer than three parties have those.

    Errors differ between years of software, and more between parties.
    """
    recent = known & ~(rows.names.year.to_numpy() < RECENT_YEAR)
    counts = np.bincount(rows.groups["party"][recent])
    return recent if (counts >= FEWEST_OF_PARTY).sum() >= FEWEST_GROUPS else known


def evened(residuals: Residuals) -> Residuals:
    """Return the same number of residuals of each group, at evenly spaced quantiles.

    Groups of fewer than `FEWEST_OF_PARTY` rows are left out where there are larger ones.
    """
    shares = (np.arange(QUANTILES_OF_PARTY) + 0.5) / QUANTILES_OF_PARTY
    codes, rows = np.unique(residuals.groups, return_counts=True)
    kept = codes[rows >= FEWEST_OF_PARTY] if (rows >= FEWEST_OF_PARTY).any() else codes
    if not len(kept):
        return residuals
    values = [np.quantile(residuals.values[residuals.groups == code], shares) for code in kept]
    return Residuals(np.concatenate(values), np.repeat(kept, QUANTILES_OF_PARTY))
