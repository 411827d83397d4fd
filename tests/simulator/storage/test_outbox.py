"""Events of a run: each kept once, each sent to every topic, old ones carried over."""

import json
from collections.abc import Iterator

import pytest
from alembic.config import Config
from sqlalchemy import text

from alembic import command
from budsim.commons.database import ALEMBIC_INI, Database
from budsim.simulator.storage.outbox import SendResult
from budsim.simulator.storage.records import Envelope, Run, Status, Step
from budsim.simulator.storage.repository import NewRun, Repository

RUN_ID = "3f0d7c5e-6a0f-4b7e-9a53-0d5c1f6f2a11"
FIRST, SECOND = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
BEFORE_SPLIT = "0003"
OLD_BODY = {
    "type": "get_cluster_recommendations",
    "time": "2026-11-24T02:00:00+00:00",
    "data": {"object": "x", "name": "deploy", "payload": {"event": "validation"}},
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Return an empty database on SQLite, and one on Postgres."""
    found = Database(database_url)
    yield found
    found.close()


def envelopes(event_id: str, *topics: str | None) -> list[Envelope]:
    """Return one event on its way to some topics."""
    return [
        Envelope(
            event_id=event_id,
            topic=topic,
            event="eta",
            status="RUNNING",
            body={"n": event_id},
            created_s=1.0,
        )
        for topic in topics
    ]


def stored(database: Database, *events: Envelope) -> Repository:
    """Return a repository with one run that has these events."""
    database.migrate()
    repository = Repository(database)
    run = Run(run_id=RUN_ID, status=Status.PENDING, step=Step.VALIDATION, request={}, created_s=1.0)
    repository.add([NewRun(run=run, envelopes=events, due_s=1.0)])
    return repository


def test_an_event_is_stored_once_for_all_its_topics(database: Database):
    """Two topics: one event of sequence 0, two deliveries of it."""
    outbox = stored(database, *envelopes(FIRST, "a", "b"), *envelopes(SECOND, "a")).outbox
    assert [(event.event_id, event.sequence) for event in outbox.events(RUN_ID)] == [
        (FIRST, 0),
        (SECOND, 1),
    ]
    assert (outbox.count(RUN_ID), outbox.unsent()) == (2, (3, 1.0))


def test_a_topic_that_refuses_keeps_its_delivery_only(database: Database):
    """Sent on one topic and refused on the other: the second comes again, with its failure."""
    outbox = stored(database, *envelopes(FIRST, "a", "b")).outbox
    (claimed,) = outbox.claim(now_s=2.0, lease_s=60.0, limit=1)
    assert [envelope.topic for envelope in claimed.envelopes] == ["a", "b"]
    result = SendResult(run_id=RUN_ID, sent=[(FIRST, "a")], refused=[(FIRST, "b")], pause_s=0.0)
    outbox.record([result], now_s=2.0)
    (left,) = outbox.claim(now_s=3.0, lease_s=60.0, limit=1)
    assert ([envelope.topic for envelope in left.envelopes], left.failures) == (["b"], 1)


def test_an_event_without_topic_is_delivered_to_the_log(database: Database):
    """It is claimed like any other, with no topic."""
    outbox = stored(database, *envelopes(FIRST, None)).outbox
    (claimed,) = outbox.claim(now_s=2.0, lease_s=60.0, limit=1)
    assert [envelope.topic for envelope in claimed.envelopes] == [None]
    outbox.record(
        [SendResult(run_id=RUN_ID, sent=[(FIRST, None)], refused=[], pause_s=0.0)], now_s=2
    )
    assert outbox.unsent() == (0, None)


def test_events_written_before_the_split_are_carried_over_flat(database: Database):
    """What waited in the outbox keeps its id and topic, and lies on it as listeners take it."""
    config = Config(str(ALEMBIC_INI))
    config.attributes["engine"] = database.engine
    command.upgrade(config, BEFORE_SPLIT)
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO runs (run_id, status, step, attempt, failures, message, reasons,"
                " request, fingerprint, due_s, relay_due_s, created_s, updated_s) VALUES"
                " (:run, 'PENDING', 'validation', 1, 0, '', '[]', '{}', '', 0, 0, 1, 1)"
            ),
            {"run": RUN_ID if database.engine.dialect.name != "sqlite" else _hex(RUN_ID)},
        )
        connection.execute(
            text(
                "INSERT INTO outbox (event_id, run_id, sequence, topic, event, status, body,"
                " created_s, failures) VALUES (:id, :run, 1, 't', 'validation', 'STARTED', :body,"
                " 1, 2)"
            ),
            {
                "id": FIRST if database.engine.dialect.name != "sqlite" else _hex(FIRST),
                "run": RUN_ID if database.engine.dialect.name != "sqlite" else _hex(RUN_ID),
                "body": json.dumps(OLD_BODY),
            },
        )
    command.upgrade(config, "head")
    (claimed,) = Repository(database).outbox.claim(now_s=2.0, lease_s=1.0, limit=1)
    (envelope,) = claimed.envelopes
    assert (envelope.event_id, envelope.topic, claimed.failures) == (FIRST, "t", 2)
    assert envelope.body == {
        "type": "get_cluster_recommendations",
        "time": "2026-11-24T02:00:00+00:00",
        "name": "deploy",
        "payload": {"event": "validation"},
    }


def _hex(value: str) -> str:
    """Return a UUID as SQLite stores it."""
    return value.replace("-", "")
