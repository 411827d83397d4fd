"""What an event says and to whom: flat, with its id and its place inside the payload."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from budsim.commons.config import DaprSettings
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.events import Announcer, published_body
from budsim.simulator.schemas import RunRequest
from budsim.simulator.storage.records import Run, Status, Step
from tests.callers import refused_events
from tests.simulator.serving import CLUSTER_ID, MakeClient, StandInSidecar, ended, h100_cluster
from tests.waiting import wait_for

RUN = Run(
    run_id="3f0d7c5e-6a0f-4b7e-9a53-0d5c1f6f2a11",
    status=Status.PENDING,
    step=Step.VALIDATION,
    request={},
    created_s=1.0,
)
NOT_SENT = {"id", "datacontenttype", "object", "data"}
"""Keys the listening application refuses at the top of an event."""


def announcer(body: dict[str, Any], notify_topic: str | None = None, **wanted: Any) -> Announcer:
    """Return what makes the events of a request that names one topic."""
    asked = {"source_topic": "aMessages", "notification_metadata": wanted}
    request = RunRequest.model_validate(body | asked)
    return Announcer(RUN, request, own_topic="own", notify_topic=notify_topic, now_s=0.0)


def start(made: Announcer) -> list[tuple[str | None, dict[str, Any]]]:
    """Return topics and published bodies of the first step's event."""
    sent = made.step("validation", Status.STARTED, "Checking the request")
    return [(envelope.topic, published_body(envelope)) for envelope in sent]


@pytest.fixture
def listened(
    make_client: MakeClient, sidecar: StandInSidecar, body: dict[str, Any]
) -> tuple[TestClient, str, StandInSidecar]:
    """Return a service behind a stand-in sidecar and the id of a run whose events have left."""
    settings = DaprSettings(
        **sidecar.settings.model_dump() | {"notify_service_topic": "notifications"}
    )
    client = make_client(dapr=settings, inventory=FixedInventory((h100_cluster(CLUSTER_ID),)))
    wanted = {"subscriber_ids": ["u-1"], "workflow_id": "theirs", "actor": None}
    asked = body | {"source_topic": "aMessages", "notification_metadata": wanted}
    workflow_id = client.post("/simulator/run", json=asked).json()["workflow_id"]
    assert ended(client, workflow_id) == "COMPLETED"
    count = client.get(f"/workflow/{workflow_id}/events").json()["total_items"]
    wait_for(lambda: len(sidecar.published) == 2 * count)
    return client, workflow_id, sidecar


def test_the_listening_application_takes_every_event(
    listened: tuple[TestClient, str, StandInSidecar],
):
    """A whole run behind a sidecar: no key it refuses, and never a null for a name."""
    bodies = [body for _, body in listened[2].published]
    assert refused_events(bodies) == []
    assert not {key for body in bodies for key in body} & NOT_SENT
    assert {body["name"] for body in bodies} == {"run_simulation"}


def test_events_go_to_the_notification_service_too(
    listened: tuple[TestClient, str, StandInSidecar],
):
    """Subscribers are named: the notify topic gets what the source topic gets."""
    sent = listened[2].published
    of_topic = {
        topic: [body for at, body in sent if at == topic] for topic in {at for at, _ in sent}
    }
    assert set(of_topic) == {"aMessages", "notifications"}
    assert of_topic["aMessages"] == of_topic["notifications"]


def test_the_log_of_a_run_has_each_event_once_page_by_page(
    listened: tuple[TestClient, str, StandInSidecar],
):
    """Two pages of five are the first ten of all, in order."""
    client, workflow_id, sidecar = listened
    address = f"/workflow/{workflow_id}/events"
    whole = client.get(address).json()
    assert whole["items"] == [body for topic, body in sidecar.published if topic == "aMessages"]
    pages = [client.get(address, params={"limit": 5, "page": page}).json() for page in (1, 2)]
    assert [item for page in pages for item in page["items"]] == whole["items"][:10]
    assert pages[0]["total_pages"] == -(-whole["total_items"] // 5)


@pytest.mark.parametrize(
    ("notify_topic", "wanted", "topics"),
    [
        (None, {"subscriber_ids": "u"}, ["aMessages"]),
        ("notifications", {}, ["aMessages"]),
        ("notifications", {"subscriber_ids": "u"}, ["aMessages", "notifications"]),
        ("notifications", {"topic_keys": ["k"]}, ["aMessages", "notifications"]),
        ("aMessages", {"topic_keys": "k"}, ["aMessages"]),
    ],
)
def test_the_notify_topic_is_used_where_there_is_one_and_somebody_to_notify(
    body: dict[str, Any], notify_topic: str | None, wanted: dict[str, Any], topics: list[str]
):
    """Unset, or without subscribers, nothing is sent there; no topic gets an event twice."""
    assert [topic for topic, _ in start(announcer(body, notify_topic, **wanted))] == topics


def test_an_event_has_one_id_on_every_topic_and_whenever_it_is_made(body: dict[str, Any]):
    """Listeners recognize a repeated event by it."""
    made = start(announcer(body, "notifications", subscriber_ids="u"))
    again = start(announcer(body))
    ids = {event["payload"]["event_id"] for _, event in (*made, *again)}
    assert len(ids) == 1


def test_keys_of_topics_are_echoed_as_text(body: dict[str, Any]):
    """Listeners refuse objects there."""
    (_, event) = start(announcer(body, topic_keys=[{"type": "Topic", "topicKey": "k-1"}]))[0]
    assert event["topic_keys"] == ["k-1"]
    assert refused_events([event]) == []


def test_what_is_echoed_is_bounded(body: dict[str, Any]):
    """16 KiB stand in every event of a run; a megabyte of subscribers is refused by name."""
    wanted = {"subscriber_ids": ["x" * 36] * 30_000}
    with pytest.raises(ValidationError, match="to be echoed in every event"):
        RunRequest.model_validate(body | {"notification_metadata": wanted})


@pytest.mark.parametrize("topic", ["statestore", "budsim||cluster_info", "messages"])
def test_topics_that_nobody_allows_are_refused_both_ways_in(
    client: TestClient, body: dict[str, Any], topic: str
):
    """Over HTTP with the field's name, waiting or not; from the broker the message is dropped."""
    for debug in (False, True):
        asked = body | {"source_topic": topic, "debug": debug}
        refused = client.post("/simulator/run", json=asked)
        assert (refused.status_code, refused.json()["param"]) == (422, "source_topic")
    event = {"id": "1", "topic": "budSimMessages", "pubsubname": "pubsub", "source": "s"}
    sent = client.post("/notifications", json=event | {"data": body | {"source_topic": topic}})
    assert sent.json() == {"status": "DROP"}
