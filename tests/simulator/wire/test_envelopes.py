"""Both forms a request comes in, and where its events go."""

from typing import Any

from budsim.simulator.schemas import RunRequest


def test_cloud_event_and_plain_request_mean_the_same(body: dict[str, Any]):
    """With topic, pubsubname and data all there, the keys of data are the request.

    Unknown ones are ignored.
    """
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


def test_topics_are_listed_once(body: dict[str, Any]):
    """A string is one topic; a list keeps its order without repeats and blanks."""
    assert RunRequest.model_validate(body | {"source_topic": "a"}).topics == ("a",)
    assert RunRequest.model_validate(body | {"source_topic": ["b", "a", "b", ""]}).topics == (
        "b",
        "a",
    )
