"""`POST /simulator/capacity`: what clusters serve over HTTP, as `budsim capacity` answers it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.searching import simulate
from tests.simulator.serving import CLUSTER_ID, MODEL, MakeClient

CAPACITY: dict[str, Any] = {
    "pretrained_model_uri": MODEL,
    "cluster_id": CLUSTER_ID,
    "input_tokens": 1024,
    "output_tokens": 256,
    "target_ttft": 200,
    "simulation_method": "heuristic",
    "engines": ["vllm"],
}


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    """Return a service that computes."""
    return make_client(workers=ThreadWorkers(simulate, AnalyticPredictor))


def test_what_is_served_is_less_than_what_is_refused(client: TestClient):
    """In flight, with the deployment that serves it; no rate was asked for."""
    answer = client.post("/simulator/capacity", json=CAPACITY)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["clusters"]
    assert found["cluster_id"] == CLUSTER_ID
    assert 0 < found["concurrency"] < found["refused_concurrency"]
    assert found["requests_per_s"] is None
    (group,) = found["configuration"]["node_groups"]
    assert group["ttft"] <= 200
    assert group["args"]["gpu-memory-utilization"] == 0.95


def test_a_rate_is_found_where_requests_come_by_themselves(client: TestClient):
    """The largest one that is served, below the least that is too high."""
    (found,) = client.post(
        "/simulator/capacity", json=CAPACITY | {"arrival": "poisson", "target_ttft_p99": 500}
    ).json()["clusters"]
    assert 0 < found["requests_per_s"] < found["refused_requests_per_s"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target_ttft": 0}, "target_ttft"),
        ({"target_ttft": 0, "target_throughput_per_user": 20}, "target_ttft"),
        ({"concurrency": 4}, "concurrency"),
        ({"arrival": "monthly"}, "arrival"),
        ({"cluster_id": "5f2647a2-a20e-581a-ab8e-eb8be653d4e3"}, "cluster_id"),
    ],
)
def test_wrong_questions_are_refused_by_their_field(
    client: TestClient, change: dict[str, Any], named: str
):
    """Without a latency requests may wait for ever; a load is not asked for."""
    answer = client.post("/simulator/capacity", json=CAPACITY | change)
    assert answer.status_code in (404, 422), answer.text
    assert answer.json()["param"] == named
