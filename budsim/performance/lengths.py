"""Laws of prompt and output lengths: what clients send, in tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from budsim.commons.errors import InvalidInput
from budsim.performance.limits import MOST_TOKENS

Tokens = NDArray[np.int64]
Quantiles = NDArray[np.float64]

USUAL_MOST = 0.999
"""Quantile of a lognormal law that stands for its longest length where none is stated."""

# The mean beside ``uniform:LOW-HIGH`` may be rounded.
MEAN_TOLERANCE_TOKENS = 1
# Half width of lengths around their mean, as a share of it, where nobody states their law. Requests
# of exactly equal lengths keep starting and ending together, which measured servers do not:
# with 0.05 to 1 errors are alike, and smaller than with 0 for six parties of seven.
USUAL_SPREAD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLength:
    """Every request has ``tokens`` tokens.

    0 is allowed for outputs: pooling models generate nothing.
    """

    tokens: int

    def __post_init__(self) -> None:
        _require_tokens("tokens", self.tokens, least=0)

    @property
    def mean(self) -> float:
        """Mean length, tokens."""
        return float(self.tokens)

    @property
    def most(self) -> int:
        """Longest length, tokens."""
        return self.tokens

    def at(self, quantiles: Quantiles) -> Tokens:
        """Return the lengths at quantiles (0..1), tokens."""
        return np.full(len(quantiles), self.tokens, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformLength:
    """Every whole number from ``low`` to ``high`` tokens is equally likely."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _require_tokens("low", self.low)
        _require_tokens("high", self.high, least=self.low)

    @property
    def mean(self) -> float:
        """Mean length, tokens."""
        return (self.low + self.high) / 2.0

    @property
    def most(self) -> int:
        """Longest length, tokens."""
        return self.high

    def at(self, quantiles: Quantiles) -> Tokens:
        """Return the lengths at quantiles (0..1), tokens."""
        steps = np.floor(quantiles * (self.high - self.low + 1)).astype(np.int64)
        return np.minimum(self.low + steps, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalLength:
    """Lognormal lengths around ``mean_tokens``, cut at ``longest``.

    ``variation`` is the coefficient of variation, the standard deviation over the mean, before the
    cut. By default the cut is at the 99.9th percentile; its small effect on the mean is not
    corrected.
    """

    mean_tokens: float
    variation: float
    longest: int | None = None

    def __post_init__(self) -> None:
        _require_tokens("mean_tokens", self.mean_tokens)
        require(0.0 < self.variation <= 10.0, "variation", self.variation, "above 0, at most 10")
        if self.longest is not None:
            _require_tokens("longest", self.longest, least=self.mean_tokens)

    @property
    def mean(self) -> float:
        """Mean length, tokens."""
        return self.mean_tokens

    @property
    def most(self) -> int:
        """Longest length, tokens."""
        if self.longest is not None:
            return self.longest
        return min(math.ceil(self._quantile(USUAL_MOST)), MOST_TOKENS)

    def at(self, quantiles: Quantiles) -> Tokens:
        """Return the lengths at quantiles (0..1), tokens."""
        inside = np.clip(quantiles, 1e-12, 1.0 - 1e-12)
        values = np.array([self._quantile(float(share)) for share in inside])
        cut: Tokens = np.clip(np.rint(values), 1, self.most).astype(np.int64)
        return cut

    def _quantile(self, share: float) -> float:
        """Mean m and variation c give sigma^2 = ln(1 + c^2) and mu = ln(m) - sigma^2 / 2."""
        spread = math.log1p(self.variation**2)
        normal = NormalDist().inv_cdf(share)
        return math.exp(math.log(self.mean_tokens) - spread / 2.0 + math.sqrt(spread) * normal)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmpiricalLength:
    """Observed lengths, taken in their order; with more requests than ``values`` they repeat."""

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        require(len(self.values) > 0, "values", "empty", "at least one length")
        _require_tokens("values", min(self.values), least=0)
        _require_tokens("values", max(self.values), least=0)

    @property
    def mean(self) -> float:
        """Mean length, tokens."""
        return sum(self.values) / len(self.values)

    @property
    def most(self) -> int:
        """Longest length, tokens."""
        return max(self.values)

    def at(self, quantiles: Quantiles) -> Tokens:
        """Return as many observed lengths as there are quantiles, in their order, tokens."""
        return np.resize(np.array(self.values, dtype=np.int64), len(quantiles))


@dataclass(frozen=True, slots=True, kw_only=True)
class LongerLength:
    """Lognormal lengths, each longer by ``tokens``: prompts that also hold images or audio."""

    law: LognormalLength
    tokens: int

    @property
    def mean(self) -> float:
        """Mean length, tokens."""
        return self.law.mean + self.tokens

    @property
    def most(self) -> int:
        """Longest length, tokens."""
        return self.law.most + self.tokens

    def at(self, quantiles: Quantiles) -> Tokens:
        """Return the lengths at quantiles (0..1), tokens."""
        return self.law.at(quantiles) + self.tokens


LengthLaw = FixedLength | UniformLength | LognormalLength | EmpiricalLength | LongerLength


def longer(law: LengthLaw, tokens: int) -> LengthLaw:
    """Return a law whose lengths are all longer by ``tokens``: 100 to 200 and 50 are 150 to 250."""
    if isinstance(law, FixedLength):
        return FixedLength(tokens=law.tokens + tokens)
    if isinstance(law, UniformLength):
        return UniformLength(low=law.low + tokens, high=law.high + tokens)
    if isinstance(law, EmpiricalLength):
        return EmpiricalLength(values=tuple(value + tokens for value in law.values))
    if isinstance(law, LongerLength):
        return replace(law, tokens=law.tokens + tokens)
    return LongerLength(law=law, tokens=tokens)


def lengths_about(mean: float) -> UniformLength:
    """Return lengths within `USUAL_SPREAD` of their mean, for those whose law is not stated."""
    low, high = (max(round(mean * (1.0 + end)), 1) for end in (-USUAL_SPREAD, USUAL_SPREAD))
    return UniformLength(low=low, high=high)


def parse_lengths(text: str, mean: int) -> LengthLaw:
    """Return the law that ``text`` names, of a mean of ``mean`` tokens.

    ``fixed``; ``uniform`` (half to one and a half times the mean) or ``uniform:LOW-HIGH``;
    ``lognormal`` (variation 1) or ``lognormal:VARIATION``.

    Raises
    ------
    InvalidInput
        When the text is none of these.
    """
    name, _, rest = text.strip().lower().partition(":")
    try:
        if name == "fixed" and not rest:
            return FixedLength(tokens=mean)
        if name == "uniform":
            low, _, high = rest.partition("-")
            return UniformLength(
                low=int(low) if rest else max(mean - mean // 2, 1),
                high=int(high) if rest else mean + mean // 2,
            )
        if name == "lognormal":
            return LognormalLength(mean_tokens=mean, variation=float(rest or 1.0))
    except InvalidInput as error:
        problem = f"{text[:60]!r}: {error.field} {error.problem}"
        raise InvalidInput("lengths", problem, error.expected) from error
    except ValueError:
        pass
    expected = "fixed, uniform, uniform:LOW-HIGH, lognormal or lognormal:VARIATION"
    raise InvalidInput("lengths", f"{text[:60]!r} is no law of lengths", expected)


def lengths_of_mean(text: str, mean: int, field: str = "lengths") -> LengthLaw:
    """Return the law that ``text`` names; its mean has to be the one that is given beside it.

    ``field`` is what errors name.

    Raises
    ------
    InvalidInput
        The text names no law, or ``uniform:LOW-HIGH`` of another mean.
    """
    try:
        law = parse_lengths(text, mean)
    except InvalidInput as error:
        raise InvalidInput(field, error.problem, error.expected) from error
    if abs(law.mean - mean) > MEAN_TOLERANCE_TOKENS:
        problem = f"{text.strip()!r} has a mean of {law.mean:g} tokens, not {mean}"
        raise InvalidInput(field, problem, "the mean that is given beside it")
    return law


def prompts_up_to(text: str, mean: int, longest: int | None, field: str = "lengths") -> LengthLaw:
    """Return the law of prompts that ``text`` names, none of them above ``longest`` if given.

    Raises
    ------
    InvalidInput
        As `lengths_of_mean`, or the longest prompt is below the mean or beside uniform lengths.
    """
    law = lengths_of_mean(law_up_to(text, longest), mean, field)
    return cut_at(law, longest)


def law_up_to(text: str, longest: int | None) -> str:
    """Return the name of a law of prompts that may have a longest one: equal ones then vary.

    A mean and a longer prompt contradict equal lengths; they become lognormal.
    """
    return "lognormal" if longest and text.strip().lower() == "fixed" else text


def cut_at(law: LengthLaw, longest: int | None) -> LengthLaw:
    """Return a law of prompts none of which is above ``longest``; errors as `prompts_up_to`."""
    if longest is None:
        return law
    if longest < law.mean:
        problem = f"{longest} is less than the mean of {law.mean:g} tokens"
        raise InvalidInput("max_input_tokens", problem, f"at least {law.mean:g}")
    if isinstance(law, LognormalLength):
        return replace(law, longest=longest)
    raise InvalidInput(
        "max_input_tokens",
        "does not go with uniform lengths: uniform:LOW-HIGH states the longest",
        "lognormal lengths",
    )


def prompts_and_outputs(text: str) -> tuple[str, str]:
    """Return the laws of prompts and of outputs of ``LAW`` for both, or ``LAW,LAW``."""
    prompts, comma, outputs = text.partition(",")
    return prompts, outputs if comma else prompts


def _require_tokens(field: str, tokens: float, *, least: float = 1) -> None:
    expected = f"{least:g} to {MOST_TOKENS:,} tokens"
    require(least <= tokens <= MOST_TOKENS, field, tokens, expected)


def require(fine: bool, field: str, value: object, expected: str) -> None:
    """Raise `InvalidInput` that names the field and what is expected, unless the value is fine."""
    if not fine:
        raise InvalidInput(field, f"is {value}", expected)
