"""Operating the service: traces, figures of the queue, repeated events, an orderly end."""

import io
import json
import sys
from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.commons.config import TelemetrySettings
from budsim.commons.errors import Unavailable
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from tests.commons.test_tracing import PARENT, TRACE, Collector, collector  # noqa: F401 - a fixture
from tests.simulator.serving import MakeClient, ended
from tests.waiting import wait_for


@pytest.mark.parametrize("inside", [{}, {"traceparent": "nonsense"}])
def test_a_trace_that_comes_with_the_request_leaves_with_its_events(
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    body: dict[str, Any],
    inside: dict[str, Any],
):
    """Where the body names no trace the HTTP header does; events and log lines carry it."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    client = make_client()
    answer = client.post("/simulator/run", json=body | inside, headers={"traceparent": PARENT})
    workflow_id = answer.json()["workflow_id"]
    assert ended(client, workflow_id) == "COMPLETED"
    assert {
        event["traceparent"]
        for event in client.get(f"/workflow/{workflow_id}/events").json()["items"]
    } == {PARENT}
    (line,) = wait_for(
        lambda: [line for line in written.getvalue().splitlines() if '"run ended"' in line]
    )
    assert (json.loads(line)["trace_id"], json.loads(line)["workflow_id"]) == (TRACE, workflow_id)


def test_a_malformed_trace_is_left_out(client: TestClient, body: dict[str, Any]):
    """What is no traceparent harms nothing and goes nowhere."""
    answer = client.post(
        "/simulator/run",
        json=body | {"traceparent": "nonsense"},
        headers={"traceparent": "x" * 4000},
    )
    events = client.get(f"/workflow/{answer.json()['workflow_id']}/events").json()["items"]
    assert all("traceparent" not in event for event in events)


def test_with_a_collector_request_and_steps_are_spans_of_one_trace(
    make_client: MakeClient,
    body: dict[str, Any],
    collector: Collector,  # noqa: F811
):
    """The request is a child of the caller's span, its steps are children of the request."""
    client = make_client(
        telemetry=TelemetrySettings(_env_file=None, otel_exporter_otlp_endpoint=collector.endpoint)
    )
    workflow_id = client.post("/simulator/run", json=body, headers={"traceparent": PARENT}).json()[
        "workflow_id"
    ]
    assert ended(client, workflow_id) == "COMPLETED"
    (named,) = {
        event["traceparent"]
        for event in client.get(f"/workflow/{workflow_id}/events").json()["items"]
    }
    client.app.state.budsim.tracing.close()
    spans = {span.name: span for span in collector.spans}
    request = spans["POST /simulator/run"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, "b7ad6b7169203331")
    assert named == f"00-{TRACE}-{request.span_id.hex()}-01"
    for step in ("validation", "performance_estimation", "ranking"):
        assert (spans[step].trace_id.hex(), spans[step].parent_span_id) == (TRACE, request.span_id)


def test_figures_tell_how_much_waits_and_for_how_long(
    make_client: MakeClient, body: dict[str, Any], sidecar: Any
):
    """Unfinished runs, unsent events and the age of the oldest, read when they are asked for."""

    def never(*_arguments: Any, **_named: Any) -> Any:
        raise Unavailable("not yet")

    sidecar.is_down = True
    client = make_client(dapr=sidecar.settings, workers=ThreadWorkers(never, AnalyticPredictor))
    client.post("/simulator/run", json=body | {"source_topic": "tMessages"})

    def figures() -> dict[str, float]:
        lines = (
            line.split()
            for line in client.get("/metrics").text.splitlines()
            if not line.startswith("#")
        )
        return {line[0]: float(line[1]) for line in lines if len(line) == 2}

    wait_for(lambda: figures()["budsim_outbox_waiting"] == 3.0)
    found = figures()
    assert found["budsim_runs_waiting"] == 1.0
    assert wait_for(
        lambda: figures()["budsim_outbox_lag_seconds"] > found["budsim_outbox_lag_seconds"]
    )


def test_one_event_id_of_two_sources_is_two_events(client: TestClient, body: dict[str, Any]):
    """CloudEvents are told apart by source and id.

    The same source and id again is the same workflow.
    """

    def sent(source: str) -> str:
        event = {"id": "1", "source": source, "topic": "t", "pubsubname": "p", "data": body}
        workflow_id: str = client.post("/simulator/run", json=event).json()["workflow_id"]
        return workflow_id

    assert sent("deployer") == sent("deployer")
    assert sent("deployer") != sent("pipeline")
