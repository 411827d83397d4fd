"""What a replay answers: latencies with percentiles, throughput, goodput, load and stability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from budsim.performance.candidates import Booleans, Floats

QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Mean and percentiles over requests (or tokens), seconds; arrays of shape (n,)."""

    mean: Floats
    p50: Floats
    p90: Floats
    p95: Floats
    p99: Floats

    def scaled(self, factor: Floats) -> Percentiles:
        """Return all of them times a factor (n,)."""
        values = {each.name: getattr(self, each.name) * factor for each in fields(self)}
        return Percentiles(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and percentiles of one candidate, seconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The worst latency of one request that still counts as good, seconds.

    ``itl_s`` bounds the mean gap between the tokens of a request.
    """

    ttft_s: float = np.inf
    itl_s: float = np.inf
    e2e_s: float = np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Load over time; arrays of shape (samples,), at most 256.

    ``cache_share`` is the part of the KV cache (0..1) that running requests hold.
    """

    time_s: Floats
    running: Floats
    waiting: Floats
    cache_share: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Unstable:
    """The replica cannot carry this traffic: its queue grows without end.

    ``largest_stable_rate`` is 0 where the longest request does not fit the KV cache; ``rate`` is
    nan in a closed loop.
    """

    rate: float
    largest_stable_rate: float

    def __str__(self) -> str:
        """Say it in words."""
        if self.largest_stable_rate == 0.0:
            return "the longest request does not fit the KV cache"
        return (
            f"unstable: {self.rate:.3g} requests/s come and the replica carries "
            f"{self.largest_stable_rate:.3g}; its queue grows without end"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Service of one candidate; `ReplayedService` says what each field means."""

    ttft_s: Spread
    itl_s: Spread
    tpot_s: Spread
    e2e_s: Spread
    requests_per_s: float
    output_tokens_per_s: float
    good_share: float
    good_requests_per_s: float
    running: float
    waiting: float
    cache_share: float
    peak_waiting: float
    utilisation: float
    preemptions: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedService:
    """Service of each candidate as its requests saw it; arrays of shape (n,).

    Rows that are not ``stable`` hold nan in everything but ``rate`` and ``largest_stable_rate``.

    Attributes
    ----------
    ttft_s, e2e_s : Percentiles
        From sending to the first and to the last token.
    itl_s : Percentiles
        Over all gaps between two tokens of a request.
    tpot_s : Percentiles
        Over the mean gap of each request; nan where at most one token is generated.
    requests_per_s, output_tokens_per_s : float arrays
        Throughput after warm-up; of a benchmark's run from its first request to its last token.
    good_share, good_requests_per_s : float arrays
        Share (0..1) and rate of requests within all limits.
    running, waiting : float arrays
        Mean requests being served, and sent but not being served yet.
    cache_share : float array
        Mean part of the KV cache that running requests hold, 0..1.
    peak_waiting : float array
        Most requests that waited at a time.
    utilisation : float array
        Share of time in which the engine computes, 0..1.
    preemptions : float array
        Preemptions a request, for want of cache.
    stable : bool array
        Whether the replica carries the traffic: the longest request fits its KV cache, and the rate
        is below the largest it can serve.
    rate, largest_stable_rate : float arrays
        Requests per second asked for, and carried in the long run; nan in a closed loop.
    timelines : tuple of Timeline or None
        One a candidate; None where it is not stable.
    """

    ttft_s: Percentiles
    itl_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles
    requests_per_s: Floats
    output_tokens_per_s: Floats
    good_share: Floats
    good_requests_per_s: Floats
    running: Floats
    waiting: Floats
    cache_share: Floats
    peak_waiting: Floats
    utilisation: Floats
    preemptions: Floats
    stable: Booleans
    rate: Floats
    largest_stable_rate: Floats
    timelines: tuple[Timeline | None, ...]

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.stable)

    def times(self, median: Booleans) -> dict[str, Floats]:
        """Return TTFT and TPOT (n,), seconds: medians over requests where asked, else means."""
        spreads = {"ttft": self.ttft_s, "tpot": self.tpot_s}
        return {name: np.where(median, each.p50, each.mean) for name, each in spreads.items()}

    def percentile_s(self, name: str) -> Floats:
        """Return one percentile (n,), seconds, by a name such as ``ttft_p99``."""
        quantity, _, percentile = name.rpartition("_")
        values: Floats = getattr(getattr(self, f"{quantity}_s"), percentile)
        return values

    def scaled(self, factors: Mapping[str, Floats], e2e: Floats) -> ReplayedService:
        """Return the same with TTFT, TPOT (gaps too) and latency times factors (n,).

        In a closed loop slower answers are fewer; at a rate as many come as before.
        """
        throughput = np.where(np.isnan(self.rate), 1.0 / e2e, 1.0)
        return replace(
            self,
            ttft_s=self.ttft_s.scaled(factors["ttft"]),
            tpot_s=self.tpot_s.scaled(factors["tpot"]),
            itl_s=self.itl_s.scaled(factors["tpot"]),
            e2e_s=self.e2e_s.scaled(e2e),
            requests_per_s=self.requests_per_s * throughput,
            output_tokens_per_s=self.output_tokens_per_s * throughput,
        )

    @property
    def margin(self) -> Floats:
        """Share of the largest stable rate that is left, shape (n,); nan in a closed loop."""
        return 1.0 - self.rate / self.largest_stable_rate

    def row(self, row: int) -> Replayed | Unstable:
        """Return the answer for one candidate."""
        if not self.stable[row]:
            return Unstable(
                rate=float(self.rate[row]),
                largest_stable_rate=float(self.largest_stable_rate[row]),
            )
        values: dict[str, Any] = {}
        for field in fields(Replayed):
            value = getattr(self, field.name)
            spreads = isinstance(value, Percentiles)
            values[field.name] = _spread(value, row) if spreads else float(value[row])
        return Replayed(**values)


def _spread(values: Percentiles, row: int) -> Spread:
    columns = {field.name: getattr(values, field.name) for field in fields(Percentiles)}
    return Spread(**{name: float(column[row]) for name, column in columns.items()})
