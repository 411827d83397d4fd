"""Recommendations and deployments: plans as callers read them, and why others are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from budsim.commons.precision import bytes_per_value
from budsim.commons.units import KILO
from budsim.simulator.planning.plans import HOURS_PER_MONTH, Outcome, Plan, Rejection
from budsim.simulator.planning.question import Question
from budsim.simulator.storage.records import Json, PlanFilter, Run, StoredGroup, StoredPlan
from budsim.simulator.wire.node_groups import (
    AS_PLANNED,
    BLENDED,
    COST_PER_MONTH,
    PRICE_BASIS,
    Compression,
    EngineMetadata,
    LaunchOverrides,
    NodeGroup,
    ReplayedRequests,
    ServiceFigures,
    checkpoint_precision,
    node_group,
)

MAX_RECOMMENDED_CLUSTERS = 10
# Plans that miss the targets by more are not recommended; queries may ask for others.
ACCEPTED_ERROR_RATE = PlanFilter().error_rate_threshold
# Reasons stored with a run; more would only make its events larger.
REASONS_KEPT = 200
# Reasons named in the one-line message.
REASONS_TOLD = 3


class DeviceTypeMetrics(BaseModel):
    """One node group's share of a recommendation, in the order of the node groups."""

    device_type: str
    num_replicas: int
    concurrency: int
    cost_per_million_tokens: float
    cost_per_million_tokens_blended: float | None = BLENDED


class PlanFigures(ServiceFigures):
    """`ServiceFigures` of a whole plan, those of its groups together or where they are worst."""

    replica: int
    concurrency: int
    cost_usd_per_month: float | None = COST_PER_MONTH
    price_basis: str | None = PRICE_BASIS


class Metrics(PlanFigures):
    """Predicted service of a plan.

    ``requests`` is what single requests see in the first node group; null unless the request names
    a rate, or targets at percentiles or a goodput.
    """

    device_types: list[DeviceTypeMetrics]
    requests_per_s: float | None = None
    requests: ReplayedRequests | None = None


class ClusterMetrics(EngineMetadata):
    """One recommended deployment on one cluster.

    ``config_id`` to ``replicas`` describe its first node group, the only one unless the request
    allowed several. ``quantization_job`` makes the checkpoint it serves, where that is quantized.
    """

    cluster_id: str
    config_id: str
    device: str
    engine: str
    tp_size: int
    pp_size: int
    replicas: int
    metrics: Metrics
    quantized_metrics: Metrics | None = None
    quantization_job: Compression | None = None

    @classmethod
    def of(cls, plan: StoredPlan) -> ClusterMetrics:
        """Return a stored plan as callers read it."""
        metrics, first = _metrics(plan), plan.groups[0].document
        return cls(
            cluster_id=plan.cluster_id,
            config_id=first["config_id"],
            device=first["device_name"],
            engine=first["engine_type"],
            tp_size=first["tp_size"],
            pp_size=first["pp_size"],
            replicas=first["replicas"],
            metrics=metrics,
            quantized_metrics=metrics if plan.quantized else None,
            quantization_job=first.get("compression"),
            **_metadata(plan),
        )


class Reason(BaseModel):
    """Why something that was asked about is not recommended."""

    cluster_id: str
    subject: str
    reason: str
    devices: int = 0

    @classmethod
    def of(cls, rejection: Rejection) -> Reason:
        """Return a rejection as callers read it."""
        return cls(
            cluster_id=rejection.cluster_id,
            subject=rejection.subject,
            reason=rejection.reason,
            devices=rejection.devices,
        )


class Recommendations(BaseModel):
    """The answer of a run: the best deployment of each cluster, and why others are missing.

    ``recommendations`` are best first and miss the targets by at most 50 % on average. Where there
    is none, ``nearest`` is the deployment that misses them least, and must not be deployed as if
    it met them.
    """

    object: Literal["cluster_recommendations"] = "cluster_recommendations"
    workflow_id: UUID
    recommendations: list[ClusterMetrics]
    created: int
    message: str = ""
    reasons: list[Reason] = []
    nearest: ClusterMetrics | None = None


class RecommendationPage(BaseModel):
    """One page of a run's plans, best first."""

    object: Literal["cluster_recommendations"] = "cluster_recommendations"
    page: int
    limit: int
    total_items: int
    total_pages: int
    items: list[ClusterMetrics]


class DeploymentConfiguration(PlanFigures, EngineMetadata):
    """A plan ready to deploy."""

    object: Literal["deployment_configuration"] = "deployment_configuration"
    id: str
    nodes: None = None
    node_groups: list[NodeGroup]
    quantization_job: Compression | None = None

    @classmethod
    def of(cls, plan: StoredPlan) -> DeploymentConfiguration:
        """Return a stored plan as callers deploy it."""
        metrics = _metrics(plan)
        return cls(
            id=plan.cluster_id,
            node_groups=[NodeGroup.model_validate(group.document) for group in plan.groups],
            quantization_job=plan.groups[0].document.get("compression"),
            **metrics.model_dump(exclude={"device_types", "requests", "requests_per_s"}),
            **_metadata(plan),
        )


def stored_plans(
    outcome: Outcome, question: Question, *, keep: int, overrides: LaunchOverrides = AS_PLANNED
) -> tuple[StoredPlan, ...]:
    """Return the best ``keep`` plans of an outcome as they are stored."""
    return tuple(
        _stored_plan(rank, plan, question, overrides)
        for rank, plan in enumerate(outcome.plans[:keep])
    )


def deployment_of(
    plan: Plan, question: Question, overrides: LaunchOverrides = AS_PLANNED
) -> DeploymentConfiguration:
    """Return a plan as callers deploy it."""
    return DeploymentConfiguration.of(_stored_plan(0, plan, question, overrides))


def recommendations_of(run: Run, plans: Sequence[StoredPlan]) -> Recommendations:
    """Return the best plan of each of the first ten clusters; ``plans`` are best first."""
    # A caller takes a completed result for success: what misses too much must not be in it.
    best: dict[str, StoredPlan] = {}
    for plan in plans:
        if plan.error_rate <= ACCEPTED_ERROR_RATE:
            best.setdefault(plan.cluster_id, plan)
    shown = list(best.values())[:MAX_RECOMMENDED_CLUSTERS]
    nearest = plans[0] if plans and not shown else None
    told = [_nearest_reason(nearest)] if nearest else []
    return Recommendations(
        workflow_id=UUID(run.run_id),
        recommendations=[ClusterMetrics.of(plan) for plan in shown],
        created=int(run.created_s),
        message=run.message,
        reasons=[*told, *(Reason.model_validate(reason) for reason in run.reasons)],
        nearest=ClusterMetrics.of(nearest) if nearest else None,
    )


def reason_documents(rejections: Sequence[Rejection]) -> tuple[Json, ...]:
    """Return the first rejections as they are stored with a run."""
    kept = rejections[:REASONS_KEPT]
    return tuple(Reason.of(rejection).model_dump(mode="json") for rejection in kept)


def found_message(plans: Sequence[StoredPlan], reasons: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence that says what a run found."""
    if not plans:
        first = reasons[:REASONS_TOLD]
        told = "; ".join(f"{reason['subject']}: {reason['reason']}" for reason in first)
        return f"No deployment is possible. {told}".strip()
    best = plans[0]
    # A provider publishes prices, but its latency is not known.
    if best.ttft_s is None:
        price = f"{best.cost_per_million_tokens_usd:g} USD per million output tokens"
        return f"Priced at {price}; latency is unknown."
    if best.error_rate > ACCEPTED_ERROR_RATE:
        nearest = f"the nearest misses them by {best.error_rate:.0%} on average"
        return f"No deployment comes close enough to the targets; {nearest}."
    if best.error_rate > 0:
        nearest = f"the nearest misses them by {best.error_rate:.1%} on average"
        return f"No deployment meets every target; {nearest}."
    good = sum(plan.error_rate == 0 for plan in plans)
    return f"{good} of {len(plans)} deployments are expected to meet every target."


def _nearest_reason(plan: StoredPlan) -> Reason:
    groups = " + ".join(_group_in_words(group.document) for group in plan.groups)
    return Reason(
        cluster_id=plan.cluster_id,
        subject=f"nearest: {groups}",
        reason=f"misses the targets by {plan.error_rate:.0%} on average: "
        f"TTFT {(plan.ttft_s or 0.0) * KILO:.0f} ms, "
        f"{plan.tokens_per_s_per_user or 0.0:.1f} tokens/s per user, "
        f"{plan.e2e_s or 0.0:.1f} s end to end",
        devices=plan.devices,
    )


def _group_in_words(group: Mapping[str, Any]) -> str:
    """Return replicas, device and layout of a node group, and its role where it is a pool."""
    role = f"{group['role']}: " if group.get("role") else ""
    layout = f"TP {group['tp_size']}, PP {group['pp_size']}"
    return f"{role}{group['replicas']} x {group['device_name']} ({layout})"


def _stored_plan(
    rank: int, plan: Plan, question: Question, overrides: LaunchOverrides
) -> StoredPlan:
    groups = [node_group(group, question, overrides) for group in plan.groups]
    native = bytes_per_value(checkpoint_precision(question.architecture))
    return StoredPlan(
        rank=rank,
        cluster_id=plan.cluster_id,
        replicas=sum(group.replicas for group in plan.groups),
        # Requests go through both pools of a disaggregated plan: they are in flight once.
        concurrency=sum(group.replicas * group.config.concurrency for group in plan.answering),
        ttft_s=plan.ttft_s,
        tokens_per_s_per_user=plan.tokens_per_s_per_user,
        e2e_s=plan.e2e_s,
        error_rate=plan.error_rate,
        cost_per_million_tokens_usd=plan.cost_per_million_tokens_usd,
        cost_usd_per_h=plan.cost_usd_per_h,
        # 16 bits and the checkpoint's own format are not quantization, whatever their width.
        quantized=any(
            bytes_per_value(group.config.weight_precision) < min(native, 2.0)
            for group in plan.groups
        ),
        groups=tuple(
            StoredGroup(config_id=group.config_id, document=group.model_dump(mode="json"))
            for group in groups
        ),
    )


def _metrics(plan: StoredPlan) -> Metrics:
    groups = [group.document for group in plan.groups]
    return Metrics(
        device_types=[
            DeviceTypeMetrics(
                device_type=group["type"],
                num_replicas=group["replicas"],
                concurrency=int(group["labels"]["concurrency"]) * group["replicas"],
                cost_per_million_tokens=group["cost_per_million_tokens"],
                cost_per_million_tokens_blended=group.get("cost_per_million_tokens_blended"),
            )
            for group in groups
        ],
        replica=plan.replicas,
        concurrency=plan.concurrency,
        ttft=None if plan.ttft_s is None else plan.ttft_s * KILO,
        throughput_per_user=plan.tokens_per_s_per_user,
        e2e_latency=plan.e2e_s,
        error_rate=plan.error_rate,
        chance=_chance(plan),
        cost_per_million_tokens=plan.cost_per_million_tokens_usd,
        cost_per_million_tokens_blended=_blended(plan),
        **_hourly(plan),
        requests_per_s=_requests_per_s(plan),
        requests=plan.groups[0].document.get("requests"),
    )


def _hourly(plan: StoredPlan) -> dict[str, Any]:
    """Return the cost of an hour and of a month, and its basis; nothing of cloud models."""
    price = plan.groups[0].document.get("price")
    if not price:
        return {}
    return {
        "cost_usd_per_h": plan.cost_usd_per_h,
        "cost_usd_per_month": plan.cost_usd_per_h * HOURS_PER_MONTH,
        "price_basis": price["basis"],
    }


def _chance(plan: StoredPlan) -> float | None:
    """Return the chance of the group that is least sure to meet the targets."""
    chances = [group.document.get("chance") for group in plan.groups]
    return min((each for each in chances if each is not None), default=None)


def _requests_per_s(plan: StoredPlan) -> float | None:
    # Prefill workers hand every request on: those that decode finish it.
    finishing = (group for group in plan.groups if group.document.get("role") != "prefill")
    rates = [group.document.get("requests_per_s") for group in finishing]
    return None if None in rates else sum(filter(None, rates))


def _blended(plan: StoredPlan) -> float | None:
    """Return the cost of all tokens; all groups have the same share of tokens that cost counts."""
    group = plan.groups[0].document
    blended, counted = (
        group.get("cost_per_million_tokens_blended"),
        group["cost_per_million_tokens"],
    )
    if blended is None:
        return None
    return plan.cost_per_million_tokens_usd * (blended / counted if counted else 1.0)


def _metadata(plan: StoredPlan) -> dict[str, Any]:
    return EngineMetadata.model_validate(plan.groups[0].document).model_dump()
