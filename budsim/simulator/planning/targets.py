"""What service is good enough, and by how much a predicted service misses it.

This is the one place that compares the two. Figures have names: means ``ttft_s``, ``e2e_s`` and
``tokens_per_s_per_user``, percentiles such as ``ttft_p99_s``, and ``good_share``, the share of
requests within the limits. A target has the name of the figure it bounds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.performance.candidates import Floats
from budsim.performance.predictions import Service

# Predicted figures by name, arrays of shape (n,).
Figures = Mapping[str, Floats]

# Seconds, or tokens/s: by a smaller target a miss is no finite share any more.
LEAST_TARGET: Final = 1e-9

MEANS: Final = ("ttft_s", "e2e_s", "tokens_per_s_per_user")
GOOD_SHARE: Final = "good_share"
HIGHER_IS_BETTER: Final = frozenset({"tokens_per_s_per_user", GOOD_SHARE})
LATENCIES: Final = ("ttft", "itl", "tpot", "e2e")
GAPS: Final = ("itl", "tpot")
PERCENTS: Final = (50, 90, 95, 99)
WORDS: Final = {
    "ttft": "TTFT",
    "itl": "time between tokens",
    "tpot": "time per output token",
    "e2e": "end-to-end latency",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentileTarget:
    """The longest latency that ``percent`` % of the requests may see, seconds.

    ``latency`` is ``ttft``, ``itl`` (each gap between two tokens), ``tpot`` (the mean gap of a
    request) or ``e2e``.

    Raises
    ------
    InvalidInput
        No such latency or percentile, or a limit that is not above 0 and finite.
    """

    latency: str
    percent: int
    limit_s: float

    def __post_init__(self) -> None:
        """Refuse what no replay can tell."""
        if self.latency not in LATENCIES or self.percent not in PERCENTS:
            known = f"{', '.join(LATENCIES)} at p{', p'.join(map(str, PERCENTS))}"
            raise InvalidInput(self.name, "is not a target", known)
        if not LEAST_TARGET <= self.limit_s < inf:
            expected = f"at least {LEAST_TARGET:g} s"
            raise InvalidInput(self.name, f"{self.limit_s} is out of range", expected)

    @property
    def name(self) -> str:
        """Name of the figure it bounds: ``ttft_p99_s``."""
        return f"{self.latency}_p{self.percent}_s"

    @classmethod
    def named(cls, name: str, limit_s: float) -> PercentileTarget:
        """Return the target on a figure such as ``ttft_p99_s``; errors as those of the class."""
        found = re.fullmatch(r"([a-z0-9]+)_p(\d{1,3})_s", name)
        if not found:
            raise InvalidInput(name, "is not a target", "a latency and a percentile: ttft_p99_s")
        return cls(latency=found[1], percent=int(found[2]), limit_s=limit_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The worst service that is still good enough; ``None`` and 0 mean no target.

    Attributes
    ----------
    ttft_s, e2e_s : float, optional
        Longest mean time to first token and mean end-to-end latency, seconds.
    tokens_per_s_per_user : float, optional
        Least mean output tokens per second of one request, once its first token has come.
    percentiles : tuple of PercentileTarget
        Longest latencies at percentiles of the requests.
    goodput : float, optional
        Share of the requests (0..1) that must be good: within ``ttft_s``, ``e2e_s`` and
        ``1 / tokens_per_s_per_user`` between tokens, which then are limits of every single request
        instead of means.

    Raises
    ------
    InvalidInput
        A target is negative, too small to divide by or not finite, or two targets contradict
        each other.
    """

    ttft_s: float | None = None
    tokens_per_s_per_user: float | None = None
    e2e_s: float | None = None
    percentiles: tuple[PercentileTarget, ...] = ()
    goodput: float | None = None

    def __post_init__(self) -> None:
        """Refuse targets out of range."""
        for name in MEANS:
            target = getattr(self, name)
            if target and not LEAST_TARGET <= target < inf:
                expected = f"a number of at least {LEAST_TARGET:g}, or none for no target"
                raise InvalidInput(name, f"{target} is out of range", expected)
        if self.goodput is not None and not 0 < self.goodput <= 1:
            expected = "a share above 0, at most 1; without it, targets bound means"
            raise InvalidInput("goodput", f"{self.goodput} is out of range", expected)
        if self.goodput and not self._means:
            raise InvalidInput(
                "goodput", "has no limit", "ttft_s, e2e_s or tokens_per_s_per_user as well"
            )
        self._check_percentiles()

    def __bool__(self) -> bool:
        """Return whether there is any target."""
        return bool(self.given)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the figures that are bounded."""
        of_requests = (GOOD_SHARE,) if self.goodput else self._means
        return (*of_requests, *(each.name for each in self.percentiles))

    @property
    def limits(self) -> dict[str, float]:
        """The figures that are bounded, and their limits."""
        return {name: self._allowed(name) for name in self.given}

    @property
    def need_replay(self) -> bool:
        """Whether a target bounds what single requests see, which means do not tell."""
        return bool(self.percentiles or self.goodput)

    @property
    def bound_latency(self) -> bool:
        """Whether a target bounds how long a request may wait.

        Without one, every load can be carried.
        """
        first = {"ttft", "e2e"}
        return bool(self.ttft_s or self.e2e_s or first & {p.latency for p in self.percentiles})

    @property
    def bound_gaps(self) -> bool:
        """Whether a percentile target bounds the gaps between tokens."""
        return bool(set(GAPS) & {each.latency for each in self.percentiles})

    def on_means(self, output_tokens: float, e2e_s: float = inf) -> Targets:
        """Return targets on means that every service within these targets meets.

        A mean lies below the percentiles that bound its latencies, so that nothing good is left
        out; ``e2e_s`` is one limit more.
        """
        at = {name: [inf, *self._limits(name)] for name in LATENCIES}
        slowest_s = min(*at["itl"], *at["tpot"])
        rate = 1.0 / slowest_s if output_tokens > 1 else 0.0
        # A rate below the least target is one that every service has.
        rates = [self.tokens_per_s_per_user or 0.0, rate if rate >= LEAST_TARGET else 0.0]
        return Targets(
            ttft_s=_finite(min(self.ttft_s or inf, *at["ttft"])),
            e2e_s=_finite(min(self.e2e_s or inf, e2e_s, *at["e2e"])),
            tokens_per_s_per_user=max(rates) or None,
        )

    def ratios(self, figures: Figures) -> Floats:
        """Return required over predicted speed for every target, shape (targets, n).

        Above 1 is a miss. A latency of 3 s against a target of 2 s is 1.5; so are 20 tokens/s
        against a target of 30.
        """
        rows = [self._ratio(name, figures[name]) for name in self.given]
        return np.array(rows).reshape(len(rows), _length(figures))

    def missed_by(self, figures: Figures) -> Floats:
        """Return the mean relative miss over the targets given, shape (n,): 0 when all are met.

        Every miss is relative to its target: 3 s against 2 s misses by 0.5, 20 tokens/s against 30
        by 0.33.
        """
        # A mean over targets, not the worst: two small misses are better than a large one and a
        # small one.
        misses = [self._miss(name, figures[name]) for name in self.given]
        if not misses:
            return np.zeros(_length(figures))
        return np.asarray(np.mean(np.maximum(misses, 0.0), axis=0))

    def margins(self, figures: Figures, row: int) -> dict[str, float]:
        """Return by what share each figure with a target may get worse before it misses.

        Below 0 it misses already. A latency of 1 s against a target of 2 s has a margin of 1
        (100 %); so have 60 tokens/s against 30.
        """
        ratios = self.ratios(figures)[:, row]
        return {
            name: float(1.0 / ratio - 1.0) for name, ratio in zip(self.given, ratios, strict=True)
        }

    def misses(self, margins: Mapping[str, float]) -> list[str]:
        """Return a phrase for every target whose margin is below 0, the one missed most first."""
        missed = sorted((margins[name], name) for name in self.given if margins[name] < 0)
        return [
            self._phrase(name, 1.0 / (1.0 + margin) if margin > -1.0 else inf)
            for margin, name in missed
        ]

    @property
    def _means(self) -> tuple[str, ...]:
        return tuple(name for name in MEANS if getattr(self, name))

    def _limits(self, latency: str) -> list[float]:
        """Return limits that bound a mean too: those at percentiles above it, not p50."""
        return [p.limit_s for p in self.percentiles if p.latency == latency and p.percent > 50]

    def _check_percentiles(self) -> None:
        """Refuse a figure bounded twice, and a higher percentile bounded more tightly."""
        names = [each.name for each in self.percentiles]
        for name in names:
            if names.count(name) > 1:
                raise InvalidInput(name, "is given twice", "one limit")
        for low in self.percentiles:
            for high in self.percentiles:
                same = low.latency == high.latency and low.percent < high.percent
                if same and low.limit_s > high.limit_s:
                    raise InvalidInput(
                        low.name,
                        f"allows more ({low.limit_s:g} s) than {high.name} ({high.limit_s:g} s)",
                        "a limit that grows with the percentile",
                    )

    def _allowed(self, name: str) -> float:
        if name == GOOD_SHARE:
            return float(self.goodput or 0.0)
        for each in self.percentiles:
            if each.name == name:
                return each.limit_s
        return float(getattr(self, name))

    def _ratio(self, name: str, figure: Floats) -> Floats:
        allowed = self._allowed(name)
        if name in HIGHER_IS_BETTER:
            with np.errstate(divide="ignore"):
                return np.asarray(allowed / figure)
        return figure / allowed

    def _miss(self, name: str, figure: Floats) -> Floats:
        share = figure / self._allowed(name)
        return 1.0 - share if name in HIGHER_IS_BETTER else share - 1.0

    def _phrase(self, name: str, factor: float) -> str:
        """Return one missed target in words; ``factor`` is by how many times it is missed.

        It is infinite where no request at all is within the limits.
        """
        allowed = self._allowed(name)
        if name == GOOD_SHARE:
            words = f"{allowed / factor:.1%} of the requests within the limits against {allowed:g}"
        elif name in HIGHER_IS_BETTER:
            words = f"tokens/s per user {allowed / factor:.3g} against {allowed:g}"
        else:
            latency, *at = name.removesuffix("_s").split("_")
            figure = " ".join([WORDS[latency], *at])
            words = f"{figure} {factor * allowed:.3g} s against {allowed:g} s"
        return words if factor == inf else f"{words} (a factor of {factor:.2f})"


def figures_of(service: Service) -> Figures:
    """Return the figures of a service that has means only."""
    return {name: getattr(service, name) for name in MEANS}


def _finite(limit: float) -> float | None:
    return limit if limit < inf else None


def _length(figures: Figures) -> int:
    return len(figures["ttft_s"])
