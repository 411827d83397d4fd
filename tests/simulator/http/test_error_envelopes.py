"""Every error of ours has a status, and 429 and 503 say when to try again."""

import json
from http import HTTPStatus
from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.commons import errors
from budsim.simulator.http.error_envelopes import STATUSES, error_response


def test_every_error_of_ours_has_a_status():
    """Also those that are added later: no subclass of the tree's base is left out."""

    def below(kind: type[errors.BudsimError]) -> set[type[errors.BudsimError]]:
        direct = {one for one in kind.__subclasses__() if one.__module__ == errors.__name__}
        return direct | {deeper for one in direct for deeper in below(one)}

    covered = tuple(kind for kind, _ in STATUSES)
    assert all(issubclass(kind, covered) for kind in below(errors.BudsimError))


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (HTTPStatus.BAD_REQUEST, "BadRequestError", False),
        (HTTPStatus.REQUEST_TIMEOUT, "RequestTimeoutError", False),
        (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLargeError", False),
        (HTTPStatus.UNPROCESSABLE_ENTITY, "UnprocessableEntityError", False),
        (HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequestsError", True),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", False),
        (HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableError", True),
    ],
)
def test_an_envelope_names_its_status(status: HTTPStatus, kind: str, hint: bool):
    """By type and by code; the fields are the contract's."""
    response = error_response(status, "why", "field")
    assert json.loads(bytes(response.body)) == {
        "object": "error",
        "message": "why",
        "type": kind,
        "param": "field",
        "code": status,
    }
    assert ("retry-after" in response.headers) is hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concurrency": "4"}, "concurrency: must be a number, not text"),
        ({"target_ttft": "fast"}, "target_ttft: must be a number, not text"),
        ({"input_tokens": True}, "input_tokens: must be a number, not true or false"),
        ({"is_quantization": "yes"}, "is_quantization: must be true or false"),
        ({"debug": 1}, "debug: must be true or false"),
        ({"risk": "0.9"}, "risk: must be a number from 0 to below 1, expected or cautious"),
        ({"risk": 2}, "risk: must be a number from 0 to below 1, expected or cautious"),
        ({"source_topic": 5}, "source_topic: must be text or a list of texts"),
        ({"engines": ["vlm"]}, "engines: 'vlm' is not known; one of vllm, sglang"),
    ],
)
def test_a_wrong_type_is_told_once_and_never_guessed(
    client: TestClient, body: dict[str, Any], changes: dict[str, Any], message: str
):
    """Text is no number and no truth value; each field is named once, as the request spells it."""
    answer = client.post("/simulator/run", json=body | changes)
    assert answer.status_code in {404, 422}
    assert answer.json()["message"] == message
    assert answer.json()["param"] == message.partition(":")[0]


def test_whole_numbers_may_be_written_with_a_point(client: TestClient, body: dict[str, Any]):
    """64.0 is 64: some callers' JSON writes every number so."""
    assert client.post("/simulator/run", json=body | {"concurrency": 64.0}).status_code == 200


def test_a_missing_target_is_named_once(client: TestClient, body: dict[str, Any]):
    """With the others that are missing."""
    del body["target_ttft"], body["target_e2e_latency"]
    answer = client.post("/simulator/run", json=body)
    assert answer.json()["message"] == (
        "target_ttft: required for open models, like target_e2e_latency; null or 0: no target"
    )
