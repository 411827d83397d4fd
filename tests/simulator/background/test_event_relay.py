"""The relay: order, repeats, topics that refuse, and what becomes of their events."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from budsim.commons.dapr import connect
from budsim.commons.database import Database
from budsim.commons.errors import Unavailable
from budsim.commons.telemetry import new_metrics
from budsim.simulator.background.event_relay import LONGEST_REFUSAL_PAUSE_S, Relay
from budsim.simulator.events import published_body
from budsim.simulator.schemas import RunRequest
from budsim.simulator.storage.repository import Repository
from tests.simulator.background.test_loops import ORDER, Clock, claim, replica
from tests.simulator.serving import StandInSidecar

GIVE_UP_S = 100.0


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    """Return a repository on an empty, migrated database."""
    database = Database(database_url)
    database.migrate()
    yield Repository(database)
    database.close()


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


class Broker:
    """A sidecar whose broker refuses some topics, and notes every call."""

    def __init__(self, *refusing: str) -> None:
        self.refusing = set(refusing)
        self.calls: list[str] = []
        self.taken: list[tuple[str, Mapping[str, object]]] = []

    async def publish(self, topic: str, envelope: Mapping[str, object]) -> None:
        """Take an event, or refuse it."""
        self.calls.append(topic)
        if topic in self.refusing:
            raise Unavailable("the broker refuses")
        self.taken.append((topic, envelope))

    def topics(self) -> list[str]:
        """Return the topics of the events taken, in order."""
        return [topic for topic, _ in self.taken]


def relay_of(repository: Repository, sidecar: Any, clock: Clock) -> Relay:
    """Return a relay that gives up after a hundred seconds."""
    return Relay(
        repository,
        sidecar,
        new_metrics(),
        dead_letter="deadMessages",
        give_up_s=GIVE_UP_S,
        clock=clock,
    )


async def accept(repository: Repository, clock: Clock, body: dict[str, Any], *topics: str) -> str:
    """Accept a request that wants its events on these topics; return the run's id."""
    service = replica(repository, clock)
    asked = RunRequest.model_validate(body | {"source_topic": list(topics)})
    return (await service.accept(asked)).run_id


async def test_a_topic_that_refuses_is_tried_by_one_event_at_a_time(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """Ten runs have events for it: one call, and one more when it has rested."""
    broker = Broker("badMessages")
    relay = relay_of(repository, broker, clock)
    await accept(repository, clock, body, "badMessages")
    await relay.send()
    for number in range(9):
        await accept(repository, clock, body | {"concurrency": 8 + number}, "badMessages")
    await relay.send()
    assert broker.calls == ["badMessages"]
    clock.now_s += 1.0
    await relay.send()
    assert broker.calls == ["badMessages"] * 2


async def test_other_topics_go_on_meanwhile(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """Events for them leave at once, of the same run and of other runs."""
    broker = Broker("badMessages")
    relay = relay_of(repository, broker, clock)
    await accept(repository, clock, body, "badMessages", "goodMessages")
    for number in range(9):
        await accept(repository, clock, body | {"concurrency": 8 + number}, "goodMessages")
    await relay.send()
    assert broker.topics() == ["goodMessages"] * 10


async def test_events_leave_in_order_when_a_topic_takes_them_again(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """None is lost, and none is sent before an earlier one of its run."""
    broker = Broker("lateMessages")
    relay = relay_of(repository, broker, clock)
    service = replica(repository, clock)
    asked = RunRequest.model_validate(body | {"source_topic": ["lateMessages"]})
    run = await service.accept(asked)
    await relay.send()
    await service.steps.carry_out(*claim(service))
    broker.refusing.clear()
    clock.now_s += LONGEST_REFUSAL_PAUSE_S
    while await relay.send():
        pass
    stored = [published_body(event) for event in repository.outbox.events(run.run_id)]
    assert [event for _, event in broker.taken] == stored
    assert repository.outbox.unsent() == (0, None)


async def test_an_event_refused_for_too_long_goes_to_the_dead_letters(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """With the topic it was for; nothing is left then, so its run can be deleted."""
    broker = Broker("badMessages")
    relay = relay_of(repository, broker, clock)
    await accept(repository, clock, body, "badMessages")
    await relay.send()
    clock.now_s += GIVE_UP_S - 1.0
    await relay.send()
    assert broker.taken == []
    clock.now_s += LONGEST_REFUSAL_PAUSE_S
    await relay.send()
    ((topic, letter),) = broker.taken
    assert (topic, letter["subject"]) == ("deadMessages", "badMessages")
    assert repository.outbox.unsent() == (0, None)


async def test_an_event_that_even_the_dead_letters_refuse_ends(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """After twice the time it is given up, and the log tells."""
    relay = relay_of(repository, Broker("badMessages", "deadMessages"), clock)
    await accept(repository, clock, body, "badMessages")
    for _ in range(2):
        clock.now_s += GIVE_UP_S - 1.0
        await relay.send()
        assert repository.outbox.unsent()[0] == 1
    clock.now_s += LONGEST_REFUSAL_PAUSE_S
    await relay.send()
    assert repository.outbox.unsent() == (0, None)


async def test_without_a_sidecar_events_go_to_the_log(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """And count as sent."""
    await accept(repository, clock, body, "aMessages")
    await relay_of(repository, None, clock).send()
    assert repository.outbox.unsent() == (0, None)


async def test_relay_sends_in_order_and_keeps_what_is_refused(
    repository: Repository, clock: Clock, body: dict[str, Any], sidecar: StandInSidecar
):
    """While the sidecar is away nothing is lost; then every event leaves once, in order."""
    service = replica(repository, clock)
    client = connect(sidecar.settings)
    relay = relay_of(repository, client, clock)
    run = await service.accept(
        RunRequest.model_validate(body | {"source_topic": ["aMessages", "bMessages"]})
    )
    sidecar.is_down = True
    await relay.send()
    assert sidecar.published == []
    await service.steps.carry_out(*claim(service))
    sidecar.is_down = False
    clock.now_s += 60
    assert await relay.send() == 1
    assert await relay.send() == 0
    assert client is not None
    await client.close()
    stored = [published_body(event) for event in repository.outbox.events(run.run_id)]
    for topic in ("aMessages", "bMessages"):
        assert [event for at, event in sidecar.published if at == topic] == stored
    payloads = [event["payload"] for event in stored[1:]]
    assert [payload["event"] for payload in payloads] == [name for name, _ in ORDER[1:]]
    assert [payload["sequence"] for payload in payloads] == list(range(1, len(ORDER)))
    assert len({payload["event_id"] for payload in payloads}) == len(payloads)


async def test_two_relays_never_send_one_run_s_events(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """Events written while a relay sends earlier ones of the run wait for it, and keep order."""
    service = replica(repository, clock)
    await service.accept(RunRequest.model_validate(body | {"source_topic": "aMessages"}))

    def look() -> list[str]:
        found = repository.outbox.claim(now_s=clock(), lease_s=60, limit=10)
        return [envelope.event for outgoing in found for envelope in outgoing.envelopes]

    assert look() == ["workflow_metadata"]
    await service.steps.carry_out(*claim(service))
    assert look() == []
    clock.now_s += 61
    assert look() == [name for name, _ in ORDER]


async def test_an_event_sent_but_not_noted_keeps_its_id(
    repository: Repository,
    clock: Clock,
    body: dict[str, Any],
    sidecar: StandInSidecar,
    monkeypatch: pytest.MonkeyPatch,
):
    """A crash between sending and noting sends again under the same id."""
    service = replica(repository, clock)
    client = connect(sidecar.settings)
    assert client is not None
    relay = relay_of(repository, client, clock)
    await service.accept(RunRequest.model_validate(body | {"source_topic": "aMessages"}))
    with monkeypatch.context() as crash:
        crash.setattr(
            repository.outbox,
            "record",
            lambda *_a, **_k: (_ for _ in ()).throw(Unavailable("killed")),
        )
        await relay.send()
    clock.now_s += 61
    await relay.send()
    await client.close()
    first, second = sidecar.published
    assert first == second
