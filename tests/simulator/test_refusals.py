"""What the endpoints refuse: the status, the envelope, and the field that is named."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.commons.config import AppSettings, LimitSettings
from budsim.commons.errors import Unavailable
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question
from tests.simulator.serving import (
    CLUSTER_ID,
    MakeClient,
    assert_refused,
    ended,
    h100_cluster,
)


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    ("change", "code", "kind", "told"),
    [
        ({"pretrained_model_uri": "nobody/has-this"}, 404, "NotFoundError", "pretrained_model_uri"),
        ({"cluster_id": str(uuid.UUID(int=7))}, 404, "NotFoundError", "cluster_id"),
        ({"input_tokens": 200_000}, 422, "UnprocessableEntityError", "131072"),
        ({"input_tokens": 0}, 422, "UnprocessableEntityError", "input_tokens"),
        (
            {"is_quantization": True, "quantization_type": "int3"},
            422,
            "UnprocessableEntityError",
            "quantization_type",
        ),
        ({"surprise": 1}, 422, "UnprocessableEntityError", "surprise"),
    ],
)
def test_wrong_requests_are_refused_by_name(
    client: TestClient,
    body: dict[str, Any],
    change: dict[str, Any],
    code: int,
    kind: str,
    told: str,
    debug: bool,
):
    """Both ways, before anything is stored."""
    assert_refused(
        client.post("/simulator/run", json=body | change | {"debug": debug}), code, kind, told
    )


def test_every_error_has_the_envelope(client: TestClient):
    """Unknown paths, methods and ids."""
    assert_refused(client.get("/nowhere"), 404, "NotFoundError", "Not Found")
    assert_refused(client.put("/simulator/run"), 405, "MethodNotAllowedError", "Method Not Allowed")
    assert_refused(
        client.get("/workflow/nonsense/status"), 422, "UnprocessableEntityError", "workflow_id"
    )
    assert_refused(
        client.get(f"/workflow/{uuid.uuid4()}/status"), 404, "NotFoundError", "workflow_id"
    )


@pytest.mark.parametrize(
    ("content", "kind", "code", "param", "told"),
    [
        (b"{", "application/json", 400, "body", "not JSON"),
        (b"", "application/json", 422, "body", "required"),
        (b"[]", "application/json", 422, "body", "dictionary"),
        (b"[" * 50_000, "application/json", 400, "body", "nested"),
        (b'{"data": "\xff\xfe"}', "application/json", 400, "body", "UTF-8"),
        (b"x", "text/plain", 415, "content-type", "application/json"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "content-type", "application/json"),
        (b"<a/>", "application/xml", 415, "content-type", "application/json"),
    ],
)
def test_unreadable_bodies_are_refused_in_clear_words(
    client: TestClient, content: bytes, kind: str, code: int, param: str, told: str
):
    """No JSON, no UTF-8, nested too deeply, another content type: the envelope says which."""
    answer = client.post("/simulator/run", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (
        code,
        code,
        param,
    )
    assert told in answer.json()["message"]
    assert answer.json()["object"] == "error"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"target_ttft": ...}, "target_ttft"),
        (
            {"target_throughput_per_user": ..., "target_e2e_latency": ...},
            "target_throughput_per_user",
        ),
        ({"model_uri": "a\x00b"}, "model_uri"),
        ({"topic": "t", "pubsubname": "p", "data": "not an object"}, "data"),
        ({"topic": "t", "pubsubname": "p", "data": {"input_tokens": -1}}, "input_tokens"),
        ({"notification_metadata": {"category": "smoke"}}, "notification_metadata.category"),
        ({"source_topic": ["x" * 256]}, "source_topic"),
        ({"concurrency": True}, "concurrency"),
    ],
)
def test_schema_errors_name_the_field(
    client: TestClient, body: dict[str, Any], change: dict[str, Any], param: str
):
    """Also those of checks over several fields, which used to say `body`."""
    asked = {name: value for name, value in (body | change).items() if value is not ...}
    answer = client.post("/simulator/run", json=asked)
    found = answer.json()
    assert (answer.status_code, found["type"]) == (422, "UnprocessableEntityError")
    assert param in found["message"].split("; ")[0]
    assert "Value error" not in found["message"]
    assert found["param"] == param or "data" in change


def test_bodies_beyond_the_limit_are_refused(make_client: MakeClient):
    """Whether the length is announced or not."""
    client = make_client(
        limits=LimitSettings(_env_file=None, worker_processes=0, max_body_bytes=1000)
    )
    assert_refused(
        client.post("/simulator/run", content=b" " * 1001),
        413,
        "RequestEntityTooLargeError",
        "1000",
    )

    def pieces():
        yield from (b" " * 400 for _ in range(5))

    answer = client.post(
        "/simulator/run", content=pieces(), headers={"content-type": "application/json"}
    )
    assert_refused(answer, 413, "RequestEntityTooLargeError", "1000 bytes")
    for length in ("9" * 5000, "-1", "many"):
        claimed = client.post("/simulator/run", content=b"{}", headers={"content-length": length})
        assert_refused(claimed, 413, "RequestEntityTooLargeError", "1000 bytes")


def test_unexpected_errors_say_nothing(make_client: MakeClient, body: dict[str, Any]):
    """No exception text reaches callers, neither in the answer nor in events."""

    def broken(
        _question: Question, _predictor: object, *, known: object, progress: Callable[[float], None]
    ) -> Outcome:
        raise RuntimeError("password=hunter2")

    client = make_client(workers=ThreadWorkers(broken, AnalyticPredictor))
    assert_refused(
        client.post("/simulator/run", json=body | {"debug": True}),
        500,
        "InternalServerError",
        "internal error",
    )
    workflow_id = client.post("/simulator/run", json=body).json()["workflow_id"]
    assert ended(client, workflow_id) == "FAILED"
    told = client.get(f"/workflow/{workflow_id}/events").text
    assert "hunter2" not in told
    assert '"primary_action":"retry"' in told


def test_missing_inventory_is_503_and_accepted_later(make_client: MakeClient, body: dict[str, Any]):
    """Synchronous: refused with Retry-After. Asynchronous: kept until the inventory is back."""

    class Gone:
        def __init__(self) -> None:
            self.back: tuple[Cluster, ...] = ()

        async def clusters(self) -> tuple[Cluster, ...]:
            if not self.back:
                raise Unavailable("the state store is away")
            return self.back

    inventory = Gone()
    client = make_client(inventory=inventory)
    refused = client.post("/simulator/run", json=body | {"debug": True})
    assert_refused(refused, 503, "ServiceUnavailableError", "state store")
    assert int(refused.headers["retry-after"]) > 0
    workflow_id = client.post("/simulator/run", json=body).json()["workflow_id"]
    inventory.back = (h100_cluster(CLUSTER_ID),)
    assert ended(client, workflow_id) == "COMPLETED"


def test_token_is_demanded_everywhere_but_on_health(make_client: MakeClient, body: dict[str, Any]):
    """Missing or wrong: 401; health, readiness and metrics stay open."""
    client = make_client(app=AppSettings(_env_file=None, app_api_token="s3cret-of-ours"))
    assert_refused(
        client.post("/simulator/run", json=body), 401, "UnauthorizedError", "dapr-api-token"
    )
    assert (
        client.post("/notifications", json=body, headers={"dapr-api-token": "wrong"}).status_code
        == 401
    )
    assert client.get("/dapr/subscribe").status_code == 401
    assert (
        client.post(
            "/simulator/run", json=body, headers={"dapr-api-token": "s3cret-of-ours"}
        ).status_code
        == 200
    )
    assert {client.get(path).status_code for path in ("/health", "/ready", "/metrics")} == {200}


def test_too_many_waiting_runs_are_429(make_client: MakeClient, body: dict[str, Any]):
    """Refused, not dropped."""

    class Stuck(ThreadWorkers):
        async def simulate(
            self, question: Question, progress: Callable[[float], None], known: object
        ) -> Outcome:
            raise Unavailable("busy")

    limits = LimitSettings(_env_file=None, worker_processes=0, max_pending_runs=1)
    client = make_client(limits=limits, workers=Stuck(lambda *_a, **_k: None, AnalyticPredictor))
    assert client.post("/simulator/run", json=body).status_code == 200
    assert_refused(client.post("/simulator/run", json=body), 429, "TooManyRequestsError", "waiting")


@pytest.mark.parametrize("field", ["quantization_type", "quantization_method"])
def test_unknown_quantization_is_refused_whether_asked_for_or_not(
    client: TestClient, body: dict[str, Any], field: str
):
    """An unknown name is refused with its field, also without `is_quantization`."""
    for asked in (True, False):
        wrong = body | {"quantization_type": "INT8", field: "BOGUS", "is_quantization": asked}
        answer = client.post("/simulator/run", json=wrong)
        assert (answer.status_code, answer.json()["param"]) == (422, field)


def test_unknown_models_are_named_by_the_field_that_held_them(client: TestClient):
    """`node-configurations` has no `pretrained_model_uri`: its 404 names the field it has."""
    asked = {
        "model_id": "nobody/x",
        "cluster_id": CLUSTER_ID,
        "hostnames": ["gpu-0"],
        "hardware_mode": "dedicated",
    }
    for wrong, field in ((asked, "model_id"), (asked | {"model_uri": "nobody/y"}, "model_uri")):
        answer = client.post("/simulator/node-configurations", json=wrong)
        assert (answer.status_code, answer.json()["param"]) == (404, field), answer.text
