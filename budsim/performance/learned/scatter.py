"""How much further off predictions are in one question than in another.

Ranges of strangers come from the residuals of other parties. These scatter more where prompts are
short (TTFT) or requests queue (TPOT), in every party alike, so that a question's range is that of
the usual question times a factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.learned.features import NAMES, Matrix

# The feature that the scatter of each quantity follows; percentiles scatter as their means do.
SCATTER_BY = {
    "ttft": "log_input",
    "tpot": "log_queue_over_service",
    "e2e": "log_queue_over_service",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """A factor on log residuals: ``exp(slope * (feature - usual))``.

    Attributes
    ----------
    feature : str
        A column of the feature matrix.
    slope : float
        Change of the log of residuals' size with the feature; 0 where nothing is known of it.
    usual : float
        Value of the feature at which the factor is 1.
    low, high : float
        Values beyond these count as these: what was measured ends there.
    """

    feature: str
    slope: float
    usual: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse a feature that no candidate has."""
        if self.feature not in NAMES:
            raise ValueError(f"no feature is called {self.feature!r}"[:80])

    def factors(self, features: Matrix) -> Floats:
        """Return the factor of each row (n,) of a feature matrix."""
        values = self.values(features)
        return np.exp(self.slope * (np.clip(values, self.low, self.high) - self.usual))

    def values(self, features: Matrix) -> Floats:
        """Return the feature of each row (n,)."""
        return np.asarray(features[:, NAMES.index(self.feature)], dtype=np.float64)

    def stored(self) -> dict[str, str | float]:
        """Return what a manifest keeps."""
        return {k: v if isinstance(v, str) else round(v, 6) for k, v in asdict(self).items()}

    @classmethod
    def read(cls, stored: Mapping[str, object]) -> Scatter:
        """Return what a manifest kept.

        Raises
        ------
        KeyError, ValueError
            When something is missing, no number, or of no feature.
        """
        ends = {name: float(str(stored[name])) for name in ("slope", "usual", "low", "high")}
        return cls(feature=str(stored["feature"]), **ends)


def even(quantity: str) -> Scatter:
    """Return the scatter of a quantity that is alike in all questions."""
    return Scatter(feature=SCATTER_BY[mean_of(quantity)], slope=0.0, usual=0.0, low=0.0, high=0.0)


def mean_of(quantity: str) -> str:
    """Return the mean that a percentile belongs to: ``ttft`` of ``ttft_p99``; means are theirs."""
    return quantity.split("_", maxsplit=1)[0]
