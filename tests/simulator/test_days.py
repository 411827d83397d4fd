"""`POST /simulator/day`: replicas of each hour over HTTP, as `budsim day` answers them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.rendering import Additions, render
from budsim.simulator.searching import simulate
from tests.simulator.serving import CLUSTER_ID, MODEL, MakeClient

DAY: dict[str, Any] = {
    "pretrained_model_uri": MODEL,
    "cluster_id": CLUSTER_ID,
    "input_tokens": 1024,
    "output_tokens": 256,
    "target_throughput_per_user": 60,
    "hourly": [0, 30],
    "lead_time_s": 90,
    "simulation_method": "heuristic",
    "engines": ["vllm"],
}


def test_a_day_is_answered_with_what_makes_autoscalers(make_client: MakeClient):
    """More requests need no fewer replicas; what the deployer passes to engines is in the plan."""
    client = make_client(workers=ThreadWorkers(simulate, AnalyticPredictor))
    answer = client.post("/simulator/day", json=DAY)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [hour["requests_per_s"] for hour in found["hours"]] == pytest.approx([1e-6, 30])
    replicas = [hour["replicas"] for hour in found["hours"]]
    assert replicas == sorted(replicas) == found["scaling"]["replicas_by_hour"]
    (configuration,) = found["configurations"]
    (group,) = configuration["node_groups"]
    assert group["replicas"] == replicas[-1] == found["scaling"]["max_replicas"]
    assert group["args"]["gpu-memory-utilization"] == 0.95
    assert found["scaling"]["lead_time_s"] == 90
    assert found["cost"]["usd_per_day"] <= found["cost"]["constant_usd_per_day"]
    assert "kind: ScaledObject" in render(answer.text, "keda", additions=Additions())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hourly": []}, "hourly"),
        ({"hourly": [1.0] * 25}, "hourly"),
        ({"hourly": [-1]}, "hourly.0"),
        ({"hourly": None}, "hourly"),
        ({"concurrency": 4}, "concurrency"),
        ({"lead_time_s": 3601}, "lead_time_s"),
        ({"arrival": "monthly"}, "arrival"),
        ({"pretrained_model_uri": "nobody/knows"}, "pretrained_model_uri"),
        ({"engines": ["vlm"]}, "engines"),
    ],
)
def test_wrong_days_are_refused_by_their_field(
    client: TestClient, change: dict[str, Any], named: str
):
    """Rates of 25 hours, a load beside them, a lead time above an hour: the field is named."""
    answer = client.post("/simulator/day", json=DAY | change)
    assert answer.status_code in (404, 422), answer.text
    assert answer.json()["param"] == named
