"""The service beside a real sidecar: invocation, state, broker and workflows.

`pytest --dapr-http-port P --dapr-api-token T`. The sidecar's app is budsim, with the components of
`deploy/components`. These tests write the inventory they need.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.simulator.background.test_loops import ORDER
from tests.simulator.serving import MODEL
from tests.waiting import wait_for

pytestmark = pytest.mark.sidecar
ENDED = ("COMPLETED", "FAILED", "TERMINATED")
INVENTORY = Path(__file__).parents[2] / "shared" / "examples" / "mixed.json"


@pytest.fixture
def sidecar(dapr_http_port: int, dapr_api_token: str | None) -> Iterator[httpx.Client]:
    """Yield a client of the sidecar's API; the inventory is in its state store."""
    headers = {"dapr-api-token": dapr_api_token} if dapr_api_token else {}
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{dapr_http_port}/v1.0",
        headers=headers,
        timeout=30,
        trust_env=False,
    )
    # A sidecar was asked for: what is missing then is a fault, not a reason to skip.
    assert INVENTORY.is_file(), f"needs {INVENTORY}"
    written = client.post(
        "/state/statestore",
        json=[{"key": "cluster_info", "value": json.loads(INVENTORY.read_text())}],
    )
    assert written.status_code == 204
    yield client
    client.close()


@pytest.fixture
def invoke(sidecar: httpx.Client) -> Callable[..., httpx.Response]:
    """Return a caller of the service through the sidecar, as other services call it."""

    def call(method: str, path: str, **content: Any) -> httpx.Response:
        return sidecar.request(method, f"/invoke/budsim/method{path}", **content)

    return call


@pytest.fixture
def asked() -> dict[str, Any]:
    """Return a request nobody has made before."""
    return {
        "pretrained_model_uri": MODEL,
        "is_proprietary_model": False,
        "input_tokens": 1024,
        "output_tokens": 256,
        "concurrency": 16,
        "target_ttft": 1500,
        "target_throughput_per_user": 20,
        "target_e2e_latency": 0,
        # One of those that the component lets budsim publish on.
        "source_topic": "pipelineMessages",
        "notification_metadata": {
            "workflow_id": str(uuid.uuid4()),
            "notification_type": "event",
            "name": "test",
        },
    }


def ended(invoke: Callable[..., httpx.Response], workflow_id: str) -> str:
    """Return the status a workflow ends with."""

    def status() -> str | None:
        now: str = invoke("GET", f"/workflow/{workflow_id}/status").json()["status"]
        return now if now in ENDED else None

    found: str = wait_for(status, longest_s=90)
    return found


def test_everything_is_up(invoke: Callable[..., httpx.Response]):
    """Database, sidecar, workflows and models."""
    found = invoke("GET", "/ready")
    assert found.status_code == 200, found.text
    assert all(check["up"] for check in found.json()["param"].values())


def test_a_run_is_a_workflow_of_the_sidecar(
    invoke: Callable[..., httpx.Response], sidecar: httpx.Client, asked: dict[str, Any]
):
    """Accepted through the sidecar, carried out as its workflow, announced in order."""
    workflow_id = invoke("POST", "/simulator/run", json=asked).json()["workflow_id"]
    assert ended(invoke, workflow_id) == "COMPLETED"
    events = [
        event.get("payload")
        for event in invoke("GET", f"/workflow/{workflow_id}/events").json()["items"]
    ]
    assert [(event["event"], event["content"]["status"]) for event in events if event] == ORDER[1:]
    assert events[-1]["content"]["result"]["recommendations"]

    def workflow() -> Any:
        found = sidecar.get(f"/workflows/dapr/{workflow_id}").json()
        return found if found["runtimeStatus"] == "COMPLETED" else None

    found = wait_for(workflow)
    assert found["workflowName"] == "run_simulation"
    assert json.loads(found["properties"]["dapr.workflow.output"])["status"] == "COMPLETED"


def test_a_message_of_the_broker_is_a_run(
    invoke: Callable[..., httpx.Response], sidecar: httpx.Client, asked: dict[str, Any]
):
    """A CloudEvent on our topic is accepted once, however often it comes; nonsense is dropped."""
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "test",
        "type": "run",
        "data": asked,
    }
    kind = {"content-type": "application/cloudevents+json"}
    for body in (event | {"id": str(uuid.uuid4()), "data": {"nonsense": 1}}, event):
        sent = sidecar.post(
            "/publish/pubsub/budSimMessages", content=json.dumps(body), headers=kind
        )
        assert sent.status_code == 204
    again = event | {"topic": "budSimMessages", "pubsubname": "pubsub"}
    other = again | {
        "data": asked | {"pretrained_model_uri": "nobody/has-this"}
    }  # 404 while its id is new, then 409
    wait_for(lambda: invoke("POST", "/simulator/run", json=other).status_code == 409)
    workflow_id = invoke("POST", "/simulator/run", json=again).json()["workflow_id"]
    assert ended(invoke, workflow_id) == "COMPLETED"
    last = invoke("GET", f"/workflow/{workflow_id}/events").json()["items"][-1]
    assert last["payload"]["workflow_id"] == asked["notification_metadata"]["workflow_id"]


def test_a_stopped_run_has_no_workflow_left(
    invoke: Callable[..., httpx.Response], sidecar: httpx.Client, asked: dict[str, Any]
):
    """Paused, resumed or stopped here, the sidecar's workflow follows."""
    workflow_id = invoke("POST", "/simulator/run", json=asked).json()["workflow_id"]
    assert invoke("POST", f"/workflow/{workflow_id}/pause").status_code == 200
    wait_for(
        lambda: invoke("GET", f"/workflow/{workflow_id}/status").json()["status"] == "SUSPENDED"
    )
    assert invoke("POST", f"/workflow/{workflow_id}/resume").status_code == 200
    assert ended(invoke, workflow_id) == "COMPLETED"
    other = invoke("POST", "/simulator/run", json=asked | {"concurrency": 17}).json()["workflow_id"]
    assert invoke("DELETE", f"/workflow/{other}/stop").status_code == 200
    assert ended(invoke, other) == "TERMINATED"
    wait_for(
        lambda: (
            sidecar.get(f"/workflows/dapr/{other}").json().get("runtimeStatus") in {*ENDED, None}
        ),
        longest_s=60,
    )


def test_a_caller_without_the_sidecar_s_token_is_refused(
    sidecar: httpx.Client, dapr_api_token: str | None
):
    """Nobody comes past the sidecar without its token."""
    assert dapr_api_token is not None, "pass --dapr-api-token: the service must not run without one"
    assert (
        httpx.get(f"{sidecar.base_url}/invoke/budsim/method/ready", trust_env=False).status_code
        == 401
    )
