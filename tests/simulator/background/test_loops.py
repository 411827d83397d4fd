"""Durable runs and their events: order, crashes, leases, control, and the way to the broker."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from budsim.commons.database import Database
from budsim.commons.errors import Unavailable
from budsim.commons.telemetry import new_metrics
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.context import ServiceOptions
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question
from budsim.simulator.run_steps import RunSteps
from budsim.simulator.schemas import RunRequest
from budsim.simulator.services import Simulations
from budsim.simulator.storage.records import Run, Status, Step
from budsim.simulator.storage.repository import LeaseLost, Repository
from tests.simulator.serving import (
    CLUSTER_ID,
    MakeClient,
    StandInSidecar,
    ended,
    h100_cluster,
    known_answer,
)
from tests.waiting import wait_for

ORDER = [
    ("workflow_metadata", "PENDING"),
    ("validation", "STARTED"),
    ("eta", "RUNNING"),
    ("validation", "COMPLETED"),
    ("performance_estimation", "STARTED"),
    ("performance_estimation", "RUNNING"),
    ("performance_estimation", "RUNNING"),
    ("performance_estimation", "RUNNING"),
    ("performance_estimation", "COMPLETED"),
    ("ranking", "STARTED"),
    ("ranking", "COMPLETED"),
    ("results", "COMPLETED"),
]


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def repository(database_url: str) -> Any:
    """Return a repository on an empty, migrated database."""
    database = Database(database_url)
    database.migrate()
    yield Repository(database)
    database.close()


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


def replica(repository: Repository, clock: Clock, simulation: Any = known_answer) -> Simulations:
    """Return one replica of the service, without its loops."""
    inventory = FixedInventory((h100_cluster(CLUSTER_ID),))
    return Simulations(
        repository,
        inventory,
        ThreadWorkers(simulation, AnalyticPredictor),
        new_metrics(),
        ServiceOptions(),
        clock=clock,
    )


def claim(service: Simulations) -> list[Run]:
    """Let a replica take what is due."""
    return service.repository.claim(service.owner, now_s=service.clock(), lease_s=30, limit=10)


def log_of(repository: Repository, run_id: str) -> list[tuple[str, str]]:
    """Return the event log."""
    return [(event.event, event.status) for event in repository.outbox.events(run_id)]


async def test_events_are_announced_in_the_contract_s_order(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """The log of a run that succeeds is the contract's list, progress at every quarter."""
    service = replica(repository, clock)
    run = await service.accept(RunRequest.model_validate(body))
    await service.steps.carry_out(*claim(service))
    assert log_of(repository, run.run_id) == ORDER
    progress = [
        event.body["payload"]["content"]["message"]
        for event in repository.outbox.events(run.run_id)[5:8]
    ]
    assert progress == ["25 %", "50 %", "75 %"]


@pytest.mark.parametrize("survives", [1, 2, 3, 4])
async def test_a_replica_that_dies_anywhere_is_taken_over(
    repository: Repository,
    clock: Clock,
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    survives: int,
):
    """The run goes on elsewhere once its lease ends; every event once, in order, same answer."""
    dying, other = replica(repository, clock), replica(repository, clock)
    run = await dying.accept(RunRequest.model_validate(body))
    written = 0

    async def write_or_die(*arguments: Any, **named: Any) -> Run:
        nonlocal written
        written += 1
        if written > survives:
            raise asyncio.CancelledError
        return await RunSteps._advance(dying.steps, *arguments, **named)

    monkeypatch.setattr(dying.steps, "_advance", write_or_die)
    with pytest.raises(asyncio.CancelledError):
        await dying.steps.carry_out(*claim(dying))
    assert claim(other) == []
    clock.now_s += 31
    await other.steps.carry_out(*claim(other))
    assert log_of(repository, run.run_id) == ORDER
    assert len(repository.plans(run.run_id, wanted())) == 2


def wanted() -> Any:
    """Return a filter that only leaves out what misses its targets by more than half."""
    from budsim.simulator.storage.records import PlanFilter

    return PlanFilter(error_rate_threshold=0.1)


async def test_two_replicas_never_hold_one_run(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """What one has claimed, the other does not get; who lost a lease cannot write any more."""
    first, second = replica(repository, clock), replica(repository, clock)
    await first.accept(RunRequest.model_validate(body))
    (run,) = claim(first)
    assert claim(second) == []
    clock.now_s += 31
    assert [taken.run_id for taken in claim(second)] == [run.run_id]
    with pytest.raises(LeaseLost):
        await first.steps.carry_out(run)
    assert log_of(repository, run.run_id) == ORDER[:1]


async def test_a_prolonged_lease_keeps_the_run(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """A slow simulation is not taken over while its replica lives."""
    first, second = replica(repository, clock), replica(repository, clock)
    await first.accept(RunRequest.model_validate(body))
    (run,) = claim(first)
    assert repository.renew(run, clock() + 60)
    clock.now_s += 31
    assert claim(second) == []
    assert not repository.renew(replace(run, holder=second.owner), clock() + 60)


async def test_stop_pause_resume_and_restart(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """Paused runs wait, resumed ones go on, stopped ones end, restarted ones begin again."""
    service = replica(repository, clock)
    run = await service.accept(RunRequest.model_validate(body))
    assert service.pause(run.run_id).status is Status.SUSPENDED
    assert claim(service) == []
    assert service.resume(run.run_id).status is Status.PENDING
    assert service.stop(run.run_id).step is Step.DONE
    with pytest.raises(Exception, match="TERMINATED"):
        service.pause(run.run_id)
    service.restart(run.run_id)
    await service.steps.carry_out(*claim(service))
    assert log_of(repository, run.run_id) == ORDER
    service.restart(run.run_id)
    await service.steps.carry_out(*claim(service))
    assert log_of(repository, run.run_id) == ORDER + ORDER[1:]


async def test_stopping_a_run_takes_it_from_its_replica(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """Whoever computes cannot store an answer after the run was stopped."""

    def stopped_meanwhile(
        question: Question, predictor: object, *, known: object, progress: Callable[[float], None]
    ) -> Outcome:
        service.stop(run.run_id)
        return known_answer(question, predictor, known=known, progress=progress)

    service = replica(repository, clock, stopped_meanwhile)
    run = await service.accept(RunRequest.model_validate(body))
    with pytest.raises(LeaseLost):
        await service.steps.carry_out(*claim(service))
    assert service.find(run.run_id).status is Status.TERMINATED
    assert repository.plans(run.run_id, wanted()) == []


async def test_a_missing_dependency_is_tried_again_later(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """The run is given back and due a little later; nothing is announced as failed."""
    calls = 0

    def late(
        question: Question, predictor: object, *, known: object, progress: Callable[[float], None]
    ) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Unavailable("not yet")
        return known_answer(question, predictor, known=known, progress=progress)

    service = replica(repository, clock, late)
    run = await service.accept(RunRequest.model_validate(body))
    with pytest.raises(Unavailable):
        await service.steps.carry_out(*claim(service))
    assert claim(service) == []
    clock.now_s += 1
    await service.steps.carry_out(*claim(service))
    assert log_of(repository, run.run_id) == ORDER


async def test_requests_that_come_together_share_a_transaction(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """A hundred at once are stored in few writes, each as its own run, repeated keys as one."""
    service = replica(repository, clock)
    writes = 0
    add = repository.add

    def counted(accepted: Any) -> list[Run]:
        nonlocal writes
        writes += 1
        return add(accepted)

    repository.add = counted  # type: ignore[method-assign]
    keys = [f"key:{number % 50}" for number in range(100)]
    runs = await asyncio.gather(
        *(service.accept(RunRequest.model_validate(body), request_key=key) for key in keys)
    )
    assert len({run.run_id for run in runs}) == repository.waiting() == 50
    assert [run.run_id for run in runs[:50]] == [run.run_id for run in runs[50:]]
    assert writes < 20


async def test_events_carry_what_callers_listen_for(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """Addresses, the caller's workflow id, our source and topic, the trace."""
    wishes = {
        "notification_type": "event",
        "name": "deploy",
        "workflow_id": "w-7",
        "subscriber_ids": "u",
        "category": "inapp",
    }
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    service = replica(repository, clock)
    run = await service.accept(
        RunRequest.model_validate(body | {"notification_metadata": wishes, "traceparent": trace})
    )
    await service.steps.carry_out(*claim(service))
    events = [event.body for event in repository.outbox.events(run.run_id)]
    first, last = events[0], events[-1]
    assert (first["type"], first["workflow_id"], first["name"]) == (
        "workflow_metadata",
        run.run_id,
        "deploy",
    )
    assert "payload" not in first
    assert (last["source"], last["source_topic"], last["type"]) == (
        "budsim",
        "budSimMessages",
        "get_cluster_recommendations",
    )
    payload = last["payload"]
    assert (payload["workflow_id"], payload["category"], payload["event"]) == (
        "w-7",
        "inapp",
        "results",
    )
    assert payload["content"]["result"]["workflow_id"] == run.run_id
    assert {event["traceparent"] for event in events} == {trace}


def test_with_a_sidecar_inventory_and_events_go_through_it(
    make_client: MakeClient,
    sidecar: StandInSidecar,
    body: dict[str, Any],
    example: Callable[[str], Any],
):
    """The inventory comes from the state store, events leave through the broker, with the token."""
    sidecar.token = "t"
    sidecar.states["cluster_info"] = json.dumps(example("lab.json")).encode()
    client = make_client(dapr=sidecar.settings)
    workflow_id = client.post(
        "/simulator/run", json=body | {"source_topic": "pipelineMessages"}
    ).json()["workflow_id"]
    assert ended(client, workflow_id) == "COMPLETED"
    wait_for(lambda: len(sidecar.published) == len(ORDER))
    topic, event = sidecar.published[-1]
    assert (topic, event["specversion"], event["source"]) == ("pipelineMessages", "1.0", "budsim")
    sidecar.is_down = True
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_unfinished_runs_resume_at_start(
    make_client: MakeClient, body: dict[str, Any], sqlite_url: str
):
    """What an earlier process accepted and left is finished by the next one."""
    database = Database(sqlite_url)
    database.migrate()
    run = asyncio.run(
        replica(Repository(database), Clock()).accept(RunRequest.model_validate(body))
    )
    database.close()
    assert ended(make_client(), run.run_id) == "COMPLETED"


class Endless(ThreadWorkers):
    """Computes until it is cancelled, and notes that it was."""

    def __init__(self) -> None:
        super().__init__(known_answer, AnalyticPredictor)
        self.began, self.was_cancelled = asyncio.Event(), False

    async def simulate(self, question: Question, progress: Any, known: Any = None) -> Outcome:
        """Wait for ever."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        raise AssertionError


async def test_a_caller_that_leaves_ends_the_run_that_was_for_it(
    repository: Repository, clock: Clock, body: dict[str, Any]
):
    """The computation is cancelled, the run is stopped, and no other replica continues it."""
    workers = Endless()
    service = Simulations(
        repository,
        FixedInventory((h100_cluster(CLUSTER_ID),)),
        workers,
        new_metrics(),
        ServiceOptions(),
        clock=clock,
    )
    asked = RunRequest.model_validate(body | {"debug": True})
    call = asyncio.create_task(service.run_now(asked, request_key="key:1"))
    await workers.began.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert workers.was_cancelled
    run = repository.by_keys(["key:1"])["key:1"]
    assert run.status is Status.TERMINATED
    clock.now_s += 9999
    assert claim(service) == []
