"""How many prefill and decode workers each hour of a day needs.

Two numbers are sought for every hour: more workers of either pool never serve worse, so that the
pairs that meet the targets end at a staircase, along which the cheapest pair is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from budsim.engine_ops import serving_engines
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.days import DayOfReplicas, HourOfDay, each_hour, usual_lead_s
from budsim.simulator.planning.group_changes import hardware_of_pools
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.known_pools import (
    Counts,
    judged_as_shown,
    paired_of,
    scoring_of,
)
from budsim.simulator.planning.plans import Plan, ReplayedRequests
from budsim.simulator.planning.pool_groups import pool_plans
from budsim.simulator.planning.pool_search import JudgedPools
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring


def pools_over_a_day(
    question: Question, plan: Plan, hours: Sequence[Traffic], lead_time_s: float | None
) -> DayOfReplicas:
    """Return the workers that each hour needs of a plan of two pools; none has more than the plan.

    No rule says when to add one: two pools have no load of one replica in common.
    """
    fleet = _PoolFleet.of(question, plan)
    found = each_hour(hours, fleet.hour)
    most = max(each.prefill_workers for each in found), max(each.replicas for each in found)
    return DayOfReplicas(
        plan=fleet.plan_of(most),
        hours=found,
        rule=None,
        lead_time_s=usual_lead_s(plan.groups) if lead_time_s is None else lead_time_s,
    )


def cheapest_counts(
    most: Counts, meets: Callable[[Counts], bool], usd_per_h: tuple[float, float]
) -> Counts:
    """Return the cheapest numbers of prefill and decode workers that meet something.

    ``meets`` stays true with more of either; where it is false for ``most``, these are returned.
    With at most (4, 3), workers of one price, and a product of 4 that is needed: (2, 2).
    """
    if not meets(most):
        return most
    (prefill, decode), best = most, most
    while decode:
        while prefill > 1 and meets((prefill - 1, decode)):
            prefill -= 1
        best = min(best, (prefill, decode), key=lambda pair: float(np.dot(pair, usd_per_h)))
        decode -= 1
        while decode and prefill <= most[0] and not meets((prefill, decode)):
            prefill += 1
        if prefill > most[0]:
            break
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class _PoolFleet:
    """Workers of both pools of one plan, of which any number up to the plan's can be had."""

    question: Question
    plan: Plan
    hardware: tuple[HardwareGroup, HardwareGroup]

    @classmethod
    def of(cls, question: Question, plan: Plan) -> _PoolFleet:
        return cls(question=question, plan=plan, hardware=hardware_of_pools(question, plan))

    def hour(self, number: int, traffic: Traffic) -> HourOfDay:
        """Return the cheapest workers with which an hour meets the targets; all where none do."""
        question = replace(self.question, traffic=traffic)
        prefill, decode = self.plan.groups
        known: dict[Counts, JudgedPools] = {}

        def judged(counts: Counts) -> JudgedPools:
            """Replay the hour on these workers, once for each pair of numbers."""
            if counts not in known:
                _, known[counts] = self._judged(question, counts)
            return known[counts]

        counts = cheapest_counts(
            (prefill.replicas, decode.replicas),
            lambda tried: _meets(judged(tried)),
            (prefill.cost_usd_per_h / prefill.replicas, decode.cost_usd_per_h / decode.replicas),
        )
        found = judged(counts)
        return HourOfDay(
            hour=number,
            rate=traffic.rate,
            replicas=counts[1],
            chance=float(found.judged.chance[0]),
            meets_targets=_meets(found),
            seen=_seen(found, counts[1]),
            prefill_workers=counts[0],
        )

    def plan_of(self, counts: Counts) -> Plan:
        """Return the plan with other numbers of workers, in its busiest hour."""
        if counts == tuple(group.replicas for group in self.plan.groups):
            return self.plan
        scoring, judged = self._judged(self.question, counts)
        cluster = self.question.cluster(self.plan.cluster_id)
        return next(iter(pool_plans(scoring, cluster, judged, self.hardware)), self.plan)

    def _judged(self, question: Question, counts: Counts) -> tuple[Scoring, JudgedPools]:
        """Replay requests through these numbers of workers."""
        prefill, decode = (group.config for group in self.plan.groups)
        engine = serving_engines[self.plan.groups[0].engine]
        configs = prefill, decode
        scoring = scoring_of(question, engine, self.hardware, configs)
        paired = paired_of(scoring, self.hardware, configs, counts)
        return scoring, judged_as_shown(question, paired)


def _meets(found: JudgedPools) -> bool:
    return bool(found.judged.shortfall[0] == 0.0)


def _seen(found: JudgedPools, workers: int) -> ReplayedRequests | None:
    """Return what requests saw, with the load of one decode worker; None where not carried."""
    seen = found.replayed.requests(0) if found.replayed else None
    if not isinstance(seen, ReplayedRequests):
        return None
    return replace(seen, running=seen.running / workers, waiting=seen.waiting / workers)
