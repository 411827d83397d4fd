"""Answers as JSON documents, in the names of the HTTP service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from budsim.api.prices import price_document

if TYPE_CHECKING:
    from budsim.simulator.planning.device_sets import SizingResult
    from budsim.simulator.planning.knob_changes import KnobChange
    from budsim.simulator.planning.plans import Outcome, Plan, Rejection, ReplicaGroup
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.sizing import Capacity


def outcome_document(question: Question, outcome: Outcome) -> dict[str, Any]:
    """Return the plans of an answer, without run ids and times, which differ between runs.

    ``configurations`` are the answer: all plans, best first, ready to deploy. ``answer`` names the
    best one. ``recommendations`` tell the best plan of each cluster in the HTTP service's terms.
    """
    from budsim.simulator.planning.taste import toss_ups
    from budsim.simulator.schemas import ClusterMetrics, DeploymentConfiguration, stored_plans

    stored = stored_plans(outcome, question, keep=len(outcome.plans))
    best = {plan.cluster_id: plan for plan in reversed(stored)}
    return {
        "object": "cluster_recommendations",
        "model": question.architecture.model_id,
        "input_tokens": round(question.traffic.input_tokens),
        "output_tokens": round(question.traffic.output_tokens),
        "recommendations": [
            ClusterMetrics.of(plan).model_dump(mode="json")
            for plan in stored
            if plan is best[plan.cluster_id]
        ],
        "answer": outcome.plans[0].groups[0].config_id if outcome.plans else None,
        "toss_ups": [plan.groups[0].config_id for plan in toss_ups(outcome.plans)],
        "knees": [plan.groups[0].config_id for plan in outcome.plans if plan.is_knee],
        "configurations": [
            DeploymentConfiguration.of(plan).model_dump(mode="json") for plan in stored
        ],
        "reasons": reasons_document(outcome.rejections),
        "evaluations": outcome.evaluations,
        "seed": question.seed,
    }


def capacity_document(question: Question, found: Iterable[Capacity]) -> dict[str, Any]:
    """Return how many requests each cluster serves, and the plan that does."""
    from budsim.simulator.schemas import CapacitiesAnswer

    return CapacitiesAnswer.of(question, found).model_dump(mode="json")


def sized_document(question: Question, found: SizingResult) -> dict[str, Any]:
    """Return the cheapest sets of devices for a load."""
    sets = [
        {
            "device": each.device.name,
            "devices": each.devices,
            "usd_per_hour": each.plan.cost_usd_per_h,
            "usd_per_hour_source": each.device.sources.get("price_usd_per_h"),
            "usd_per_month": each.plan.cost_usd_per_month,
            "price": price_document(each.device),
            "purchase_usd": each.purchase_usd,
            "configuration": configuration_document(question, each.plan),
        }
        for each in found.sets
    ]
    return {
        "object": "device_sets",
        "model": question.architecture.model_id,
        "sets": sets,
        "reasons": reasons_document(found.rejections),
        "evaluations": found.evaluations,
        "seed": question.seed,
    }


def changes_document(question: Question, changes: Iterable[KnobChange]) -> list[dict[str, Any]]:
    """Return what each changed setting does: the node group before and after.

    Of a disaggregated plan these are its decode workers; prefill workers have keys of their own.
    """
    from budsim.simulator.schemas import node_group

    def stated(group: ReplicaGroup | None) -> dict[str, Any] | None:
        """Return a group as callers read it."""
        return node_group(group, question).model_dump(mode="json") if group else None

    return [
        {
            "knob": each.knob,
            "value": each.value,
            "before": stated(each.before),
            "after": stated(each.after),
            "problem": each.problem or None,
        }
        | (
            {
                "prefill_before": stated(each.prefill_before),
                "prefill_after": stated(each.prefill_after),
            }
            if each.prefill_before
            else {}
        )
        for each in changes
    ]


def reasons_document(rejections: Iterable[Rejection]) -> list[Any]:
    """Return what is not in an answer, and why."""
    from budsim.simulator.schemas import Reason

    return [Reason.of(rejection).model_dump(mode="json") for rejection in rejections]


def configuration_document(question: Question, plan: Plan) -> Any:
    """Return a plan as callers deploy it."""
    from budsim.simulator.schemas import deployment_of

    return deployment_of(plan, question).model_dump(mode="json")
