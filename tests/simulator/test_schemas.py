"""What comes in over the wire: units, bounds, both envelopes."""

from typing import Any

import pytest
from pydantic import ValidationError

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.schemas import (
    ClusterMetrics,
    DeploymentConfiguration,
    RunRequest,
    stored_plans,
)
from tests.simulator.situations import make_cluster, make_question


def test_targets_become_seconds_once(body: dict[str, Any]):
    """1,500 ms are 1.5 s; end-to-end latency is in seconds already; a rate stays a rate."""
    targets = RunRequest.model_validate(body).targets
    assert (targets.ttft_s, targets.e2e_s, targets.tokens_per_s_per_user) == (1.5, 20.0, 20.0)


@pytest.mark.parametrize("nothing", [None, 0, 0.0])
def test_null_and_zero_mean_no_target(body: dict[str, Any], nothing: object):
    """Neither divides by zero nor drops every configuration."""
    names = ("target_ttft", "target_throughput_per_user", "target_e2e_latency")
    targets = RunRequest.model_validate(body | dict.fromkeys(names, nothing)).targets
    assert (targets.ttft_s, targets.e2e_s, targets.tokens_per_s_per_user) == (None, None, None)


def test_open_models_must_say_their_targets(body: dict[str, Any]):
    """A target that is not mentioned is a mistake and is named; null is a choice."""
    del body["target_ttft"]
    with pytest.raises(ValidationError, match="target_ttft required for open models"):
        RunRequest.model_validate(body)


def test_cloud_models_need_no_targets(body: dict[str, Any]):
    """Latency of providers is unknown, so nobody has to ask for it."""
    bare = {key: value for key, value in body.items() if not key.startswith("target_")}
    assert RunRequest.model_validate(bare | {"is_proprietary_model": True}).targets.ttft_s is None


def test_cloud_event_and_plain_request_mean_the_same(body: dict[str, Any]):
    """With topic, pubsubname and data all there, the keys of data are the request; unknown ones are ignored."""
    event = {
        "specversion": "1.0",
        "id": "e1",
        "topic": "t",
        "pubsubname": "p",
        "unknown": 1,
        "data": {**body, "later": True},
    }
    opened = RunRequest.model_validate(event)
    assert opened.targets == RunRequest.model_validate(body).targets
    assert opened.id == "e1"


def test_stored_request_validates_to_the_same_question(body: dict[str, Any]):
    """Wire to store to wire is the identity for what the core reads."""
    request = RunRequest.model_validate(
        body | {"source_topic": ["a", "b"], "cluster_id": "4f2647a2-a20e-581a-ab8e-eb8be653d4e3"}
    )
    again = RunRequest.model_validate(request.stored())
    assert again.stored() == request.stored()
    assert again.targets == request.targets


@pytest.mark.parametrize(
    ("endpoints", "pooling"),
    [
        (None, False),
        ("", False),
        ("LLM", False),
        ("LLM,EMBEDDING", False),
        ("embedding", True),
        ("RERANK, CLASSIFY", True),
    ],
)
def test_models_wanted_for_vectors_only_are_not_asked_to_write(
    body: dict[str, Any], endpoints: str | None, pooling: bool
):
    """Endpoints without LLM and AUDIO leave nothing to generate."""
    assert RunRequest.model_validate(body | {"model_endpoints": endpoints}).pooling is pooling


def test_topics_are_listed_once(body: dict[str, Any]):
    """A string is one topic; a list keeps its order without repeats and blanks."""
    assert RunRequest.model_validate(body | {"source_topic": "a"}).topics == ("a",)
    assert RunRequest.model_validate(body | {"source_topic": ["b", "a", "b", ""]}).topics == (
        "b",
        "a",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_tokens", 0),
        ("input_tokens", -1),
        ("input_tokens", 10**12),
        ("output_tokens", True),
        ("concurrency", "many"),
        ("target_ttft", -5),
        ("target_ttft", float("nan")),
        ("target_e2e_latency", float("inf")),
        ("pretrained_model_uri", ""),
        ("pretrained_model_uri", "a\x00b"),
        ("pretrained_model_uri", "\ud800"),
        ("hardware_mode", "rented"),
        ("simulation_method", "guess"),
        ("cluster_id", "not-a-uuid"),
        ("source_topic", ["x"] * 17),
        ("surprise", 1),
    ],
)
def test_absurd_values_are_refused(body: dict[str, Any], field: str, value: object):
    """Zero, negative, absurd, missing or unknown: never a silent default."""
    with pytest.raises(ValidationError):
        RunRequest.model_validate(body | {field: value})


def test_a_mix_is_answered_as_several_node_groups():
    """Two device types in one deployment: a node group and an entry of device_types each, whose replicas and requests add up."""
    cluster = make_cluster((("A100-SXM4-80GB", 1),), (("H100-SXM", 1),))
    targets = {"ttft_s": 0.25, "tokens_per_s_per_user": 80.0}
    question = make_question(cluster, concurrency=60, targets=targets, analytic_only=True)
    stored = stored_plans(answer(question, AnalyticPredictor()), question, keep=1)[0]
    groups, metrics = (
        DeploymentConfiguration.of(stored).node_groups,
        ClusterMetrics.of(stored).metrics,
    )
    assert {group.device_name for group in groups} == {"A100-SXM4-80GB", "H100-SXM"}
    assert len({group.config_id for group in groups}) == 2
    for group, share in zip(groups, metrics.device_types, strict=True):
        assert share.num_replicas == group.replicas
        assert share.concurrency == group.replicas * int(group.labels.concurrency)
        assert share.cost_per_million_tokens == group.cost_per_million_tokens
    assert metrics.replica == sum(share.num_replicas for share in metrics.device_types)
    assert 60 <= metrics.concurrency == sum(share.concurrency for share in metrics.device_types)
    cheapest, dearest = sorted(share.cost_per_million_tokens for share in metrics.device_types)
    assert cheapest < metrics.cost_per_million_tokens < dearest
    assert metrics.ttft == max(group.ttft for group in groups)
