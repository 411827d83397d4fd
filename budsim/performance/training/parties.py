"""Each party withheld in turn: how well servers of somebody unknown are predicted.

A user is always such a party. Physics alone and the learned part are judged side by side, because a
correction learned from other people's servers can be worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.intervals import (
    ANALYTIC_SPREADS,
    Novelty,
    stratum_name,
)
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.training.cross_validation import FEWEST_OF_PARTY
from budsim.performance.training.errors import error_figures
from budsim.performance.training.rows import Rows
from budsim.performance.training.strangers import of_strangers


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyScore:
    """How one withheld party is predicted; medians of |predicted / measured - 1|.

    ``bias`` is the median of predicted / measured, less 1. ``coverage90`` is the share of values in
    the 90 % interval that the other parties' residuals of physics make, as those of all parties
    make the interval of a question. ``width90`` is its upper end over its lower one.
    """

    party: str
    regime: str
    quantity: str
    rows: int
    physics: float
    physics_bias: float
    learned: float
    learned_bias: float
    coverage90: float
    width90: float


def party_scores(rows: Rows, corrections: Mapping[str, Floats]) -> list[PartyScore]:
    """Return the score of every party with enough values, by regime and target, and of all."""
    return [
        score
        for regime, of_regime in rows.regimes().items()
        for target in TARGETS
        for score in _scores(rows, corrections[target], target, str(regime), of_regime)
    ]


def _scores(
    rows: Rows, correction: Floats, target: str, regime: str, of_regime: Booleans
) -> Iterator[PartyScore]:
    residuals = rows.log_ratio(target)
    known = of_regime & np.isfinite(residuals)
    parties = rows.groups["party"]
    low, high = _ends(rows, residuals, known, target)
    inside = (residuals >= low) & (residuals <= high)
    groups = {str(rows.names.party[parties == p].iloc[0]): parties == p for p in np.unique(parties)}
    for party, own in {**groups, "all": np.ones(len(rows), dtype=bool)}.items():
        at = own & known
        if at.sum() >= FEWEST_OF_PARTY:
            physics, learned = residuals[at], residuals[at] - correction[at]
            yield PartyScore(
                party=party,
                regime=regime,
                quantity=target,
                rows=int(at.sum()),
                physics=error_figures(physics)["median"],
                physics_bias=_bias(physics),
                learned=error_figures(learned)["median"],
                learned_bias=_bias(learned),
                coverage90=float(np.mean(inside[at])),
                width90=round(float(np.exp(np.median((high - low)[at]))), 2),
            )


def _bias(residuals: Floats) -> float:
    return round(float(np.expm1(-np.median(residuals))), 4)


def _ends(rows: Rows, residuals: Floats, known: Booleans, target: str) -> tuple[Floats, Floats]:
    """Return the ends of the 90 % interval that the other parties' residuals make, shape (n,)."""
    parties, low, high = rows.groups["party"], np.zeros(len(rows)), np.zeros(len(rows))
    for regime, of_regime in rows.regimes().items():
        usual = ANALYTIC_SPREADS[target].quantiles[stratum_name(Novelty.NEW_PARTY, regime)][0.9]
        for party in np.unique(parties[known & of_regime]):
            own = known & of_regime & (parties == party)
            other = known & of_regime & (parties != party)
            if not other.any():
                low[own], high[own] = usual
                continue
            found = of_strangers(rows, target, {target: residuals}, other)
            low[own], high[own] = found.ends(rows.features[own], 0.9, usual)
    return low, high
