"""The chance that a deployment meets all targets, from the residuals behind its intervals.

Predictions err by a factor whose logarithm has calibrated quantiles: 80 % of what is measured lies
in the 80 % interval, 90 % in the 90 % interval, and half below the middle. Between these quantiles
the residual is taken to be normal, so that a limit on a figure becomes a chance.

Example: a TTFT of 1 s with an 80 % interval up to 1.5 s, and a limit of 1.5 s: nine of ten
measurements are below it, a chance of 0.9. With a limit of 1 s it is a coin toss, 0.5, unless
servers like it were measured to be slower than predicted: then their middle is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.scatter import mean_of
from budsim.performance.predictions import Interval, Predictions
from budsim.simulator.planning.targets import (
    GOOD_SHARE,
    HIGHER_IS_BETTER,
    MEANS,
    PERCENTS,
    Figures,
    Targets,
)

# Standard normal quantiles at 0.9 and 0.95: the upper ends of 80 % and 90 % intervals.
NORMAL_80: Final = 1.2816
NORMAL_90: Final = 1.6449
# How far targets are met or missed together: 0 as independent coins, 1 as one coin. Of targets that
# each hold for 80 % of a party's rows, TTFT and TPOT hold together as 1.7 independent ones do, a
# mean and a p99 of the same quantity as 1.4, and all four as 2.4. Said to be met with 80 and 90 %,
# targets on TTFT and TPOT were met by 80 and 90 % of the rows of withheld parties, every party
# counting alike (scripts/check_chances.py).
OF_ONE_QUANTITY: Final = 0.6
OF_SEVERAL: Final = 0.4

NARROWEST: Final = 1e-6
# Scores beyond this are as good as certain: one in three million.
MOST_SCORE: Final = 5.0
# What a chance that is too small lacks at least where best estimates miss; chosen by us.
LEAST_LACKING: Final = 0.01
# Figure of replayed traffic: the largest stable rate over the rate that comes.
SPARE_RATE: Final = "spare_rate"

# The mean whose residuals a figure has.
_FAMILIES: Final = {"ttft": "ttft_s", "itl": "tpot_s", "tpot": "tpot_s", "e2e": "e2e_s"}
# The quantity with whose figures a figure is met or missed: a latency is mostly generation.
_QUANTITIES: Final = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "tpot"}
# Which percentile's own residuals a percentile has: gaps and percentiles between p50 and p99 were
# never measured, and are less sure than means.
_MEASURED_PERCENTILES: Final = {
    "ttft_p50_s": "ttft_p50",
    **{f"ttft_p{percent}_s": "ttft_p99" for percent in PERCENTS if percent > 50},
    **{f"{gap}_p{percent}_s": "tpot_p99" for gap in ("itl", "tpot") for percent in (90, 95, 99)},
    **{f"e2e_p{percent}_s": "e2e_p99" for percent in PERCENTS if percent > 50},
}


def chance_text(chance: float) -> str:
    """Return a chance as it is told of a plan that is not sure enough, never rounded up.

    79.6 % is "79.6%" and not 80%, which may be what was asked for.
    """
    return f"{math.floor(1000.0 * chance) / 10.0:g}%"


def score_of(chance: Floats) -> Floats:
    """Return the standard normal quantiles of chances: 0 of one half, 1.28 of 0.9; at most 5."""
    from scipy.special import ndtri  # type: ignore[import-untyped]  # slow to import

    return np.asarray(np.clip(ndtri(chance), -MOST_SCORE, MOST_SCORE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """Ends of the intervals of log(measured / predicted) and their middle, arrays of shape (n,)."""

    low90: Floats
    low80: Floats
    middle: Floats
    high80: Floats
    high90: Floats

    @classmethod
    def of(
        cls, value: Floats, intervals: Mapping[float, Interval], middle: Floats | None = None
    ) -> Residuals:
        """Return those of a figure with its intervals; without a middle it is the figure."""
        ends = {}
        for coverage in (0.8, 0.9):
            for side in ("low", "high"):
                end = getattr(intervals[coverage], side)
                ratio = np.divide(end, value, out=np.ones_like(value), where=value > 0)
                ends[f"{side}{round(100 * coverage)}"] = np.log(np.maximum(ratio, NARROWEST))
        half = np.zeros_like(value) if middle is None else middle
        return cls(**ends, middle=np.clip(half, ends["low80"], ends["high80"]))

    def unless(self, known: Booleans, others: Residuals) -> Residuals:
        """Return the same, with those of ``others`` in the rows that are ``known``."""
        ends = ("low90", "low80", "middle", "high80", "high90")
        return Residuals(
            **{end: np.where(known, getattr(others, end), getattr(self, end)) for end in ends}
        )

    def chance_below(self, log_limit: Floats) -> Floats:
        """Return the chance that a residual is at most ``log_limit`` (limit over prediction)."""
        from scipy.special import ndtr  # slow to import

        from_middle = log_limit - self.middle
        above, size = from_middle >= 0, np.abs(from_middle)
        ends80, ends90 = (
            np.where(above, high - self.middle, self.middle - low)
            for low, high in ((self.low80, self.high80), (self.low90, self.high90))
        )
        inner = np.maximum(ends80, NARROWEST)
        outer = np.maximum(ends90, inner + NARROWEST)
        between = NORMAL_80 + (size - inner) * (NORMAL_90 - NORMAL_80) / (outer - inner)
        score = np.where(
            size <= inner,
            NORMAL_80 * size / inner,
            np.where(size <= outer, between, NORMAL_90 * size / outer),
        )
        return np.asarray(ndtr(np.where(above, score, -score)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How good figures are; arrays of shape (n,).

    Attributes
    ----------
    missed : float array
        Mean relative miss of the best estimates; 0 where they meet every target.
    chance : float array
        Chance (0..1) that every target is met; 1 without targets.
    shortfall : float array
        0 where the targets are met with the chance that was asked for. Else what the chance lacks,
        at most what it lacks where best estimates just meet every target, and the relative miss.
    """

    missed: Floats
    chance: Floats
    shortfall: Floats


def judge(targets: Targets, figures: Figures, predictions: Predictions, asked: float) -> Judged:
    """Compare figures with targets.

    Parameters
    ----------
    targets, figures
        What is asked for, and best estimates of it.
    predictions : Predictions
        Of the same rows; tells how sure the figures are.
    asked : float
        Least chance (0..1) of meeting all targets that is sure enough; 0 compares best estimates.
    """
    missed = targets.missed_by(figures)
    if not targets and SPARE_RATE not in figures:
        return Judged(missed=missed, chance=np.ones(len(missed)), shortfall=missed)
    found = list(_chances(targets, figures, _residuals(figures, predictions)))
    chance = joint([(quantity, each) for quantity, _, each in found])
    if asked <= 0:
        return Judged(missed=missed, chance=chance, shortfall=missed)
    # Chances near 0 are alike: there the miss tells which row is nearer to the targets.
    at_limits = joint([(quantity, half) for quantity, half, _ in found])
    lacking = np.minimum(asked - chance, np.maximum(asked - at_limits, LEAST_LACKING))
    shortfall = np.where(chance >= asked, 0.0, lacking + missed)
    return Judged(missed=missed, chance=chance, shortfall=shortfall)


def only_stable(judged: Judged, stable: Booleans) -> Judged:
    """Return rows that do not carry their traffic as missing without limit."""
    return Judged(
        missed=np.where(stable, judged.missed, np.inf),
        chance=np.where(stable, judged.chance, 0.0),
        shortfall=np.where(stable, judged.shortfall, np.inf),
    )


def _residuals(figures: Figures, predictions: Predictions) -> dict[str, Residuals]:
    """Return the residuals of means and of the percentiles that have intervals of their own."""
    service = predictions.service
    means = {
        f"{name}_s": Residuals.of(
            getattr(service, f"{name}_s"),
            getattr(predictions, f"{name}_s"),
            predictions.middles.get(name),
        )
        for name in ("ttft", "tpot", "e2e")
    }
    percentiles = {
        name: Residuals.of(figures[f"{name}_s"], intervals, predictions.middles.get(name)).unless(
            predictions.measured, means[f"{mean_of(name)}_s"]
        )
        for name, intervals in predictions.percentiles.items()
        if f"{name}_s" in figures
    }
    return means | percentiles


def _chances(
    targets: Targets, figures: Figures, residuals: Mapping[str, Residuals]
) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield the chance of meeting each target by itself, and that the rate is carried.

    Before each stand the quantity it is about, and the chance if the figure were at its limit.
    """
    for name, limit in targets.limits.items():
        if name == GOOD_SHARE:
            for mean in MEANS:
                if getattr(targets, mean):
                    figure = figures[_percentile(mean, limit)]
                    allowed = getattr(targets, mean)
                    allowed = 1.0 / allowed if mean in HIGHER_IS_BETTER else allowed
                    yield _chance(_percentile(mean, limit), figure, allowed, residuals)
        elif name in HIGHER_IS_BETTER:
            # Residuals are those of the time per token: at least 20 tokens/s is at most 0.05 s.
            yield _chance("tpot_s", 1.0 / np.maximum(figures[name], 1e-12), 1.0 / limit, residuals)
        else:
            yield _chance(name, figures[name], limit, residuals)
    if SPARE_RATE in figures:
        yield _chance("tpot_s", 1.0 / np.maximum(figures[SPARE_RATE], 1e-12), 1.0, residuals)


def _percentile(mean: str, share: float) -> str:
    """Return the latency that tells whether ``share`` of the requests are within a limit."""
    latency = "tpot" if mean in HIGHER_IS_BETTER else mean.removesuffix("_s")
    percent = next((p for p in PERCENTS if p >= 100.0 * share), PERCENTS[-1])
    return f"{latency}_p{percent}_s"


def _chance(
    name: str, figure: Floats, limit: float, residuals: Mapping[str, Residuals]
) -> tuple[str, Floats, Floats]:
    mean = _FAMILIES[name.removesuffix("_s").split("_")[0]]
    own = residuals.get(_MEASURED_PERCENTILES.get(name, mean), residuals[mean])
    with np.errstate(invalid="ignore"):
        chance = own.chance_below(np.log(limit / np.maximum(figure, 1e-12)))
    return _QUANTITIES[mean], own.chance_below(np.zeros_like(chance)), chance


def joint(chances: Sequence[tuple[str, Floats]]) -> Floats:
    """Return the chance that all happen, between that of the least and the product of all.

    Each stands beside the quantity it is about: those of one depend more on each other.
    """
    quantities = dict.fromkeys(quantity for quantity, _ in chances)
    logs = [
        _together(
            [np.log(np.maximum(each, 1e-12)) for of, each in chances if of == quantity],
            OF_ONE_QUANTITY,
        )
        for quantity in quantities
    ]
    return np.asarray(np.exp(_together(logs, OF_SEVERAL)))


def _together(logs: Sequence[Floats], alike: float) -> Floats:
    table = np.stack(logs)
    return np.asarray(alike * table.min(axis=0) + (1.0 - alike) * table.sum(axis=0))
