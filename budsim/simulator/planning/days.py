"""A day of a deployment: what each hour needs, what that costs, and when to add a replica."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from budsim.commons.units import GIB, SECONDS_PER_HOUR
from budsim.performance.recorded import Trace
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.plans import (
    HOURS_PER_MONTH,
    Plan,
    ReplayedRequests,
    ReplicaGroup,
)

HOURS_PER_DAY: Final = 24
DAYS_PER_MONTH: Final = HOURS_PER_MONTH / HOURS_PER_DAY
# Longest time from asking for a replica until it serves, s.
LONGEST_LEAD_S: Final = SECONDS_PER_HOUR
# Rate of reading weights, and further time until an engine serves (process, compilation, graph
# capture): our estimates, for a replica whose image and weights are on the node already.
LOAD_BYTES_PER_S: Final = 1.0 * GIB
ENGINE_START_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedDay:
    """Requests/s of each hour, and seconds from asking for a replica until it serves."""

    rates: tuple[float, ...]
    lead_time_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HourOfDay:
    """One hour: its requests/s, the replicas it needs, and what they do.

    ``chance`` is that of meeting all targets. ``seen`` is what requests of one replica see (None:
    the replicas do not carry the rate). Of pools ``replicas`` are decode workers, and
    ``prefill_workers`` read their prompts.
    """

    hour: int
    rate: float
    replicas: int
    chance: float
    meets_targets: bool
    seen: ReplayedRequests | None
    prefill_workers: int = 0

    @property
    def workers(self) -> int:
        """Replicas, or workers of both pools."""
        return self.replicas + self.prefill_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRule:
    """When to add a replica, from the replay of one.

    Attributes
    ----------
    largest_rate : float
        Most requests/s of one replica within the targets, with the chance that was asked for.
    largest_in_flight : float
        Mean requests running and waiting on a replica at that rate.
    trigger_in_flight : float
        Mean requests running and waiting on a replica at which the next one is started: while it
        loads, the load grows to ``largest_in_flight``.
    growth : float
        Share by which the load grows in the lead time where the day rises most steeply.
    """

    largest_rate: float
    largest_in_flight: float
    trigger_in_flight: float
    growth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfReplicas:
    """A deployment through a day. ``plan`` has as many replicas as the busiest hour needs."""

    plan: Plan
    hours: tuple[HourOfDay, ...]
    rule: ScalingRule | None
    lead_time_s: float

    @property
    def meets_targets(self) -> bool:
        """Whether every hour meets the targets with the chance that was asked for."""
        return all(hour.meets_targets for hour in self.hours)

    @property
    def most(self) -> int:
        """Replicas of a constant fleet, which the busiest hour needs; workers of both pools."""
        return sum(max(counts) for _, counts in self._counts())

    @property
    def fewest(self) -> int:
        """Replicas of the quietest hour."""
        return min(hour.workers for hour in self.hours)

    @property
    def replica_hours(self) -> float:
        """Replica-hours of the hours given, with those spent loading before an hour begins.

        Hours of 2 and 4 replicas with a lead time of 360 s: 6, and 2 x 0.1 for two that load.
        """
        return sum(self._hours_of(counts) for _, counts in self._counts())

    @property
    def usd_per_day(self) -> float:
        """Cost of a day of such hours with as many replicas as each needs."""
        return self._per_day(
            sum(_usd_per_hour(group) * self._hours_of(each) for group, each in self._counts())
        )

    @property
    def constant_usd_per_day(self) -> float:
        """Cost of a day with as many replicas as the busiest hour needs, all the time."""
        hours = len(self.hours)
        return self._per_day(
            sum(_usd_per_hour(group) * max(each) * hours for group, each in self._counts())
        )

    @property
    def saved_share(self) -> float:
        """Share of the constant fleet's cost that following the load saves."""
        return 1.0 - self.usd_per_day / self.constant_usd_per_day if self.usd_per_day else 0.0

    def _counts(self) -> Iterator[tuple[ReplicaGroup, list[int]]]:
        """Yield each group of the plan with its replicas hour by hour."""
        yield self.plan.groups[-1], [hour.replicas for hour in self.hours]
        if self.plan.is_disaggregated:
            yield self.plan.groups[0], [hour.prefill_workers for hour in self.hours]

    def _hours_of(self, counts: list[int]) -> float:
        needed = np.array(counts)
        # Of a whole day the first hour follows the last one.
        before = np.roll(needed, 1)
        if len(needed) < HOURS_PER_DAY:
            before[0] = needed[0]
        started = np.maximum(needed - before, 0).sum()
        return float(needed.sum() + started * self.lead_time_s / SECONDS_PER_HOUR)

    def _per_day(self, usd: float) -> float:
        return usd * HOURS_PER_DAY / len(self.hours)


def each_hour(
    hours: Sequence[Traffic], judged: Callable[[int, Traffic], HourOfDay]
) -> tuple[HourOfDay, ...]:
    """Return what each hour needs by ``judged``, which is asked once for hours of equal rates.

    Hours of a trace are all different, whatever their rates.
    """
    known: dict[int, HourOfDay] = {}
    found = []
    for number, traffic in enumerate(hours):
        key = id(traffic) if isinstance(traffic.arrivals, Trace) else hash(traffic.rate)
        if key not in known:
            known[key] = judged(number, traffic)
        found.append(replace(known[key], hour=number))
    return tuple(found)


def usual_lead_s(groups: Sequence[ReplicaGroup]) -> float:
    """Return the seconds until the slowest of some replicas serves.

    Devices of a replica load their own parts of the weights side by side.
    """
    most_bytes = max(group.memory.weight_bytes for group in groups)
    return most_bytes / LOAD_BYTES_PER_S + ENGINE_START_S


def _usd_per_hour(group: ReplicaGroup) -> float:
    """Return what one replica costs an hour."""
    return group.cost_usd_per_h / group.replicas
