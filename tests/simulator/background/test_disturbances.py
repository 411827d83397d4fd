"""Callers and neighbours that disturb runs under way."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.commons.database_settings import DatabaseSettings
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question
from budsim.simulator.searching import simulate
from tests.simulator.conftest import starting
from tests.simulator.serving import (
    CLUSTER_ID,
    OTHER_CLUSTER_ID,
    MakeClient,
    StandInSidecar,
    ended,
    h100_cluster,
    known_answer,
    wait_for,
)
from tests.soak.stack import inventory


class Replaceable:
    """An inventory that another service replaces between two steps of a run."""

    def __init__(self, *readings: tuple[Cluster, ...]) -> None:
        self._readings = list(readings)

    async def clusters(self) -> tuple[Cluster, ...]:
        """Return the next reading, the last one again and again."""
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]


class Picky(StandInSidecar):
    """A sidecar whose broker does not know the topic `nowhereMessages`."""

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, bytes]:
        """Answer as the stand-in does, and 404 for that topic."""
        return (
            (404, b"{}")
            if path.endswith("/nowhereMessages")
            else super().answer(method, path, token, body)
        )


@pytest.mark.parametrize("check", ["route", "validation"])
def test_a_cluster_that_vanishes_mid_run_is_named(
    make_client: MakeClient, body: dict[str, Any], check: str
):
    """The run fails at the step that missed it, and its message names the field."""
    before, after = (h100_cluster(CLUSTER_ID),), (h100_cluster(OTHER_CLUSTER_ID),)
    readings = (before, after) if check == "route" else (before, before, after)
    client = make_client(inventory=Replaceable(*readings))
    workflow_id = client.post("/simulator/run", json=body | {"cluster_id": CLUSTER_ID}).json()[
        "workflow_id"
    ]
    assert ended(client, workflow_id) == "FAILED"
    last = client.get(f"/workflow/{workflow_id}/events").json()["items"][-1]["payload"]
    assert last["event"] == ("validation" if check == "route" else "performance_estimation")
    assert "cluster_id" in last["content"]["message"]


def test_an_inventory_replaced_mid_run_is_the_one_answered_for(
    make_client: MakeClient, body: dict[str, Any]
):
    """What is recommended exists in the newest inventory."""
    client = make_client(
        inventory=Replaceable((h100_cluster(CLUSTER_ID),), (h100_cluster(OTHER_CLUSTER_ID),))
    )
    workflow_id = client.post("/simulator/run", json=body).json()["workflow_id"]
    assert ended(client, workflow_id) == "COMPLETED"
    page = client.get(
        "/simulator/recommendations", params={"workflow_id": workflow_id, "limit": 100}
    ).json()
    assert {item["cluster_id"] for item in page["items"]} == {OTHER_CLUSTER_ID}


def test_a_topic_nobody_knows_holds_up_no_other(make_client: MakeClient, body: dict[str, Any]):
    """Every event reaches the topic that exists; those for the other stay stored."""
    sidecar = Picky()
    try:
        client = make_client(
            dapr=sidecar.settings, inventory=Replaceable((h100_cluster(CLUSTER_ID),))
        )
        asked = body | {"source_topic": ["nowhereMessages", "somewhereMessages"]}
        workflow_id = client.post("/simulator/run", json=asked).json()["workflow_id"]
        assert ended(client, workflow_id) == "COMPLETED"
        events = client.get(f"/workflow/{workflow_id}/events").json()["items"]
        assert wait_for(lambda: [event for _, event in sidecar.published] == events)
    finally:
        sidecar.close()


def test_a_replayed_event_is_one_run_whatever_came_between(
    client: TestClient, body: dict[str, Any]
):
    """Late, twice and in any order: each event id is one workflow, also with another request."""

    def deliver(number: int, concurrency: int) -> str:
        event = {
            "id": f"e{number}",
            "topic": "t",
            "pubsubname": "p",
            "data": body | {"concurrency": concurrency},
        }
        status: str = client.post("/notifications", json=event).json()["status"]
        return status

    assert [deliver(number, number) for number in (3, 1, 2, 3, 1, 1)] == ["SUCCESS"] * 6
    assert deliver(2, 99) == "DROP"
    service = client.app.state.budsim.simulations  # type: ignore[attr-defined]
    assert len(service.repository.by_keys([f"event:e{number}" for number in range(5)])) == 3


def test_an_event_id_of_any_length_is_one_run(
    make_client: MakeClient, body: dict[str, Any], postgres_url: str
):
    """Longer than the column that holds it: taken, and recognized when it comes again."""
    client = make_client(database=DatabaseSettings(_env_file=None, database_url=postgres_url))
    event = {"id": "e" * 1000, "topic": "t", "pubsubname": "p", "data": body}
    assert [client.post("/notifications", json=event).json()["status"] for _ in range(2)] == [
        "SUCCESS"
    ] * 2
    first, again = (
        client.post("/simulator/run", json=event).json()["workflow_id"] for _ in range(2)
    )
    assert first == again


def test_a_run_stopped_while_it_is_computed_stays_stopped(
    make_client: MakeClient, body: dict[str, Any]
):
    """Its answer comes too late: no plans, no results event, and a second stop is a conflict."""
    computing, go_on = threading.Event(), threading.Event()

    def slow(
        question: Question, predictor: object, *, known: object, progress: Callable[[float], None]
    ) -> Outcome:
        computing.set()
        go_on.wait(20)
        return known_answer(question, predictor, known=known, progress=progress)

    client = make_client(workers=ThreadWorkers(slow, AnalyticPredictor))
    workflow_id = client.post("/simulator/run", json=body).json()["workflow_id"]
    assert computing.wait(20)
    assert client.delete(f"/workflow/{workflow_id}/stop").json()["param"]["status"] == "TERMINATED"
    go_on.set()
    assert client.delete(f"/workflow/{workflow_id}/stop").status_code == 409
    again = client.post("/simulator/run", json=body).json()["workflow_id"]
    assert ended(client, again) == "COMPLETED"
    assert client.get(f"/workflow/{workflow_id}/status").json()["status"] == "TERMINATED"
    assert (
        client.get("/simulator/recommendations", params={"workflow_id": workflow_id}).json()[
            "total_items"
        ]
        == 0
    )


POISON: list[dict[str, Any]] = [
    {"pretrained_model_uri": "\ud800"},
    {"source_topic": "\udfff"},
    {"notification_metadata": {"name": "a\x00b"}},
    {"notification_metadata": {"subscriber_ids": ["\ud83d"]}},
    {"model_uri": "\x00"},
]


def as_text(content: dict[str, Any], *, packed: bool) -> str:
    """Return a message of the broker; packed: its data is JSON in a string."""
    event = {"id": str(content), "topic": "t", "pubsubname": "p"}
    return json.dumps(event | {"data": json.dumps(content) if packed else content})


@pytest.mark.parametrize("packed", [False, True], ids=["object", "string"])
@pytest.mark.parametrize("poison", POISON)
def test_text_the_database_cannot_store_is_refused_in_every_form(
    client: TestClient, body: dict[str, Any], poison: dict[str, Any], packed: bool
):
    """Dropped when it comes from the broker, 422 from a caller; never a 500."""
    sent = as_text(body | poison, packed=packed)
    as_event = {"content-type": "application/cloudevents+json"}
    dropped = client.post("/notifications", content=sent, headers=as_event)
    assert (dropped.status_code, dropped.json()["status"]) == (200, "DROP")
    refused = client.post("/simulator/run", content=sent, headers=as_event)
    assert (refused.status_code, refused.json()["object"]) == (422, "error")


def test_a_poisoned_message_harms_no_innocent_caller(
    make_client: MakeClient,
    body: dict[str, Any],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """Even past the wire's check: of 40 requests in one transaction only the poisoned ones fail."""
    monkeypatch.setattr("budsim.simulator.wire.envelopes._refuse_unstorable", lambda _value: None)
    client = make_client(database=DatabaseSettings(_env_file=None, database_url=postgres_url))
    good = [json.dumps(body | {"concurrency": 8 + number}) for number in range(36)]
    bad = [json.dumps(body | {"notification_metadata": {"actor": "\ud800"}})] * 4
    requests = [*good[:18], *bad, *good[18:]]

    def ask(content: str) -> int:
        return client.post("/simulator/run", content=content).status_code

    with ThreadPoolExecutor(len(requests)) as callers:
        found = list(callers.map(ask, requests))
    assert found == [200] * 18 + [422] * 4 + [200] * 18


def test_runs_outlive_an_inventory_that_comes_and_goes(
    make_client: MakeClient, body: dict[str, Any], sidecar: StandInSidecar
):
    """Missing, empty and cut off in turns while twenty runs are accepted and carried out."""
    (cluster,) = inventory()
    whole = json.dumps([cluster]).encode()
    sidecar.states["cluster_info"] = whole
    client = make_client(
        dapr=sidecar.settings,
        inventory=None,
        workers=ThreadWorkers(known_answer, AnalyticPredictor),
    )
    stopped = threading.Event()

    def disturb() -> None:
        for value in itertools.cycle((None, whole, b"[]", whole, b"null", whole)):
            if value is None:
                sidecar.states.pop("cluster_info", None)
            else:
                sidecar.states["cluster_info"] = value
            if stopped.wait(0.05):
                return

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        runs = [
            client.post("/simulator/run", json=body | {"concurrency": 8 + number}).json()
            for number in range(20)
        ]
    finally:
        stopped.set()
        disturber.join()
    sidecar.states["cluster_info"] = whole
    for run in runs:
        assert wait_for(
            lambda run=run: (
                client.get(f"/workflow/{run['workflow_id']}/status").json()["status"] == "COMPLETED"
            ),
            longest_s=60,
        )


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"data":{"topic":'])
@pytest.mark.parametrize(
    "path",
    [
        "/simulator/run",
        "/simulator/configurations",
        "/simulator/node-configurations",
        "/simulator/benchmark-config",
        "/notifications",
    ],
)
@pytest.mark.parametrize("depth", [400, 900, 50_000])
def test_a_body_nested_very_deep_is_refused(
    client: TestClient, path: str, opening: str, depth: int
):
    """Whole or cut off, by itself or as the JSON string of an event's data: never a 500."""
    closing = "".join({"[": "]", "{": "}"}[mark] for mark in reversed(opening) if mark in "[{")
    nested = opening * depth + "1" + closing * depth
    event = {"topic": "t", "pubsubname": "p", "data": nested}
    for content in (nested, opening * depth, json.dumps(event)):
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in {200, 400, 413, 422}, answer.text[:200]
        assert answer.status_code != 200 or answer.json() == {"status": "DROP"}


NUMBERS = ["1e-300", "5e-324", "1e-9", "1e300", "1.7976931348623157e308", "-0.0", "1e400", "NaN"]
FIELDS = ["target_ttft", "target_throughput_per_user", "target_e2e_latency", "concurrency"]


@pytest.fixture(scope="module")
def searching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return a service that searches by physics alone."""
    with starting(f"sqlite:///{tmp_path_factory.mktemp('searching') / 'runs.db'}") as make:
        yield make(workers=ThreadWorkers(simulate, AnalyticPredictor))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", FIELDS)
def test_any_number_is_answered_or_refused(
    searching: TestClient, body: dict[str, Any], field: str, number: str
):
    """By a real search: no 500, no run that fails by an unexpected error."""
    asked = body | {"debug": True, "simulation_method": "heuristic"}
    text = json.dumps(asked).replace(
        f'"{field}": {json.dumps(asked[field])}', f'"{field}": {number}'
    )
    assert number in text
    answer = searching.post(
        "/simulator/run", content=text, headers={"content-type": "application/json"}
    )
    assert answer.status_code in {200, 400, 422}, answer.text[:300]
    assert "unexpected" not in answer.text
