"""A day of replicas as callers read it: what each hour needs, what it costs, when to add one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from budsim.simulator.planning.days import DAYS_PER_MONTH, DayOfReplicas, HourOfDay
from budsim.simulator.planning.question import Question
from budsim.simulator.wire.fields import finite_or_none, is_none
from budsim.simulator.wire.node_groups import AS_PLANNED, LaunchOverrides
from budsim.simulator.wire.recommendations import DeploymentConfiguration, Reason, deployment_of

if TYPE_CHECKING:
    from budsim.simulator.planning.daily_replicas import DayAnswer


class ReplicasOfHour(BaseModel):
    """One hour of a day: its replicas, and what its requests see.

    Figures of requests are null where the replicas do not carry the rate.
    """

    hour: int = Field(description="hour of the day, 0 is the first")
    requests_per_s: float = Field(description="requests/s that come")
    replicas: int = Field(description="replicas it needs; of pools, decode workers")
    prefill_workers: int | None = Field(
        None, exclude_if=is_none, description="prefill workers; absent where there are no pools"
    )
    meets_targets: bool = Field(description="whether all targets are met with the chance asked for")
    chance: float = Field(description="chance of meeting all targets, 0 to 1")
    ttft_p99_s: float | None = Field(description="time to first token of 99 % of requests, s")
    itl_p99_s: float | None = Field(description="gap between two tokens, of 99 % of them, s")
    e2e_p99_s: float | None = Field(description="end-to-end latency of 99 % of requests, s")
    in_flight_per_replica: float | None = Field(
        description="mean requests running and waiting on a replica"
    )

    @classmethod
    def of(cls, hour: HourOfDay) -> ReplicasOfHour:
        """Return an hour in the wire's words."""
        seen = hour.seen
        return cls(
            hour=hour.hour,
            requests_per_s=hour.rate,
            replicas=hour.replicas,
            prefill_workers=hour.prefill_workers or None,
            meets_targets=hour.meets_targets,
            chance=hour.chance,
            ttft_p99_s=finite_or_none(seen.ttft_s.p99) if seen else None,
            itl_p99_s=finite_or_none(seen.itl_s.p99) if seen else None,
            e2e_p99_s=finite_or_none(seen.e2e_s.p99) if seen else None,
            in_flight_per_replica=seen.running + seen.waiting if seen else None,
        )


class ReplicaScaling(BaseModel):
    """By what the replicas are scaled, as `budsim render` reads it.

    The last four are null for pools, and where no load of one replica meets the targets.
    """

    min_replicas: int = Field(description="replicas of the quietest hour; workers of both pools")
    max_replicas: int = Field(description="replicas of the busiest hour; workers of both pools")
    lead_time_s: float = Field(description="seconds from asking for a replica until it serves")
    replicas_by_hour: list[int] = Field(description="of each hour; of pools, decode workers")
    requests_per_s_per_replica: float | None = Field(
        description="most requests/s of one replica within the targets"
    )
    in_flight_per_replica: float | None = Field(
        description="requests running and waiting on a replica at that rate"
    )
    in_flight_to_scale_at: float | None = Field(
        description="requests running and waiting on a replica at which to add one"
    )
    growth_in_lead_time: float | None = Field(
        description="share by which the load grows in the lead time in the steepest rise of the day"
    )

    @classmethod
    def of(cls, day: DayOfReplicas) -> ReplicaScaling:
        """Return the rule of a day in the wire's words."""
        rule = day.rule
        return cls(
            min_replicas=day.fewest,
            max_replicas=day.most,
            lead_time_s=day.lead_time_s,
            replicas_by_hour=[hour.replicas for hour in day.hours],
            requests_per_s_per_replica=rule.largest_rate if rule else None,
            in_flight_per_replica=rule.largest_in_flight if rule else None,
            in_flight_to_scale_at=rule.trigger_in_flight if rule else None,
            growth_in_lead_time=rule.growth if rule else None,
        )


class DailyCost(BaseModel):
    """What following the load costs, and what the most replicas cost all the time."""

    usd_per_day: float = Field(description="USD of a day with the replicas that each hour needs")
    usd_per_month: float = Field(description="the same of a month")
    constant_usd_per_day: float = Field(description="USD of a day with the most replicas all day")
    constant_usd_per_month: float = Field(description="the same of a month")
    saved_share: float = Field(description="share of it that following the load saves, 0 to 1")
    replica_hours_per_day: float = Field(description="hours of replicas that are paid for in a day")

    @classmethod
    def of(cls, day: DayOfReplicas) -> DailyCost:
        """Return the cost of a day in the wire's words."""
        return cls(
            usd_per_day=day.usd_per_day,
            usd_per_month=day.usd_per_day * DAYS_PER_MONTH,
            constant_usd_per_day=day.constant_usd_per_day,
            constant_usd_per_month=day.constant_usd_per_day * DAYS_PER_MONTH,
            saved_share=day.saved_share,
            replica_hours_per_day=day.replica_hours,
        )


class DayOfReplicasAnswer(BaseModel):
    """The deployment that is cheapest over the day, and its replicas in each hour.

    Where nothing serves the busiest hour, ``reasons`` say why. `budsim render` makes autoscalers of
    this answer.
    """

    object: Literal["replicas_over_a_day"] = "replicas_over_a_day"
    model: str
    input_tokens: int
    output_tokens: int
    configurations: list[DeploymentConfiguration] = Field(
        description="the deployment with the replicas of the busiest hour; empty: nothing serves it"
    )
    hours: list[ReplicasOfHour] = Field(description="replicas of each hour")
    scaling: ReplicaScaling | None = Field(description="when to add a replica; null: no deployment")
    cost: DailyCost | None = Field(description="what the day costs; null: no deployment")
    reasons: list[Reason]
    evaluations: int = Field(description="configurations that were compared")
    seed: int = Field(description="seed of the search: the same gives the same answer")

    @classmethod
    def of(
        cls, question: Question, found: DayAnswer, overrides: LaunchOverrides = AS_PLANNED
    ) -> DayOfReplicasAnswer:
        """Return what was found about a day in the wire's words."""
        day, traffic = found.day, question.traffic
        return cls(
            model=question.architecture.model_id,
            input_tokens=round(traffic.input_tokens),
            output_tokens=round(traffic.output_tokens),
            configurations=[deployment_of(day.plan, question, overrides)] if day else [],
            hours=[ReplicasOfHour.of(hour) for hour in day.hours] if day else [],
            scaling=ReplicaScaling.of(day) if day else None,
            cost=DailyCost.of(day) if day else None,
            reasons=[Reason.of(rejection) for rejection in found.rejections],
            evaluations=found.evaluations,
            seed=question.seed,
        )
