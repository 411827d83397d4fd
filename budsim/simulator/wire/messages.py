"""Short answers: messages, errors, the state of a workflow, what became of a message."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from budsim.simulator.storage.records import WORKFLOW_NAME, Json, Run, Status

STEPS = (
    ("validation", "Validation", "Check the request, the model and the hardware inventory"),
    (
        "performance_estimation",
        "Performance estimation",
        "Predict and search deployments on every cluster",
    ),
    ("ranking", "Ranking", "Rank the deployments that were found"),
)


class Info(BaseModel):
    """A message."""

    object: Literal["info"] = "info"
    message: str
    param: Json | None = None


class Error(BaseModel):
    """Why a request was refused."""

    object: Literal["error"] = "error"
    message: str
    type: str
    param: str | None = None
    code: int


class WorkflowStep(BaseModel):
    """One step of a workflow."""

    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    description: str


class WorkflowMetadata(BaseModel):
    """A workflow and its state."""

    object: Literal["workflow_metadata"] = "workflow_metadata"
    workflow_id: UUID
    workflow_name: str = WORKFLOW_NAME
    # A tuple of frozen steps is not copied for every answer.
    steps: tuple[WorkflowStep, ...] = tuple(
        WorkflowStep(id=name, title=title, description=text) for name, title, text in STEPS
    )
    status: Status
    eta: int | None = None

    @classmethod
    def of(cls, run: Run) -> WorkflowMetadata:
        """Return the metadata of a run."""
        return cls(workflow_id=UUID(run.run_id), status=run.status, eta=run.eta_minutes)


class EventPage(BaseModel):
    """One page of a run's events, as they are published."""

    object: Literal["workflow_events"] = "workflow_events"
    page: int
    limit: int
    total_items: int
    total_pages: int
    items: list[Json]


class DeliveryStatus(StrEnum):
    """What the broker does with a message: forget it, send it again, or put it aside."""

    SUCCESS = "SUCCESS"
    RETRY = "RETRY"
    DROP = "DROP"


class Delivery(BaseModel):
    """What the broker should do with a message."""

    status: DeliveryStatus
