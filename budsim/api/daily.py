"""The answer about a day: replicas each hour, their cost, and when to add one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budsim.api.tabular import Tabular

if TYPE_CHECKING:
    from budsim.simulator.planning.daily_replicas import DayAnswer
    from budsim.simulator.planning.days import DayOfReplicas, HourOfDay
    from budsim.simulator.planning.plans import Rejection
    from budsim.simulator.planning.question import Question


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DailyReplicas(Tabular):
    """How many replicas each hour of a day needs; ``question`` is that of its busiest hour."""

    question: Question
    found: DayAnswer

    @property
    def day(self) -> DayOfReplicas | None:
        """The deployment that is cheapest over the day, or None where nothing fits."""
        return self.found.day

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """What is not in the answer, and why."""
        return self.found.rejections

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each hour."""
        return [hour_row(hour) for hour in self.day.hours] if self.day else []

    def render(self, form: str) -> str:
        """Return what starts or scales the replicas: ``kubernetes``, ``keda``, ``hpa`` and others.

        Raises
        ------
        InvalidInput
            There is no such form, or no deployment.
        """
        from budsim.simulator.rendering import Additions, render

        return render(self.to_json(), form, additions=Additions())

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `budsim day --json` prints."""
        from budsim.api.documents import configuration_document, reasons_document

        day = self.day
        return {
            "object": "replicas_over_a_day",
            "model": self.question.architecture.model_id,
            "input_tokens": round(self.question.traffic.input_tokens),
            "output_tokens": round(self.question.traffic.output_tokens),
            "configurations": [configuration_document(self.question, day.plan)] if day else [],
            "hours": self.rows(),
            "scaling": scaling_document(day) if day else None,
            "cost": cost_document(day) if day else None,
            "reasons": reasons_document(self.rejections),
            "evaluations": self.found.evaluations,
            "seed": self.question.seed,
        }

    def summary(self) -> str:
        """Return how many replicas the day needs, and what following the load saves."""
        day = self.day
        if day is None:
            reason = f" {self.rejections[0].reason}" if self.rejections else ""
            return f"{self.question.architecture.model_id}: nothing fits.{reason}"
        noun = "workers" if day.plan.is_disaggregated else "replicas"
        return (
            f"{day.fewest} to {day.most} {noun}, {day.usd_per_day:.2f} USD a day; "
            f"{day.constant_usd_per_day:.2f} USD with {day.most} all day."
        )


def hour_row(hour: HourOfDay) -> dict[str, Any]:
    """Return an hour's figures; latencies are those of its requests."""
    seen = hour.seen
    return {
        "hour": hour.hour,
        "requests_per_s": hour.rate,
        "replicas": hour.replicas,
        **({"prefill_workers": hour.prefill_workers} if hour.prefill_workers else {}),
        "meets_targets": hour.meets_targets,
        "chance": hour.chance,
        "ttft_p99_s": seen.ttft_s.p99 if seen else None,
        "itl_p99_s": seen.itl_s.p99 if seen else None,
        "e2e_p99_s": seen.e2e_s.p99 if seen else None,
        "in_flight_per_replica": seen.running + seen.waiting if seen else None,
    }


def scaling_document(day: DayOfReplicas) -> dict[str, Any]:
    """Return by what the replicas are scaled, as `budsim render` reads it."""
    rule = day.rule
    return {
        "min_replicas": day.fewest,
        "max_replicas": day.most,
        "lead_time_s": day.lead_time_s,
        "replicas_by_hour": [hour.replicas for hour in day.hours],
        "requests_per_s_per_replica": rule.largest_rate if rule else None,
        "in_flight_per_replica": rule.largest_in_flight if rule else None,
        "in_flight_to_scale_at": rule.trigger_in_flight if rule else None,
        "growth_in_lead_time": rule.growth if rule else None,
    }


def cost_document(day: DayOfReplicas) -> dict[str, Any]:
    """Return what following the load costs, and what the most replicas cost all the time."""
    from budsim.simulator.planning.days import DAYS_PER_MONTH

    return {
        "usd_per_day": day.usd_per_day,
        "usd_per_month": day.usd_per_day * DAYS_PER_MONTH,
        "constant_usd_per_day": day.constant_usd_per_day,
        "constant_usd_per_month": day.constant_usd_per_day * DAYS_PER_MONTH,
        "saved_share": day.saved_share,
        "replica_hours_per_day": day.replica_hours,
    }
