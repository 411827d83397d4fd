"""Where the marks of a drawing lie: scales, ticks and the step from values to pixels.

Drawings are SVG without script: text can be read aloud and copied, marks are links, and colours
follow the page's style sheet. Pixels are those of the drawing's own box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Pixels around the plot for the axes' numbers and names.
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
# A drawing is so many times as wide as high, and at least so many pixels high.
SHAPE, LEAST_HEIGHT = 1.9, 230
# Pixels between two ticks that leave room for their numbers.
TICK_GAP = 58
# Share of the values' span that is left free at both ends.
MARGIN = 0.06
# From this ratio of its ends on, a logarithmic axis has ticks at powers of ten alone.
WIDE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A number at an axis, and its place in pixels."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Places values between two pixels, in equal steps or (``log``) in equal ratios."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        """Return the pixel of a value; values beyond the ends lie at the ends."""
        kept = min(max(value, self.low), self.high)
        share = (self._way(kept) - self._way(self.low)) / (
            self._way(self.high) - self._way(self.low)
        )
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[Tick]:
        """Round numbers along the axis, as many as their texts leave room for."""
        most = max(2, int(abs(self.end - self.start) / TICK_GAP))
        return [Tick(at=self.at(value), text=number(value)) for value in self._round(most)]

    def _way(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def _round(self, most: int) -> list[float]:
        if self.log:
            for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
                found = self._within(_decades(self.low, self.high, digits))
                if 2 <= len(found) <= most:
                    return found
            if self.high / self.low >= WIDE:
                return self._within(_powers(self.low, self.high, most))
        return self._within(_steps(self.low, self.high, most))

    def _within(self, values: Iterable[float]) -> list[float]:
        return [value for value in values if self.low <= value <= self.high]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The box of a drawing with its two scales; y grows upwards."""

    width: int
    height: int
    x: Scale
    y: Scale

    @property
    def left(self) -> int:
        """Pixel where the plot begins."""
        return LEFT

    @property
    def right(self) -> int:
        """Pixel where the plot ends."""
        return self.width - RIGHT

    @property
    def top(self) -> int:
        """Pixel of the plot's upper edge."""
        return TOP

    @property
    def bottom(self) -> int:
        """Pixel of the plot's lower edge."""
        return self.height - BOTTOM

    def line(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        """Return the points of a polyline."""
        return " ".join(f"{self.x.at(x)},{self.y.at(y)}" for x, y in zip(xs, ys, strict=True))


def frame(xs: Sequence[float], ys: Sequence[float], width: int, *, log_x: bool = True) -> Frame:
    """Return a box that holds all values (finite; above 0 on a logarithmic axis)."""
    height = max(LEAST_HEIGHT, round(width / SHAPE))
    return Frame(
        width=width,
        height=height,
        x=_scale(xs, LEFT, width - RIGHT, log=log_x),
        y=_scale(ys, height - BOTTOM, TOP, log=True),
    )


def number(value: float) -> str:
    """Return a number with three digits, large ones with separators: 0.034, 12.5, 1,200."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-12))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scale(values: Sequence[float], start: float, end: float, *, log: bool) -> Scale:
    low, high = min(values), max(values)
    if log:
        ratio = max(high / low, 1.5)
        middle = math.sqrt(low * high)
        half = math.sqrt(ratio) * ratio**MARGIN
        return Scale(low=middle / half, high=middle * half, start=start, end=end, log=True)
    span = (high - low) or abs(high) or 1.0
    least = 0.0 if low >= 0 else low - MARGIN * span
    return Scale(low=least, high=high + MARGIN * span, start=start, end=end, log=False)


def _decades(low: float, high: float, digits: Sequence[int]) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [digit * 10.0**power for power in range(first, last + 1) for digit in digits]


def _powers(low: float, high: float, most: int) -> list[float]:
    """Return every power of ten, or every second, third, ...: at most so many."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    step = -(-(last - first + 1) // most)
    return [10.0**power for power in range(first, last + 1, step)]


def _steps(low: float, high: float, most: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten, at most so many."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step)
    return [step * count for count in range(first, math.floor(high / step) + 1)]
