"""What the callers accept, as strict models and checks: every answer and event is held to them.

The application that listens to events refuses keys it does not know; the deployer turns the
arguments of a node group into a command line and overwrites some; the recommendation screen keeps
one row a cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

LEFT_OUT_LORAS = 5
"""Adapters the deployer starts where an answer does not say how many."""
STARTED = frozenset({"vllm", "litellm"})
"""Engines the deployer can start."""


class Payload(BaseModel):
    """What an event says; further keys are ignored."""

    model_config = ConfigDict(extra="allow")

    category: str
    type: str
    event: str
    workflow_id: str
    source: str
    content: dict[str, Any]
    event_id: str
    sequence: int


class Event(BaseModel):
    """An event as the listening application reads it; further keys at the top are refused."""

    model_config = ConfigDict(extra="forbid")

    specversion: str | None = None
    topic: str | None = None
    pubsubname: str | None = None
    source: str | None = None
    source_topic: str | None = None
    data: dict[str, Any] | None = None
    traceid: str | None = None
    tracestate: str | None = None
    traceparent: str | None = None
    type: str | None = None
    time: str | None = None
    notification_type: str = "event"
    name: str
    subscriber_ids: str | list[str] | None = None
    actor: str | None = None
    topic_keys: str | list[str] | None = None
    payload: Payload


def refused_events(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the listening application refuses; the workflow metadata is not its business."""
    found = []
    for number, body in enumerate(bodies):
        if body.get("type") == "workflow_metadata":
            continue
        try:
            Event.model_validate(body)
        except ValidationError as error:
            found += [f"event {number}: {each['loc']}: {each['msg']}" for each in error.errors()]
    return found


def command_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments the deployer starts a node group with."""
    args = dict(group["args"])
    args["gpu-memory-utilization"] = 0.95
    args["max-num-seqs"] = int(group["labels"]["concurrency"])
    if group.get("supports_lora"):
        args["enable-lora"] = True
        args["max-loras"] = group.get("max_loras", LEFT_OUT_LORAS)
    return args


def refused_deployment(configuration: Mapping[str, Any]) -> list[str]:
    """Return what keeps the deployer from starting an answer."""
    groups = configuration["node_groups"]
    count = [] if len(groups) == 1 else [f"{len(groups)} node groups; a Deployment has room for 1"]
    return count + [problem for group in groups for problem in _refused_group(group)]


def _refused_group(group: Mapping[str, Any]) -> Iterator[str]:
    if group["engine_type"] not in STARTED:
        yield f"the deployer cannot start {group['engine_type']}"
    if not isinstance(group["labels"]["concurrency"], str):
        yield "labels.concurrency is not text"
    args = command_of(group)
    if not args.get("model"):
        yield "no args.model: the engine would start its own default"
    for name, value in args.items():
        if value is None:
            yield f"--{name}=None"
    template = group["chat_template"]
    if template is not None and "/" not in template:
        yield f"{template!r} is no path in the engine's image"


def lost_rows(page: Mapping[str, Any]) -> list[str]:
    """Return the clusters of which a dictionary by cluster would lose a row."""
    rows = Counter(row["cluster_id"] for row in page["items"])
    return [cluster for cluster, count in rows.items() if count > 1]
