"""Requests: what has to be said, what is refused, what is stored."""

from typing import Any

import pytest
from pydantic import ValidationError

from budsim.simulator.schemas import RunRequest


def test_open_models_must_say_their_targets(body: dict[str, Any]):
    """A target that is not mentioned is a mistake and is named; null is a choice."""
    del body["target_ttft"]
    with pytest.raises(ValidationError, match="required for open models; null or 0: no target"):
        RunRequest.model_validate(body)


def test_cloud_models_need_no_targets(body: dict[str, Any]):
    """Latency of providers is unknown, so nobody has to ask for it."""
    bare = {key: value for key, value in body.items() if not key.startswith("target_")}
    assert RunRequest.model_validate(bare | {"is_proprietary_model": True}).targets.ttft_s is None


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
