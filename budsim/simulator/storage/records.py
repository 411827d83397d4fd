"""The durable record of a simulation as values: the run, its plans, and its events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Json = dict[str, Any]
WORKFLOW_NAME = "run_simulation"


class Status(StrEnum):
    """States of a run, as callers read them."""

    UNKNOWN = "UNKNOWN"
    STARTED = "STARTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TERMINATED = "TERMINATED"
    PENDING = "PENDING"
    SUSPENDED = "SUSPENDED"


UNFINISHED = frozenset({Status.PENDING, Status.RUNNING})
FINISHED = frozenset({Status.COMPLETED, Status.FAILED, Status.TERMINATED})


class Step(StrEnum):
    """The step a run takes next."""

    VALIDATION = "validation"
    ESTIMATION = "performance_estimation"
    RANKING = "ranking"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One accepted request and how far it has come.

    Attributes
    ----------
    request : mapping
        The request as it was accepted, in wire names.
    attempt : int
        1, and one more with every restart; part of the ids of events.
    failures : int
        How often the current step failed for a reason that may pass.
    message : str
        The reason it failed, or a summary of its result; for callers.
    reasons : tuple of mappings
        Why clusters and devices that were asked about are not in the answer, in wire names.
    request_key : str or None
        Recognizes a repeated request: CloudEvent source and id, or Idempotency-Key.
    holder : str or None
        The replica or Dapr workflow that works on it; nobody else may write.
    written_s : float
        When it was last written to, seconds since the epoch.
    """

    run_id: str
    status: Status
    step: Step
    request: Mapping[str, Any]
    created_s: float
    attempt: int = 1
    failures: int = 0
    message: str = ""
    eta_minutes: int | None = None
    request_key: str | None = None
    fingerprint: str = ""
    reasons: tuple[Mapping[str, Any], ...] = ()
    holder: str | None = None
    written_s: float = 0.0

    @property
    def instance_id(self) -> str:
        """Name of this attempt's Dapr workflow; that of the first attempt is the run's id."""
        return self.run_id if self.attempt == 1 else f"{self.run_id}-{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One event for one topic; without a topic it is only stored and logged."""

    event_id: str
    topic: str | None
    event: str
    status: str
    body: Mapping[str, Any]
    created_s: float
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroup:
    """A replica group as callers deploy it; ``document`` is the node group of the wire."""

    config_id: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A ranked plan of a finished run.

    Service in base units; None where it is unknown, as for cloud providers.
    """

    rank: int
    cluster_id: str
    replicas: int
    concurrency: int
    ttft_s: float | None
    tokens_per_s_per_user: float | None
    e2e_s: float | None
    error_rate: float
    cost_per_million_tokens_usd: float
    cost_usd_per_h: float
    quantized: bool
    groups: tuple[StoredGroup, ...]

    @property
    def devices(self) -> int:
        """Devices of all its groups."""
        documents = [group.document for group in self.groups]
        return sum(each["replicas"] * each["tp_size"] * each["pp_size"] for each in documents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a search: plans, best first, and the reasons for the rest in wire names."""

    plans: tuple[StoredPlan, ...]
    reasons: tuple[Mapping[str, Any], ...]
    evaluations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A caller's report on a deployed configuration."""

    config_id: str
    failed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFilter:
    """The stored plans that are asked for; ``best_of_cluster``: of each cluster only the best."""

    cluster_id: str | None = None
    concurrency: int | None = None
    error_rate_threshold: float = 0.5
    best_of_cluster: bool = False


EVERY_PLAN = PlanFilter(error_rate_threshold=math.inf)
