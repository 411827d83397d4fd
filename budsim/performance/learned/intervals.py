"""Conformal intervals from cross-validated residuals, by how new the question is.

Residuals of one curve, model or device err alike, so that their spread is judged by groups: an
interval holds what it promises for groups that did not make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.learned.features import Matrix
from budsim.performance.learned.scatter import Scatter
from budsim.performance.predictions import PERCENTILES, Interval, rate

# Shares of measured values an interval is to hold.
COVERAGES = (0.8, 0.9)

# The interval that holds nothing: both its ends are the median of the residuals.
MIDDLE = 0.0

# Log-width multiplier for a candidate outside the training range; chosen by us, not fitted.
OUT_OF_RANGE_FACTOR = 1.5


class Novelty(StrEnum):
    """What of a candidate the regressors never saw.

    Each has residuals of its own from a cross-validation that withheld it. A party is who measured:
    its servers, its client, its hosts. Whoever asks a question is a new party.
    """

    KNOWN = "known"
    NEW_MODEL = "new_model"
    NEW_DEVICE = "new_device"
    NEW_PARTY = "new_party"


class Regime(StrEnum):
    """How requests come: one after another, or as one static batch."""

    SERVING = "serving"
    STATIC = "static"


# Rows within a stratum share a shrinkage and residual quantiles.
STRATA = tuple((novelty, regime) for novelty in Novelty for regime in Regime)

# The stratum of parties that measured nothing, whose servers take requests as they come.
SERVED_STRANGER = STRATA.index((Novelty.NEW_PARTY, Regime.SERVING))

# A stratum with fewer residuals is no narrower than the analytic model.
FEWEST_RESIDUALS = 30

# An engine with so many residuals in a stratum has quantiles of its own there.
FEWEST_OF_ENGINE = 100

# Fewer groups say nothing of a new one.
FEWEST_GROUPS = 3

# Least number of independent values Student's distribution is taken for.
FEWEST_INDEPENDENT = 3.0

# Least share of the variance that lies between groups: a few groups agree by chance.
LEAST_ALIKE = 0.25

# Residuals are clipped here when their variance is split: one broken row must not decide.
LARGEST_RESIDUAL = 3.0

# Keeps ranks that are whole numbers from rounding away.
ROUNDING = 1e-9


def stratum_name(novelty: Novelty, regime: Regime, engine: str = "") -> str:
    """Return the stratum's name in a manifest, or that of one engine's part of it."""
    return f"{novelty}/{regime}/{engine}" if engine else f"{novelty}/{regime}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """Where candidates belong: ``stratum`` (n,) indexes `STRATA`, ``engine`` (n,) ``engines``."""

    stratum: Integers
    engines: tuple[str, ...]
    engine: Integers

    def at(self, rows: Integers) -> Strata:
        """Return those of some rows."""
        return Strata(stratum=self.stratum[rows], engines=self.engines, engine=self.engine[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Quantiles of log(measured / predicted): stratum or engine -> coverage -> (low, high).

    Of strangers' servers (`SERVED_STRANGER`) they are multiplied by the factors of ``scatter``.
    """

    quantiles: Mapping[str, Mapping[float, tuple[float, float]]]
    scatter: Scatter | None = None

    def interval(
        self,
        value: Floats,
        coverage: float,
        strata: Strata,
        in_range: Booleans,
        features: Matrix | None = None,
    ) -> Interval:
        """Return the interval around each ``value``; it always contains the value itself.

        Without ``features`` (n, k) quantiles are not multiplied by the factors of ``scatter``.
        """
        ends = self._rows(coverage, strata, features)
        ends = ends * np.where(in_range, 1.0, OUT_OF_RANGE_FACTOR)[:, None]
        return Interval(
            low=value * np.exp(np.minimum(ends[:, 0], 0.0)),
            high=value * np.exp(np.maximum(ends[:, 1], 0.0)),
        )

    def middle(self, strata: Strata, features: Matrix | None = None) -> Floats:
        """Return the median of log(measured / predicted) for each row, 0 where it is not known."""
        return self._rows(MIDDLE, strata, features)[:, 0]

    def _rows(self, coverage: float, strata: Strata, features: Matrix | None) -> Floats:
        """Return the ends of each row's residuals, shape (n, 2)."""
        table = [
            [self._ends(each, engine, coverage) for engine in strata.engines] for each in STRATA
        ]
        ends: Floats = np.array(table)[strata.stratum, strata.engine]
        if self.scatter is None or features is None:
            return ends
        factors = self.scatter.factors(features)
        return ends * np.where(strata.stratum == SERVED_STRANGER, factors, 1.0)[:, None]

    def _ends(
        self, stratum: tuple[Novelty, Regime], engine: str, coverage: float
    ) -> tuple[float, float]:
        own = self.quantiles.get(stratum_name(*stratum, engine))
        found = own or self.quantiles[stratum_name(*stratum)]
        return found.get(MIDDLE, (0.0, 0.0)) if coverage == MIDDLE else found[coverage]


@dataclass(frozen=True, slots=True)
class Residuals:
    """Log residuals (n,) of one stratum, and the code (n,) of the group withheld with each."""

    values: Floats
    groups: Integers

    def __len__(self) -> int:
        """Return the number of residuals."""
        return len(self.values)

    def suffice(self, rows: int) -> bool:
        """Return whether there are as many rows, of enough groups."""
        return len(self) >= rows and len(np.unique(self.groups)) >= FEWEST_GROUPS


def spread(residuals: Mapping[str, Residuals], analytic: Spread) -> Spread:
    """Return quantiles of log residuals by name.

    A stratum without residuals borrows all of them, as if they were of one group.
    """
    names = [stratum_name(*each) for each in STRATA]
    pooled = np.concatenate([residuals[name].values for name in names])
    borrowed = Residuals(pooled, np.zeros(len(pooled), dtype=np.int64))
    strata = {name: residuals[name] if len(residuals[name]) else borrowed for name in names}
    engines = {
        name: each
        for name, each in residuals.items()
        if name not in strata and each.suffice(FEWEST_OF_ENGINE)
    }
    usual = analytic.quantiles[names[0]]
    quantiles = {
        name: {c: stratum_ends(each, c, usual[c]) for c in COVERAGES}
        for name, each in (strata | engines).items()
    }
    return Spread(quantiles=quantiles)


def stratum_ends(
    residuals: Residuals, coverage: float, analytic: tuple[float, float]
) -> tuple[float, float]:
    """Return the ends for groups never seen.

    With too few residuals or groups they are no closer than the ``analytic`` model's own.
    """
    if residuals.suffice(FEWEST_RESIDUALS):
        return grouped_ends(residuals, coverage)
    low, high = conformal_ends(residuals.values, coverage)
    return min(low, analytic[0]), max(high, analytic[1])


def grouped_ends(residuals: Residuals, coverage: float) -> tuple[float, float]:
    """Return the ends that hold a share of ``coverage`` of the residuals of unseen groups.

    Ends for independent rows, stretched as Student's distribution is wider than the normal one
    where only as many independent values are known as rows that err alike are worth.
    """
    from scipy.special import ndtri, stdtrit  # type: ignore[import-untyped]

    count, quantile = max(independent(residuals), FEWEST_INDEPENDENT), (1.0 + coverage) / 2.0
    factor = float(stdtrit(count - 1.0, quantile) * np.sqrt(1.0 + 1.0 / count) / ndtri(quantile))
    low, high = conformal_ends(residuals.values, coverage)
    return factor * low, factor * high


def independent(residuals: Residuals) -> float:
    """Return how many independent values the residuals of two or more groups are worth.

    At most as many as there are rows. Kish's design effect (Survey Sampling, 1965), with the share
    of variance between groups estimated by analysis of variance.
    """
    code = np.unique(residuals.groups, return_inverse=True)[1]
    values, sizes = (
        np.clip(residuals.values, -LARGEST_RESIDUAL, LARGEST_RESIDUAL),
        np.bincount(code).astype(np.float64),
    )
    rows, groups = float(sizes.sum()), len(sizes)
    means, alike = np.bincount(code, values) / sizes, float((sizes**2).sum()) / rows
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (groups - 1.0)
    within = float(((values - means[code]) ** 2).sum()) / max(rows - groups, 1.0)
    usual = (rows - alike) / (groups - 1.0)
    share = (between - within) / max(between + (usual - 1.0) * within, ROUNDING)
    return rows / (1.0 + (alike - 1.0) * float(np.clip(share, LEAST_ALIKE, 1.0)))


def conformal_ends(residuals: Floats, coverage: float) -> tuple[float, float]:
    """Return the residuals that hold a share of ``coverage`` between them, symmetric in rank.

    The rank ``ceil((n + 1) q)`` of n residuals holds with probability of at least its coverage for
    exchangeable rows (Vovk et al., Algorithmic Learning in a Random World, 2005).
    """
    ordered, count = np.sort(residuals), len(residuals)
    tail = (1.0 - coverage) / 2.0
    low = max(int(np.floor((count + 1) * tail + ROUNDING)) - 1, 0)
    high = min(int(np.ceil((count + 1) * (1.0 - tail) - ROUNDING)) - 1, count - 1)
    return float(ordered[low]), float(ordered[high])


def analytic_spread(factor90: float) -> Spread:
    """Return a spread with 90 % of rows within a factor of ``factor90``, normal in the log."""
    half90 = float(np.log(factor90))
    half = {0.8: half90 * 1.2816 / 1.6449, 0.9: half90}
    return Spread(
        quantiles={
            stratum_name(*each): {c: (-half[c], half[c]) for c in COVERAGES} for each in STRATA
        }
    )


def widened(interval: Interval, value: Floats, spread: Floats) -> Interval:
    """Return the interval with an independent error of log half width ``spread`` (n,) added.

    Half widths add as the sides of a right angle: 0.3 and 0.4 make 0.5.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.hypot(np.log(value / interval.low), spread)
        above = np.hypot(np.log(interval.high / value), spread)
    certain = spread == 0.0
    return Interval(
        low=np.where(certain, interval.low, value * np.exp(-below)),
        high=np.where(certain, interval.high, value * np.exp(above)),
    )


def bounded(interval: Interval, value: Floats, least: Floats) -> Interval:
    """Return the interval with nothing below ``least`` (n,); it still contains each ``value``."""
    return Interval(low=np.maximum(interval.low, np.minimum(least, value)), high=interval.high)


def reciprocal(interval: Interval) -> Interval:
    """Return the interval of 1 / x, of nothing where x is 0."""
    return Interval(low=rate(interval.high), high=rate(interval.low))


# Factors that hold 90 % of the measurements around the analytic model alone, all sources; from the
# training report. Percentiles have those of their mean.
ANALYTIC_FACTORS = {"ttft": 4.0, "tpot": 2.5, "e2e": 2.5}
ANALYTIC_SPREADS = {
    name: analytic_spread(ANALYTIC_FACTORS[name.split("_")[0]])
    for name in ("ttft", "tpot", "e2e", *PERCENTILES)
}
