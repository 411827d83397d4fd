"""The events of a run: their content, their topics, and ids that stay the same when sent again.

Every event is published flat: the body itself is the CloudEvent. Callers refuse further keys at
its top, so an event's id and its place in the run stand in the payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid5

from budsim.commons.tracing import trace_id
from budsim.simulator.schemas import (
    NotificationMetadata,
    Recommendations,
    RunRequest,
    WorkflowMetadata,
)
from budsim.simulator.storage.records import WORKFLOW_NAME, Envelope, Json, Run, Status

SOURCE = "budsim"
RECOMMENDATION_TYPE = "get_cluster_recommendations"
METADATA_TYPE = "workflow_metadata"
# Drawn once; ids of events are UUIDs of version 5 in it.
NAMESPACE = UUID("6f1e7e0c-8f0e-5f0a-9d53-5a1f3f4b7c11")

TITLES = {
    "validation": "Validating the request",
    "eta": "Estimated time",
    "performance_estimation": "Estimating performance",
    "ranking": "Ranking deployments",
    "results": "Deployment recommendations",
}


class Announcer:
    """Makes the events of one run for every topic its caller listens on.

    Parameters
    ----------
    run, request
        Whose events, and who is told.
    own_topic : str
        The topic budsim listens on, so that callers can answer.
    notify_topic : str or None
        The notification service's topic: told too where the request names subscribers.
    now_s : float
        Time of the events, seconds since the epoch.
    """

    def __init__(
        self,
        run: Run,
        request: RunRequest,
        *,
        own_topic: str,
        notify_topic: str | None = None,
        now_s: float,
    ) -> None:
        self._run, self._request, self._now_s = run, request, now_s
        self._own_topic, self._notify_topic = own_topic, notify_topic
        self._wanted = request.notification_metadata or NotificationMetadata()

    def accepted(self) -> list[Envelope]:
        """Return the first event: the workflow metadata itself, without a payload."""
        metadata = WorkflowMetadata.of(self._run).model_dump(mode="json", exclude={"object"})
        return self._addressed(METADATA_TYPE, self._run.status, "", METADATA_TYPE, metadata)

    def step(
        self, event: str, status: Status, message: str, *, result: Recommendations | None = None
    ) -> list[Envelope]:
        """Return one event of a step; ``message`` tells progress events apart."""
        content = {
            "title": TITLES[event],
            "message": message,
            "status": status.value,
            "result": result.model_dump(mode="json") if result else None,
            "primary_action": "retry" if status is Status.FAILED else None,
            "secondary_action": None,
        }
        payload = {
            "category": self._wanted.category.value,
            "type": RECOMMENDATION_TYPE,
            "event": event,
            "workflow_id": self._wanted.workflow_id or self._run.run_id,
            "source": SOURCE,
            "content": content,
        }
        # Ids tell progress events apart by their message. The ETA is told once, whatever it is.
        detail = message if status is Status.RUNNING and event != "eta" else ""
        return self._addressed(event, status, detail, RECOMMENDATION_TYPE, {"payload": payload})

    def _addressed(
        self, event: str, status: str, detail: str, kind: str, told: Mapping[str, object]
    ) -> list[Envelope]:
        """Return one event as it goes to each topic: the same body under the same id."""
        parts = (self._run.run_id, self._run.attempt, event, status, detail)
        event_id = str(uuid5(NAMESPACE, "/".join(map(str, parts))))
        # No `topic` in the body: Dapr adds it, and the body is stored once for all topics.
        body = {**told, **self._addresses(), "type": kind, **self._time_and_trace()}
        return [
            Envelope(
                event_id=event_id,
                topic=topic,
                event=event,
                status=status,
                body=body,
                created_s=self._now_s,
            )
            for topic in self._topics() or (None,)
        ]

    def _topics(self) -> tuple[str, ...]:
        wanted = self._wanted
        named = self._request.topics
        if self._notify_topic and (wanted.subscriber_ids or wanted.topic_keys):
            named = (*named, self._notify_topic)
        return tuple(dict.fromkeys(named))

    def _addresses(self) -> Json:
        """Return what the caller wants echoed; ``name`` is never null."""
        echoed = self._wanted.model_dump(mode="json", exclude={"workflow_id", "category"})
        named = {"name": self._wanted.name or WORKFLOW_NAME}
        return {**echoed, **named, "source": SOURCE, "source_topic": self._own_topic}

    def _time_and_trace(self) -> Json:
        found: Json = {
            "specversion": "1.0",
            "time": datetime.fromtimestamp(self._now_s, UTC).isoformat(),
        }
        if trace_id(self._request.traceparent):
            trace = {name: getattr(self._request, name) for name in ("traceparent", "tracestate")}
            found |= {name: value for name, value in trace.items() if value}
        return found


def published_body(envelope: Envelope) -> Json:
    """Return an event as it lies on a topic: its id and its place in the run are in the payload.

    The workflow metadata has no payload; it is the first event of its run.
    """
    payload = envelope.body.get("payload")
    if payload is None:
        return dict(envelope.body)
    place = {"event_id": envelope.event_id, "sequence": envelope.sequence}
    return {**envelope.body, "payload": {**payload, **place}}
