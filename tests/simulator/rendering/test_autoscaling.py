"""Autoscalers of a day, each held against the published schema of its kind."""

import json

import jsonschema
import kubernetes_validate
import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import Additions, Metrics, render
from tests.simulator.rendering.reading import TWO_NODES
from tests.simulator.rendering.validators import KUBERNETES, check_scaled_object

NIGHT_AND_DAY = [1] * 7 + [2] * 4 + [3] * 8 + [1] * 4 + [2]
PLAIN = Additions()
SCALING = {
    "min_replicas": 1,
    "max_replicas": 3,
    "lead_time_s": 300.0,
    "replicas_by_hour": NIGHT_AND_DAY,
    "requests_per_s_per_replica": 10.0,
    "in_flight_per_replica": 40.0,
    "in_flight_to_scale_at": 36.27,
}


@pytest.fixture(scope="module")
def day(layout):
    """Return a function that gives a day's document: an engine's plan of two replicas."""

    def document(engine: str = "vllm", *placements: dict[str, int], **changes: object) -> str:
        plan = json.loads(layout("cuda", engine, *(placements or ({"a": 2}, {"b": 2}))))
        return json.dumps(plan | {"scaling": SCALING | changes})

    return document


def scaled_object(text: str, additions: Additions = PLAIN) -> dict:
    """Return the ScaledObject of a document, held against KEDA's schema."""
    return check_scaled_object(render(text, "keda", additions=additions))


def test_keda_scales_the_deployment_that_is_rendered(day):
    """The target and the pods in the query are those of `--format kubernetes`."""
    rendered = next(yaml.safe_load_all(render(day(), "kubernetes")))
    spec = scaled_object(day())["spec"]
    target = spec["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (rendered["kind"], rendered["metadata"]["name"])
    assert target["apiVersion"] == rendered["apiVersion"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 3)
    assert f'pod=~"{target["name"]}-.*"' in spec["triggers"][0]["metadata"]["query"]


def test_replicas_over_several_nodes_are_scaled_as_a_set(day):
    """A LeaderWorkerSet is the target, of which a replica is several pods."""
    target = scaled_object(day("vllm", TWO_NODES))["spec"]["scaleTargetRef"]
    assert target["kind"] == "LeaderWorkerSet"


@pytest.mark.parametrize(
    ("engine", "running", "waiting"),
    [
        ("vllm", "vllm:num_requests_running", "vllm:num_requests_waiting"),
        ("sglang", "sglang:num_running_reqs", "sglang:num_queue_reqs"),
    ],
)
def test_the_load_is_what_the_engine_tells(day, engine, running, waiting):
    """Requests running and waiting, by the gauges the engine exports, against the threshold.

    It is rounded down.
    """
    trigger = scaled_object(day(engine))["spec"]["triggers"][0]
    assert f"sum(avg_over_time({running}{{" in trigger["metadata"]["query"]
    assert f"sum(avg_over_time({waiting}{{" in trigger["metadata"]["query"]
    assert trigger["metadata"]["threshold"] == "36.2"
    assert trigger["metricType"] == "AverageValue"


def test_a_flag_that_turns_metrics_on_is_told(day):
    """SGLang exports nothing without it."""
    assert "--enable-metrics" in render(day("sglang"), "keda")
    assert "--enable-metrics" not in render(day("vllm"), "keda")


def test_replicas_are_ready_when_an_hour_begins(day):
    """Each stretch of hours above the fewest starts its lead time of 300 s earlier.

    Those of a day: 7 to 11 with 2, 11 to 19 with 3, and 23 to midnight with 2 replicas.
    """
    clock = Additions(metrics=Metrics(timezone="Europe/Berlin"))
    triggers = scaled_object(day(), clock)["spec"]["triggers"][1:]
    assert [
        tuple(each["metadata"][name] for name in ("start", "end", "desiredReplicas", "timezone"))
        for each in triggers
    ] == [
        ("55 6 * * *", "0 11 * * *", "2", "Europe/Berlin"),
        ("55 10 * * *", "0 19 * * *", "3", "Europe/Berlin"),
        ("55 22 * * *", "0 0 * * *", "2", "Europe/Berlin"),
    ]


def test_part_of_a_day_has_no_clock(day):
    """Hours of a short trace are no hours of a clock."""
    spec = scaled_object(day(replicas_by_hour=[1, 3]))["spec"]
    assert [each["type"] for each in spec["triggers"]] == ["prometheus"]


def test_prometheus_is_where_it_is_said_to_be(day):
    """`--prometheus` is the server's address."""
    additions = Additions(metrics=Metrics(address="http://prom:9090"))
    trigger = scaled_object(day(), additions)["spec"]["triggers"][0]
    assert trigger["metadata"]["serverAddress"] == "http://prom:9090"


def test_an_autoscaler_of_kubernetes_reads_the_load_of_a_pod(day):
    """It passes the strict schema of autoscaling/v2; the adapter's rule stands above it."""
    text = render(day(), "hpa")
    manifest = yaml.safe_load(text)
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    metric = manifest["spec"]["metrics"][0]["pods"]
    assert metric["target"] == {"type": "AverageValue", "averageValue": "36200m"}
    assert f"name: {{as: {metric['metric']['name']}}}" in text
    assert "vllm:num_requests_running" in text


def test_both_wait_as_long_as_a_replica_loads(day):
    """No second one is added while the first loads; none is removed within twice that time."""
    behavior = yaml.safe_load(render(day(), "hpa"))["spec"]["behavior"]
    assert behavior["scaleUp"]["policies"][0]["periodSeconds"] == 300
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600
    advanced = scaled_object(day())["spec"]["advanced"]
    assert advanced["horizontalPodAutoscalerConfig"]["behavior"] == behavior


def test_a_threshold_is_never_nothing(day):
    """A load below a tenth of a request rounds to a tenth."""
    trigger = scaled_object(day(in_flight_to_scale_at=0.01))["spec"]["triggers"][0]
    assert trigger["metadata"]["threshold"] == "0.1"


@pytest.mark.parametrize("form", ["keda", "hpa"])
def test_a_plan_without_a_day_cannot_be_scaled(layout, form):
    """The message names the command that tells when to scale."""
    with pytest.raises(InvalidInput, match="budsim day --json"):
        render(layout("cuda", "vllm", {"a": 2}), form)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_replicas": 0},
        {"in_flight_to_scale_at": None},
        {"in_flight_per_replica": float("inf")},
        {"lead_time_s": -1},
        {"replicas_by_hour": [1] * 25},
    ],
)
def test_a_wrong_scaling_is_refused_by_its_field(day, wrong):
    """What a person changed in the document is checked when it is read."""
    with pytest.raises(InvalidInput, match=rf"PLAN\.scaling\.{next(iter(wrong))}"):
        render(day(**wrong), "keda")


def test_the_schema_refuses_what_keda_does_not_know(day):
    """The check of these tests is no rubber stamp: a misspelt field fails it."""
    text = render(day(), "keda").replace("minReplicaCount", "minReplicas")
    with pytest.raises(jsonschema.ValidationError):
        check_scaled_object(text)
