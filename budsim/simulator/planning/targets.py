"""What service is good enough, and by how much a predicted service misses it.

The one place that compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.performance.candidates import Floats
from budsim.performance.predictions import Service

LATENCIES: Final = ("ttft_s", "e2e_s")
"""Targets that a lower figure meets; the others are rates, which a higher figure meets."""
NAMES: Final = (*LATENCIES, "tokens_per_s_per_user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The worst service that is still good enough; ``None`` and 0 mean no target.

    Each target has the name of the figure of `Service` it is compared with, so that comparing needs
    no table of its own.

    Raises
    ------
    InvalidInput
        A target is negative or not finite.
    """

    ttft_s: float | None = None
    tokens_per_s_per_user: float | None = None
    e2e_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse targets out of range."""
        for name in NAMES:
            target = getattr(self, name)
            if target is not None and not 0 <= target < inf:
                raise InvalidInput(
                    name, f"{target} is out of range", "a positive number, or none for no target"
                )

    def __bool__(self) -> bool:
        """Return whether there is any target."""
        return bool(self.given)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the targets asked for."""
        return tuple(name for name in NAMES if getattr(self, name))

    @property
    def bound_latency(self) -> bool:
        """Whether a target bounds how long a request may wait.

        Without one, every load can be carried.
        """
        return any(name in LATENCIES for name in self.given)

    def ratios(self, service: Service) -> Floats:
        """Return required over predicted speed for every target given, shape (targets, n).

        Above 1 is a miss.

        A latency of 3 s against a target of 2 s is 1.5; so are 20 tokens/s against a target of 30.
        """
        rows = [self._ratio(name, getattr(service, name)) for name in self.given]
        return np.array(rows).reshape(len(rows), len(service.ttft_s))

    def missed_by(self, service: Service) -> Floats:
        """Return the mean relative miss over the targets given, shape (n,): 0 when all are met.

        Every miss is relative to its target: 3 s against 2 s misses by 0.5, 20 tokens/s against 30
        by 0.33.
        """
        misses = [self._miss(name, getattr(service, name)) for name in self.given]
        if not misses:
            return np.zeros(len(service.ttft_s))
        return np.asarray(np.mean(np.maximum(misses, 0.0), axis=0))

    def margins(self, service: Service, row: int) -> dict[str, float]:
        """Return by what share each figure with a target may get worse before it misses.

        Below 0 it misses already.

        A latency of 1 s against a target of 2 s has a margin of 1 (100 %); so have 60 tokens/s
        against 30.
        """
        ratios = self.ratios(service)[:, row]
        return {
            name: float(1.0 / ratio - 1.0) for name, ratio in zip(self.given, ratios, strict=True)
        }

    def misses(self, margins: Mapping[str, float]) -> list[str]:
        """Return a phrase for every target whose margin is below 0, the one missed most first."""
        missed = sorted((margins[name], name) for name in self.given if margins[name] < 0)
        return [self._phrase(name, 1.0 / (1.0 + margin)) for margin, name in missed]

    def _allowed(self, name: str) -> float:
        return float(getattr(self, name))

    def _ratio(self, name: str, figure: Floats) -> Floats:
        allowed = self._allowed(name)
        return figure / allowed if name in LATENCIES else allowed / figure

    def _miss(self, name: str, figure: Floats) -> Floats:
        share = figure / self._allowed(name)
        return share - 1.0 if name in LATENCIES else 1.0 - share

    def _phrase(self, name: str, factor: float) -> str:
        """Return one missed target in words; ``factor`` is by how many times it is missed."""
        allowed = self._allowed(name)
        words = {
            "ttft_s": f"TTFT {factor * allowed:.3g} s against {allowed:g} s",
            "e2e_s": f"end-to-end latency {factor * allowed:.3g} s against {allowed:g} s",
            "tokens_per_s_per_user": (
                f"tokens/s per user {allowed / factor:.3g} against {allowed:g}"
            ),
        }
        return f"{words[name]} (a factor of {factor:.2f})"
