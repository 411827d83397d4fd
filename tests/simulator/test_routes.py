"""The endpoints as callers see them: names, units, envelopes, refusals."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.commons.config import AppSettings, LimitSettings
from budsim.commons.errors import Unavailable
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.planning.plans import Outcome, Rejection
from budsim.simulator.planning.question import Question
from budsim.simulator.searching import simulate
from tests.simulator.serving import (
    CLUSTER_ID,
    MODEL,
    OTHER_CLUSTER_ID,
    MakeClient,
    ended,
    h100_cluster,
    known_answer,
)
from tests.waiting import wait_for

NO_PLANS = Outcome(plans=(), rejections=(), evaluations=0)


def finished(client: TestClient, body: dict[str, Any]) -> str:
    """Return the id of a run that has completed."""
    workflow_id: str = client.post("/simulator/run", json=body).json()["workflow_id"]
    assert ended(client, workflow_id) == "COMPLETED"
    return workflow_id


def assert_refused(answer: Any, code: int, kind: str, told: str) -> None:
    """Check an error envelope."""
    found = answer.json()
    assert answer.status_code == code
    assert set(found) == {"object", "message", "type", "param", "code"}
    assert (found["object"], found["type"], found["code"]) == ("error", kind, code)
    assert told in found["message"]


def test_asynchronous_run_is_answered_with_its_workflow(client: TestClient, body: dict[str, Any]):
    """Default: workflow metadata, PENDING, three steps, an estimate in minutes.

    It completes by itself.
    """
    found = client.post("/simulator/run", json=body).json()
    assert (found["object"], found["workflow_name"], found["status"]) == (
        "workflow_metadata",
        "run_simulation",
        "PENDING",
    )
    assert [step["id"] for step in found["steps"]] == [
        "validation",
        "performance_estimation",
        "ranking",
    ]
    assert found["eta"] == 1
    assert ended(client, found["workflow_id"]) == "COMPLETED"


def test_debug_run_is_answered_with_the_recommendation(client: TestClient, body: dict[str, Any]):
    """The best deployment of each cluster, in ms and tokens/s, with engine metadata."""
    found = client.post("/simulator/run", json=body | {"debug": True}).json()
    assert found["object"] == "cluster_recommendations"
    assert [item["cluster_id"] for item in found["recommendations"]] == [
        CLUSTER_ID,
        OTHER_CLUSTER_ID,
    ]
    best = found["recommendations"][0]
    assert best["tool_calling_parser_type"] == "llama3_json"
    metrics = best["metrics"]
    assert (metrics["ttft"], metrics["throughput_per_user"], metrics["e2e_latency"]) == (
        500.0,
        25.0,
        10.0,
    )
    assert metrics["device_types"] == [
        {
            "device_type": "cuda",
            "num_replicas": 2,
            "concurrency": 64,
            "cost_per_million_tokens": 1.0,
            "cost_per_million_tokens_blended": 0.2,
        }
    ]
    assert found["message"] == "4 of 6 deployments are expected to meet every target."
    assert found["reasons"][0]["reason"] == "unknown device"


def test_pooling_models_are_answered_in_the_same_names(
    make_client: MakeClient, body: dict[str, Any]
):
    """No output tokens, and a latency that is the time to the first answer."""
    client = make_client(workers=ThreadWorkers(simulate, AnalyticPredictor))
    asked = body | {
        "pretrained_model_uri": "BAAI/bge-large-en-v1.5",
        "input_tokens": 512,
        "debug": True,
    }
    assert_refused(
        client.post("/simulator/run", json=asked),
        422,
        "UnprocessableEntityError",
        "target_throughput_per_user",
    )
    found = client.post(
        "/simulator/run",
        json=asked | {"target_throughput_per_user": 0, "model_endpoints": "EMBEDDING"},
    ).json()
    metrics = found["recommendations"][0]["metrics"]
    assert metrics["throughput_per_user"] == 0
    assert metrics["e2e_latency"] == pytest.approx(metrics["ttft"] / 1000)
    assert metrics["cost_per_million_tokens"] > 0


def test_adapters_asked_for_are_in_the_answer(make_client: MakeClient, body: dict[str, Any]):
    """Callers read `max_loras` of a node group and find it in its arguments.

    A rank without kernels is refused by name.
    """
    client = make_client(workers=ThreadWorkers(simulate, AnalyticPredictor))
    asked = body | {
        "simulation_method": "heuristic",
        "max_loras": 4,
        "max_lora_rank": 32,
        "debug": True,
    }
    workflow = client.post("/simulator/run", json=asked).json()["workflow_id"]
    group = client.post("/simulator/configurations", json={"workflow_id": workflow}).json()[
        "node_groups"
    ][0]
    assert (group["max_loras"], group["supports_lora"], group["args"]["max-lora-rank"]) == (
        4,
        True,
        32,
    )
    assert_refused(
        client.post("/simulator/run", json=asked | {"max_lora_rank": 17}),
        422,
        "UnprocessableEntityError",
        "max_lora_rank",
    )


def test_pools_asked_for_are_two_node_groups(make_client: MakeClient, body: dict[str, Any]):
    """Each states its part of a request, and how caches are handed over."""
    client = make_client(workers=ThreadWorkers(simulate, AnalyticPredictor))
    asked = body | {"simulation_method": "heuristic", "disaggregated": "only", "debug": True}
    workflow = client.post("/simulator/run", json=asked).json()["workflow_id"]
    found = client.post("/simulator/configurations", json={"workflow_id": workflow}).json()
    assert [group["role"] for group in found["node_groups"]] == ["prefill", "decode"]
    for group in found["node_groups"]:
        assert {"kv-transfer-config", "disaggregation-mode"} & group["args"].keys()


def test_debug_and_asynchronous_runs_agree(client: TestClient, body: dict[str, Any]):
    """The same request has the same best deployment both ways."""
    workflow_id = finished(client, body)
    now = client.post("/simulator/run", json=body | {"debug": True}).json()["recommendations"][0]
    later = client.get("/simulator/recommendations", params={"workflow_id": workflow_id}).json()[
        "items"
    ][0]
    assert now == later


def test_recommendations_keep_several_plans_per_cluster(client: TestClient, body: dict[str, Any]):
    """Three plans of a cluster are stored, best first, page by page."""
    query = {"workflow_id": finished(client, body), "cluster_id": CLUSTER_ID, "limit": 2, "page": 2}
    page = client.get("/simulator/recommendations", params=query).json()
    assert (page["object"], page["page"], page["limit"]) == ("cluster_recommendations", 2, 2)
    assert (page["total_items"], page["total_pages"], len(page["items"])) == (3, 2, 1)


def test_without_a_cluster_each_has_one_row_its_best(client: TestClient, body: dict[str, Any]):
    """Callers build a dictionary by cluster; each row also says which configuration it is."""
    query = {"workflow_id": finished(client, body), "limit": 20}
    items = client.get("/simulator/recommendations", params=query).json()["items"]
    assert [item["cluster_id"] for item in items] == [CLUSTER_ID, OTHER_CLUSTER_ID]
    names = ("config_id", "device", "engine", "tp_size", "pp_size", "replicas")
    assert [items[0][name] for name in names] == ["config-0", "H100-SXM", "vllm", 2, 1, 2]


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ({}, 2),
        ({"cluster_id": CLUSTER_ID}, 3),
        ({"concurrency": 65}, 0),
        ({"cluster_id": CLUSTER_ID, "error_rate_threshold": 0.1}, 2),
    ],
)
def test_recommendations_are_filtered(
    client: TestClient, body: dict[str, Any], query: dict[str, Any], total: int
):
    """By cluster, by concurrency held, by the miss that is still accepted."""
    workflow_id = finished(client, body)
    page = client.get(
        "/simulator/recommendations", params={"workflow_id": workflow_id, **query}
    ).json()
    assert page["total_items"] == total


def test_unknown_workflow_has_an_empty_page(client: TestClient):
    """Not an error."""
    page = client.get(
        "/simulator/recommendations", params={"workflow_id": str(uuid.uuid4())}
    ).json()
    assert (page["total_items"], page["total_pages"], page["items"]) == (0, 0, [])


def test_configuration_is_ready_to_deploy(client: TestClient, body: dict[str, Any]):
    """Node groups with GB, ms, labels as text and the engine's own arguments."""
    found = client.post(
        "/simulator/configurations", json={"workflow_id": finished(client, body)}
    ).json()
    assert (found["object"], found["id"], found["nodes"]) == (
        "deployment_configuration",
        CLUSTER_ID,
        None,
    )
    group = found["node_groups"][0]
    assert group["labels"] == {"device_name": "H100-SXM", "concurrency": "32"}
    assert (
        group["type"],
        group["engine_type"],
        group["tp_size"],
        group["pp_size"],
        group["replicas"],
    ) == (
        "cuda",
        "vllm",
        2,
        1,
        2,
    )
    assert (group["weight_memory_gb"], group["kv_cache_memory_gb"], group["memory"]) == (
        40.0,
        20.0,
        63.0,
    )
    assert group["args"] == {"model": MODEL, "tensor-parallel-size": 2}
    assert "max_loras" not in group
    assert (found["replica"], found["concurrency"], found["ttft"]) == (2, 64, 500.0)


def test_feedback_moves_on_to_the_next_configuration_and_back(
    client: TestClient, body: dict[str, Any]
):
    """What failed is not answered again until it is cleared; when none is left: 400."""
    workflow_id = finished(client, body | {"cluster_id": CLUSTER_ID})

    def tell(*failed: str, cleared: str = "") -> Any:
        feedback = [{"config_id": name, "failed": True, "reason": "crashed"} for name in failed]
        feedback += [{"config_id": cleared, "failed": False, "reason": ""}] if cleared else []
        return client.post(
            "/simulator/configurations", json={"workflow_id": workflow_id, "feedback": feedback}
        )

    assert tell("config-0").json()["node_groups"][0]["config_id"] == "config-1"
    assert tell("config-1").json()["node_groups"][0]["config_id"] == "config-2"
    assert_refused(tell("config-2"), 400, "BadRequestError", "no configuration is left")
    assert tell(cleared="config-1").json()["node_groups"][0]["config_id"] == "config-1"
    assert_refused(tell("config-9"), 404, "NotFoundError", "config-9")


def test_configurations_of_an_unknown_workflow_are_not_found(client: TestClient):
    """404 as everywhere; 400 is for a workflow of which none is left."""
    nobody = {"workflow_id": str(uuid.uuid4())}
    answer = client.post("/simulator/configurations", json=nobody)
    assert_refused(answer, 404, "NotFoundError", nobody["workflow_id"])


def test_nothing_fits_is_a_result_with_reasons(make_client: MakeClient, body: dict[str, Any]):
    """Law L10: no plan, then at least one reason."""

    def nothing(
        question: Question, _predictor: object, *, known: object, progress: Callable[[float], None]
    ) -> Outcome:
        return Outcome(plans=(), rejections=rejected(question), evaluations=0)

    def rejected(question: Question) -> Any:

        return tuple(
            Rejection(cluster_id=c.cluster_id, subject="H100-SXM", reason="too small", devices=8)
            for c in question.clusters
        )

    client = make_client(workers=ThreadWorkers(nothing, AnalyticPredictor))
    found = client.post("/simulator/run", json=body | {"debug": True})
    assert found.status_code == 200
    assert found.json()["recommendations"] == []
    assert {reason["reason"] for reason in found.json()["reasons"]} == {"too small"}


def test_cloud_model_is_priced_and_its_latency_left_unknown(
    client: TestClient, body: dict[str, Any]
):
    """No random numbers: two requests have one price.

    Without a CPU for the proxy there is a reason instead of a plan.
    """
    request = body | {"pretrained_model_uri": "gpt-4o", "is_proprietary_model": True, "debug": True}
    first, second = (client.post("/simulator/run", json=request).json() for _ in range(2))
    assert first["reasons"] == second["reasons"]
    assert "no CPU for the proxy" in first["reasons"][0]["reason"]
    assert "USD per million output tokens" in first["reasons"][0]["reason"]


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
    "kind", [None, "application/json; charset=utf-8", "application/cloudevents+json"]
)
def test_every_kind_of_json_is_read(client: TestClient, body: dict[str, Any], kind: str | None):
    """Also where a caller names no content type at all."""
    headers = {"content-type": kind} if kind else {}
    assert (
        client.post(
            "/simulator/run", content=json.dumps(body).encode(), headers=headers
        ).status_code
        == 200
    )


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
    client = make_client(
        limits=limits, workers=Stuck(lambda *_a, **_k: NO_PLANS, AnalyticPredictor)
    )
    assert client.post("/simulator/run", json=body).status_code == 200
    assert_refused(client.post("/simulator/run", json=body), 429, "TooManyRequestsError", "waiting")


def test_idempotency_key_names_one_run(client: TestClient, body: dict[str, Any]):
    """The same request again is the same workflow; another request under the key is refused."""
    headers = {"Idempotency-Key": "k1"}
    first, again = (
        client.post("/simulator/run", json=body, headers=headers).json()["workflow_id"]
        for _ in range(2)
    )
    assert first == again
    assert_refused(
        client.post("/simulator/run", json=body | {"concurrency": 1}, headers=headers),
        409,
        "ConflictError",
        "another request",
    )


def test_notifications_answer_what_the_broker_should_do(client: TestClient, body: dict[str, Any]):
    """SUCCESS once stored, the same for a repeated delivery, DROP for nonsense; never 422."""
    event = {
        "specversion": "1.0",
        "id": "e1",
        "topic": "budSimMessages",
        "pubsubname": "pubsub",
        "data": body | {"debug": True},
    }
    kind = {"content-type": "application/cloudevents+json"}
    for _ in range(2):
        assert client.post("/notifications", json=event, headers=kind).json() == {
            "status": "SUCCESS"
        }
    for nonsense in (
        event | {"data": {"input_tokens": -1}},
        event | {"id": "e2", "data": "x"},
        [],
        {},
    ):
        answer = client.post("/notifications", json=nonsense, headers=kind)
        assert (answer.status_code, answer.json()) == (200, {"status": "DROP"})
    assert client.post("/notifications", content=b"{", headers=kind).json() == {"status": "DROP"}


def test_event_with_an_unknown_model_fails_by_event(client: TestClient, body: dict[str, Any]):
    """Nobody waits for an answer on the bus: the validation event says what is wrong."""
    event = {
        "id": "e3",
        "topic": "t",
        "pubsubname": "p",
        "data": body | {"pretrained_model_uri": "nobody/has-this"},
    }
    assert client.post("/notifications", json=event).json() == {"status": "SUCCESS"}
    again = client.post("/simulator/run", json=event).json()["workflow_id"]
    assert ended(client, again) == "FAILED"
    last = client.get(f"/workflow/{again}/events").json()["items"][-1]["payload"]
    assert (last["event"], last["content"]["status"]) == ("validation", "FAILED")
    assert "pretrained_model_uri" in last["content"]["message"]


def test_subscription_names_topic_route_and_dead_letters(client: TestClient):
    """What the sidecar asks for at start."""
    assert client.get("/dapr/subscribe").json() == [
        {
            "pubsubname": "pubsub",
            "topic": "budSimMessages",
            "route": "/notifications",
            "deadLetterTopic": "poisonMessages",
        },
    ]


def test_readiness_says_what_is_up(client: TestClient):
    """Database, disk, sidecar, workflows and models, each by name."""
    found = client.get("/ready")
    assert found.status_code == 200
    assert set(found.json()["param"]) == {"database", "disk", "sidecar", "workflows", "models"}


def test_unusable_models_are_told_by_readiness(make_client: MakeClient, tmp_path: Path):
    """Missing trained models and a broken calibration make the service not ready, with a reason."""
    (tmp_path / "site.json").write_text("{}")
    for load, reason in (
        (lambda: load_predictor(tmp_path), "no trained models"),
        (lambda: load_predictor(calibration=tmp_path / "site.json"), "calibration"),
    ):
        client = make_client(workers=ThreadWorkers(known_answer, load))

        def models(client: TestClient = client) -> dict[str, Any]:
            return client.get("/ready").json()["param"]["models"]

        told = wait_for(
            lambda models=models: models() if models()["detail"] != "not loaded yet" else None
        )
        assert told["up"] is False
        assert reason in told["detail"]
        assert client.get("/ready").status_code == 503


def test_callers_examples_are_taken_as_they_are(client: TestClient, example: Callable[[str], Any]):
    """The request and the event callers send are accepted unchanged."""
    assert (
        client.post("/simulator/run", json=example("run_request.json")).json()["status"]
        == "PENDING"
    )
    assert client.post("/notifications", json=example("run_event.json")).json() == {
        "status": "SUCCESS"
    }


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
