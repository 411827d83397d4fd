"""How many replicas each hour of a day needs, of the deployment that is cheapest over the day.

A day is given by hourly rates or by a trace. The deployment is searched for the busiest hour; every
hour is then replayed on fewer of its replicas, and judged with the same chance as any plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.commons.units import SECONDS_PER_HOUR
from budsim.engine_ops import serving_engines
from budsim.performance.candidates import Integers
from budsim.performance.items import as_served
from budsim.performance.predictor import Predictor
from budsim.performance.recorded import Trace
from budsim.performance.traffic import LEAST_RATE, OpenLoop, Traffic
from budsim.simulator.evolution import Progress
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.choices import make_option
from budsim.simulator.planning.daily_pools import pools_over_a_day
from budsim.simulator.planning.days import (
    HOURS_PER_DAY,
    LONGEST_LEAD_S,
    DayOfReplicas,
    HourOfDay,
    ScalingRule,
    each_hour,
    usual_lead_s,
)
from budsim.simulator.planning.group_changes import hardware_of_group, row_of
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.plans import Plan, Rejection, ReplayedRequests
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replica_groups import (
    JudgedRows,
    judge_rows,
    plan_of,
    predict_choices,
)
from budsim.simulator.planning.scoring import Scoring

# The most a replica carries is sought to 1 %.
CLOSE: Final = 1.01
# Plans for the busiest hour whose cost over the day is compared.
COMPARED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DayAnswer:
    """The cheapest deployment over the day, or reasons why nothing serves its busiest hour."""

    day: DayOfReplicas | None
    rejections: tuple[Rejection, ...]
    evaluations: int


def hours_of(traffic: Traffic, rates: Sequence[float] | None = None) -> tuple[Traffic, ...]:
    """Return the traffic of each hour: at hourly rates, or cut from a trace.

    A trace of several days gives the busiest of each hour of the day; its first hour begins with
    its first request.

    Raises
    ------
    InvalidInput
        Neither is given, rates are none of 1 to 24, or one of them is out of range.
    """
    if rates is not None:
        if not 1 <= len(rates) <= HOURS_PER_DAY:
            raise InvalidInput("hourly", f"{len(rates)} rates", "1 to 24, one for each hour")
        try:
            # An hour without requests is one with hardly any.
            return tuple(traffic.at(rate or LEAST_RATE) for rate in rates)
        except InvalidInput as error:
            raise InvalidInput("hourly", f"a rate {error.problem}", error.expected) from error
    if not isinstance(traffic.arrivals, Trace):
        raise InvalidInput("hourly", "is not given", "hourly rates, or a trace")
    return _hours_of_trace(traffic, traffic.arrivals)


def _hours_of_trace(traffic: Traffic, trace: Trace) -> tuple[Traffic, ...]:
    hour = np.floor((trace.send_s - trace.send_s[0]) / SECONDS_PER_HOUR)
    # Hours without requests are not counted one by one: a trace may pause for years.
    known, counts = np.unique(hour, return_counts=True)
    busiest = []
    for first in range(int(min(known[-1] + 1, HOURS_PER_DAY))):
        same = known % HOURS_PER_DAY == first
        busiest.append(known[same][np.argmax(counts[same])] if same.any() else float(first))
    return tuple(_cut(traffic, trace, np.flatnonzero(hour == at)) for at in busiest)


def _cut(traffic: Traffic, trace: Trace, kept: Integers) -> Traffic:
    """Return the requests ``kept`` of a trace; prefixes of earlier hours are computed again."""
    times = trace.send_s[kept]
    if len(kept) < 2 or times[0] == times[-1]:
        # Too few to have a rate of their own: they come at random within the hour.
        rate = max(len(kept), 1) / SECONDS_PER_HOUR
        return replace(traffic, arrivals=OpenLoop(requests_per_s=rate))
    source = trace.reused_from[kept]
    inside = source >= kept[0]
    part = Trace(
        send_s=times - times[0],
        prompt_tokens=trace.prompt_tokens[kept],
        output_tokens=trace.output_tokens[kept],
        reused_from=np.where(inside, source - kept[0], -1),
        reused_tokens=np.where(inside, trace.reused_tokens[kept], 0),
    )
    return replace(traffic, arrivals=part)


def replicas_over_a_day(
    question: Question,
    hours: Sequence[Traffic],
    predictor: Predictor,
    *,
    lead_time_s: float | None = None,
    progress: Progress = lambda _: None,
) -> DayAnswer:
    """Return how many replicas each hour needs, of the deployment that is cheapest over the day.

    Parameters
    ----------
    question : Question
        Model, targets, clusters and chance; its traffic does not matter.
    hours : sequence of Traffic
        What comes in each hour, see `hours_of`.
    predictor : Predictor
        Predicts candidates.
    lead_time_s : float, optional
        Seconds from asking for a replica until it serves, at most an hour. By default the time to
        load its weights at 1 GiB/s and 120 s for the engine to start, both our estimates.
    progress : Progress
        Told the share of the work that is done.

    Raises
    ------
    InvalidInput
        The lead time is out of range.
    """
    if lead_time_s is not None and not 0.0 <= lead_time_s <= LONGEST_LEAD_S:
        expected = f"0 to {LONGEST_LEAD_S:g} s"
        raise InvalidInput("lead_time_s", f"{lead_time_s} is out of range", expected)
    hours = [as_served(question.architecture, hour) for hour in hours]
    # Replicas of one kind: those of several kinds cannot be scaled by one threshold.
    busiest = max(hours, key=lambda each: each.rate)
    asked = replace(question, traffic=busiest, allow_mixed=False)
    outcome = answer(asked, predictor, progress=lambda share: progress(0.5 * share))
    plans = [plan for plan in outcome.plans if plan.meets_targets] or outcome.plans[:1]
    days = []
    for number, plan in enumerate(plans[:COMPARED], start=1):
        days.append(_day_of(asked, plan, hours, lead_time_s, predictor))
        progress(0.5 + 0.5 * number / len(plans[:COMPARED]))
    best = min(days, key=lambda day: (not day.meets_targets, day.usd_per_day), default=None)
    return DayAnswer(day=best, rejections=outcome.rejections, evaluations=outcome.evaluations)


def _day_of(
    question: Question,
    plan: Plan,
    hours: Sequence[Traffic],
    lead_time_s: float | None,
    predictor: Predictor,
) -> DayOfReplicas:
    """Return a plan through the day: replicas by a threshold, workers of pools by the clock."""
    if plan.is_disaggregated:
        return pools_over_a_day(question, plan, hours, lead_time_s)
    return _Fleet.of(question, plan, predictor).through(hours, lead_time_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    """Replicas of one plan, of which any number up to ``capacity`` can be had."""

    question: Question
    plan: Plan
    predictor: Predictor
    hardware: HardwareGroup
    capacity: int

    @classmethod
    def of(cls, question: Question, plan: Plan, predictor: Predictor) -> _Fleet:
        group = plan.groups[0]
        hardware = hardware_of_group(question, plan, group)
        return cls(
            question=question,
            plan=plan,
            predictor=predictor,
            hardware=hardware,
            capacity=hardware.capacity(group.config.tp, group.config.pp),
        )

    def through(self, hours: Sequence[Traffic], lead_time_s: float | None) -> DayOfReplicas:
        """Return the replicas of each hour, and the rule by which they are scaled."""
        lead_s = usual_lead_s(self.plan.groups) if lead_time_s is None else lead_time_s
        rule = self._rule([each.rate for each in hours], lead_s)
        found = each_hour(hours, lambda number, traffic: self._hour(number, traffic, rule))
        most = max(hour.replicas for hour in found)
        return DayOfReplicas(plan=self._plan_of(most), hours=found, rule=rule, lead_time_s=lead_s)

    def _hour(self, number: int, traffic: Traffic, rule: ScalingRule | None) -> HourOfDay:
        """Return the fewest replicas with which an hour meets the targets; all where none do."""
        carried = rule.largest_rate if rule else 0.0
        first = math.ceil(traffic.rate / carried - 1e-9) if carried else self.capacity
        replicas = min(max(first, 1), self.capacity)
        found = self._predicted(traffic, replicas)
        if _meets(found):
            while replicas > 1 and _meets(fewer := self._predicted(traffic, replicas - 1)):
                replicas, found = replicas - 1, fewer
        else:
            while replicas < self.capacity and not _meets(found):
                replicas += 1
                found = self._predicted(traffic, replicas)
        return HourOfDay(
            hour=number,
            rate=traffic.rate,
            replicas=replicas,
            chance=float(found.judged.chance[0]),
            meets_targets=_meets(found),
            seen=_seen(found),
        )

    def _rule(self, rates: Sequence[float], lead_s: float) -> ScalingRule | None:
        """Return when to add a replica; None where a lone replica misses at the lowest rate too."""
        replicas = self.plan.groups[0].replicas

        def at(rate: float) -> JudgedRows:
            """Predict replicas that each receive so many requests/s."""
            offered = self.question.traffic.at(max(rate * replicas, LEAST_RATE))
            return self._predicted(offered, replicas)

        largest = _largest_rate(at, max(rates) / replicas)
        if not largest:
            return None
        growth = _growth(rates, lead_s)
        return ScalingRule(
            largest_rate=largest,
            largest_in_flight=_in_flight(at(largest)),
            trigger_in_flight=_in_flight(at(largest / (1.0 + growth))),
            growth=growth,
        )

    def _predicted(self, traffic: Traffic, replicas: int) -> JudgedRows:
        """Judge one hour's traffic on so many replicas, a table of one row."""
        row = row_of(self.plan.groups[0].config, replicas)
        return judge_rows(self._scoring(traffic), row, self.predictor, np.ones(1))

    def _scoring(self, traffic: Traffic) -> Scoring:
        question, group = replace(self.question, traffic=traffic), self.plan.groups[0]
        engine, weights = serving_engines[group.engine], (group.config.weight_precision,)
        return Scoring(question, (make_option(question, self.hardware, engine, weights),))

    def _plan_of(self, replicas: int) -> Plan:
        """Return the plan with another number of replicas, in its busiest hour."""
        if replicas == self.plan.groups[0].replicas:
            return self.plan
        cluster = self.question.cluster(self.plan.cluster_id)
        scoring = self._scoring(self.question.traffic)
        row = row_of(self.plan.groups[0].config, replicas)
        found = predict_choices(cluster, scoring, row, [self.hardware], self.predictor)
        return replace(plan_of(found, [0]), is_knee=self.plan.is_knee)


def _ends_of_rate(at: Callable[[float], JudgedRows], start: float) -> tuple[float, float]:
    """Return a rate that meets the targets (0: none does) and one that does not."""
    low, high = (start, 0.0) if _meets(at(start)) else (0.0, start)
    while not high:
        low, high = (2.0 * low, 0.0) if _meets(at(2.0 * low)) else (low, 2.0 * low)
    while not low and high > start / 1e3:
        low, high = (high / 4.0, high) if _meets(at(high / 4.0)) else (0.0, high / 4.0)
    return low, high


def _largest_rate(at: Callable[[float], JudgedRows], start: float) -> float:
    """Return the largest rate of a replica that meets the targets, to 1 %; 0 where none does."""
    low, high = _ends_of_rate(at, start)
    while low and high / low > CLOSE:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _meets(at(middle)) else (low, middle)
    return low


def _growth(rates: Sequence[float], lead_s: float) -> float:
    """Return by what share the load grows at most in the lead time, from hour to hour linearly.

    Rates of 10 and 20 in two hours and a lead time of 360 s: 0.1. More than a doubling is not
    waited for: where the load starts from nothing, the clock has to start the replicas.
    """
    after = [*rates[1:], rates[0]] if len(rates) == HOURS_PER_DAY else rates[1:]
    rises = [late / early - 1.0 for early, late in zip(rates, after, strict=False)]
    return min(max([0.0, *rises]) * lead_s / SECONDS_PER_HOUR, 1.0)


def _meets(found: JudgedRows) -> bool:
    return bool(found.judged.shortfall[0] == 0.0)


def _seen(found: JudgedRows) -> ReplayedRequests | None:
    seen = found.replayed.requests(0)
    return seen if isinstance(seen, ReplayedRequests) else None


def _in_flight(found: JudgedRows) -> float:
    seen = _seen(found)
    return seen.running + seen.waiting if seen else 0.0
