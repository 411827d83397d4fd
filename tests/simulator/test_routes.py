"""The endpoints as callers see them: names, units, envelopes, refusals."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

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
    assert_refused,
    ended,
    known_answer,
)
from tests.waiting import wait_for

NO_PLANS = Outcome(plans=(), rejections=(), evaluations=0)


def finished(client: TestClient, body: dict[str, Any]) -> str:
    """Return the id of a run that has completed."""
    workflow_id: str = client.post("/simulator/run", json=body).json()["workflow_id"]
    assert ended(client, workflow_id) == "COMPLETED"
    return workflow_id


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
