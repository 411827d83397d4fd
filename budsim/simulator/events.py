"""The events of a run: what each says, the envelope it travels in, and ids that stay the same when it is sent again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

from budsim.commons.tracing import trace_id
from budsim.simulator.schemas import (
    NotificationMetadata,
    Recommendations,
    RunRequest,
    WorkflowMetadata,
)
from budsim.simulator.storage.records import Envelope, Json, Run, Status

SOURCE = "budsim"
RECOMMENDATION_TYPE = "get_cluster_recommendations"
METADATA_TYPE = "workflow_metadata"
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
        Whose events, and who wants to be told.
    own_topic : str
        The topic budsim listens on, so that callers can answer.
    now_s : float
        Time of the events, seconds since the epoch.
    """

    def __init__(self, run: Run, request: RunRequest, *, own_topic: str, now_s: float) -> None:
        self._run = run
        self._request = request
        self._own_topic = own_topic
        self._now_s = now_s

    def accepted(self) -> list[Envelope]:
        """Return the first event: the workflow metadata itself."""
        body = (
            WorkflowMetadata.of(self._run).model_dump(mode="json")
            | self._addresses()
            | {"type": METADATA_TYPE}
        )
        return self._addressed(METADATA_TYPE, self._run.status, "", body)

    def step(
        self, event: str, status: Status, message: str, *, result: Recommendations | None = None
    ) -> list[Envelope]:
        """Return one event of a step; ``message`` tells progress events apart."""
        failed = status is Status.FAILED
        content = {
            "title": TITLES[event],
            "message": message,
            "status": status.value,
            "result": result.model_dump(mode="json") if result else None,
            "primary_action": "retry" if failed else None,
            "secondary_action": None,
        }
        wanted = self._request.notification_metadata or NotificationMetadata()
        payload = {
            "category": wanted.category.value,
            "type": RECOMMENDATION_TYPE,
            "event": event,
            "workflow_id": wanted.workflow_id or self._run.run_id,
            "source": SOURCE,
            "content": content,
        }
        body = {**self._addresses(), "type": RECOMMENDATION_TYPE, "payload": payload}
        detail = message if status is Status.RUNNING and event != "eta" else ""
        return self._addressed(event, status, detail, body)

    def _addresses(self) -> Json:
        wanted = self._request.notification_metadata or NotificationMetadata()
        echoed = wanted.model_dump(mode="json", exclude={"workflow_id", "category"})
        return {**echoed, "source": SOURCE, "source_topic": self._own_topic}

    def _addressed(
        self, event: str, status: str, detail: str, body: Mapping[str, object]
    ) -> list[Envelope]:
        topics: Sequence[str | None] = self._request.topics or (None,)
        parts = (self._run.run_id, self._run.attempt, event, status, detail)
        return [
            Envelope(
                event_id=str(uuid5(NAMESPACE, "/".join(map(str, (*parts, topic))))),
                topic=topic,
                event=event,
                status=status,
                body=self._cloud_event(body),
                created_s=self._now_s,
            )
            for topic in topics
        ]

    def _cloud_event(self, body: Mapping[str, object]) -> Json:
        event: Json = {
            "type": body["type"],
            "time": datetime.fromtimestamp(self._now_s, UTC).isoformat(),
            "data": dict(body),
        }
        if trace_id(self._request.traceparent):
            event |= {
                name: value
                for name in ("traceparent", "tracestate")
                if (value := getattr(self._request, name))
            }
        return event


def cloud_event(envelope: Envelope, pubsub: str) -> Json:
    """Return the complete CloudEvent 1.0 an envelope is published as."""
    return {
        "specversion": "1.0",
        "id": envelope.event_id,
        "source": SOURCE,
        "datacontenttype": "application/json",
        "topic": envelope.topic,
        "pubsubname": pubsub,
        **envelope.body,
    }
