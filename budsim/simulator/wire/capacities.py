"""How many requests clusters serve, as callers read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from budsim.simulator.planning.question import Question
from budsim.simulator.wire.fields import finite_or_none
from budsim.simulator.wire.node_groups import AS_PLANNED, LaunchOverrides
from budsim.simulator.wire.recommendations import DeploymentConfiguration, Reason, deployment_of

if TYPE_CHECKING:
    from budsim.simulator.planning.sizing import Capacity


class ClusterCapacity(BaseModel):
    """The most requests that one cluster serves within the targets, and by what.

    Rates are null where the most requests in flight are asked for.
    """

    cluster_id: str
    concurrency: int = Field(description="requests in flight that are served; 0: none")
    requests_per_s: float | None = Field(
        None, description="largest rate that is served, requests/s; 0: none"
    )
    configuration: DeploymentConfiguration | None = Field(
        None, description="the deployment that serves them; null: none does"
    )
    refused_concurrency: int | None = Field(
        None, description="fewest requests in flight known to be too many; null: none is"
    )
    refused_requests_per_s: float | None = Field(
        None, description="lowest rate known to be too high, requests/s; null: none is"
    )
    configuration_beyond: DeploymentConfiguration | None = Field(
        None,
        description="the best deployment found for what is refused; null: queues grow without end",
    )
    reasons: list[Reason]

    @classmethod
    def of(
        cls, capacity: Capacity, question: Question, overrides: LaunchOverrides
    ) -> ClusterCapacity:
        """Return what a cluster serves in the wire's words."""
        plan, beyond = capacity.plan, capacity.beyond
        return cls(
            cluster_id=capacity.cluster.cluster_id,
            concurrency=capacity.concurrency,
            requests_per_s=finite_or_none(capacity.rate),
            configuration=deployment_of(plan, question, overrides) if plan else None,
            refused_concurrency=capacity.refused or None,
            refused_requests_per_s=capacity.refused_rate or None,
            configuration_beyond=deployment_of(beyond, question, overrides) if beyond else None,
            reasons=[Reason.of(rejection) for rejection in capacity.rejections],
        )


class CapacitiesAnswer(BaseModel):
    """How many requests each cluster serves within the targets."""

    object: Literal["capacities"] = "capacities"
    model: str
    clusters: list[ClusterCapacity] = Field(description="what each cluster serves")
    seed: int = Field(description="seed of the search: the same gives the same answer")

    @classmethod
    def of(
        cls,
        question: Question,
        found: Iterable[Capacity],
        overrides: LaunchOverrides = AS_PLANNED,
    ) -> CapacitiesAnswer:
        """Return what was found in the wire's words."""
        return cls(
            model=question.architecture.model_id,
            clusters=[ClusterCapacity.of(each, question, overrides) for each in found],
            seed=question.seed,
        )
