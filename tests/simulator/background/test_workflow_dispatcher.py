"""Runs as Dapr workflows, over Dapr's own protocol: order, retries, control, failures."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from budsim.commons.config import DaprSettings
from budsim.commons.dapr import GrpcSidecar, connect
from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.database import Database
from budsim.commons.errors import Unavailable
from budsim.hardware_ops.inventory import read_inventory
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers, WorkerLost
from budsim.simulator.background.workflow_dispatcher import (
    RUNS_PER_WORKER,
    STALLED_AFTER_LEASES,
    WorkflowDispatcher,
)
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question
from budsim.simulator.run_steps import SETBACKS_ALLOWED
from budsim.simulator.schemas import RunRequest
from budsim.simulator.searching import simulate
from budsim.simulator.storage.records import PlanFilter, Run, Status, Step
from budsim.simulator.storage.repository import Repository
from tests.simulator.background.task_hub import StandInTaskHub, serving
from tests.simulator.background.test_loops import ORDER
from tests.simulator.background.workflow_stage import Counting, Replaceable, Stage, known, until
from tests.simulator.serving import CLUSTER_ID, OTHER_CLUSTER_ID, h100_cluster, known_answer

FAN_OUT = ["validation", *4 * ["performance_estimation"], "ranking", "publish"]
"""Two clusters of one group of devices and two engines each."""
EVERYTHING = PlanFilter(error_rate_threshold=float("inf"))
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What a workflow does to a run is the same on both; the other tests read and write on each."""


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    """Yield an empty stage."""
    database = Database(database_url)
    database.migrate()
    hub = StandInTaskHub()
    async with serving(hub) as port:
        stage = Stage(Repository(database), hub, port)
        yield stage
        await stage.close()
    database.close()


async def test_a_run_is_searched_part_by_part_and_announced_in_order(
    stage: Stage, body: dict[str, Any]
):
    """One activity a part, then ranking; events as the contract orders them, each once."""
    service = await stage.add()
    run = await service.accept(RunRequest.model_validate(body))
    ended = await stage.ended(run)
    assert ended.status is Status.COMPLETED
    assert stage.hub.activities == FAN_OUT
    assert stage.log_of(run) == ORDER
    assert [plan.cluster_id for plan in stage.repository.plans(run.run_id, EVERYTHING)] == 3 * [
        CLUSTER_ID,
        OTHER_CLUSTER_ID,
    ]
    assert stage.repository.findings(run.run_id, 1) == {}
    assert '"status": "COMPLETED"' in stage.hub.instances[run.run_id].output


@pytest.mark.parametrize(
    ("database_url", "method"),
    [("sqlite", "heuristic"), ("postgres", "regressor")],
    indirect=["database_url"],
)
async def test_a_workflow_finds_what_one_process_finds(
    stage: Stage, body: dict[str, Any], example: Any, method: str
):
    """Plans, order and reasons are the same to the last digit, on one replica and on two."""
    inventory = FixedInventory(read_inventory(example("mixed.json")))
    service, other = [
        await stage.add(workers=Counting(simulate), inventory=inventory) for _ in range(2)
    ]
    asked = RunRequest.model_validate(body | {"simulation_method": method})
    spread = await stage.ended(await service.accept(asked))
    assert min(service.workers.searched, other.workers.searched) > 0
    alone = await service.run_now(asked)
    in_process = stage.repository.get(str(alone.workflow_id))
    assert in_process is not None
    assert spread.status is in_process.status is Status.COMPLETED
    found = stage.repository.plans(spread.run_id, EVERYTHING)
    assert len({group.document["engine_type"] for plan in found for group in plan.groups}) == 2
    assert found == stage.repository.plans(in_process.run_id, EVERYTHING)
    assert spread.reasons == in_process.reasons
    assert spread.message == in_process.message


@on_sqlite
async def test_an_inventory_replaced_while_parts_are_searched_is_the_one_answered_for(
    stage: Stage, body: dict[str, Any]
):
    """Plans on devices that are gone are left out; new devices are searched by whoever ranks."""
    before, after = (h100_cluster(CLUSTER_ID),), (h100_cluster(OTHER_CLUSTER_ID),)
    inventory = Replaceable(before)
    service = await stage.add(
        workers=ThreadWorkers(simulate, AnalyticPredictor), inventory=inventory
    )
    stage.hub.hold_back = "ranking"
    run = await service.accept(RunRequest.model_validate(body | {"simulation_method": "heuristic"}))
    await stage.dispatchers[0].dispatch_due()
    await until(lambda: known("ranking" in stage.hub.activities))
    assert len(stage.repository.findings(run.run_id, 1)) == 2
    inventory.now = after
    await stage.hub.release()
    assert (await stage.ended(run)).status is Status.COMPLETED
    plans = stage.repository.plans(run.run_id, EVERYTHING)
    assert {plan.cluster_id for plan in plans} == {OTHER_CLUSTER_ID}


async def test_replicas_share_the_searches_of_runs(stage: Stage, body: dict[str, Any]):
    """Every replica searches; no part is searched twice."""
    replicas = [await stage.add(workers=Counting(known_answer)) for _ in range(2)]
    runs = [
        await replicas[0].accept(RunRequest.model_validate(body | {"concurrency": 8 + more}))
        for more in range(2)
    ]
    for run in runs:
        assert (await stage.ended(run)).status is Status.COMPLETED
        assert stage.log_of(run) == ORDER
    searched = [replica.workers.searched for replica in replicas]
    assert sum(searched) == 4 * len(runs)
    assert min(searched) > 0


@on_sqlite
async def test_more_runs_than_can_be_worked_on_wait_in_the_database(
    stage: Stage, body: dict[str, Any]
):
    """The sidecar is handed a few at a time, paused ones not counted, and the next as they end."""
    service = await stage.add()
    one = body | {"cluster_id": CLUSTER_ID}
    asked = [one | {"concurrency": 8 + more} for more in range(RUNS_PER_WORKER + 2)]
    held = await stage.hold(asked[0])
    others = [await service.accept(RunRequest.model_validate(each)) for each in asked[1:]]
    assert await stage.dispatchers[0].dispatch_due() == RUNS_PER_WORKER - 1
    assert await stage.dispatchers[0].dispatch_due() == 0
    assert len(stage.hub.instances) == RUNS_PER_WORKER
    service.pause(held.run_id)
    assert await stage.dispatchers[0].dispatch_due() == 1
    await stage.hub.release()
    for run in others:
        assert (await stage.ended(run)).status is Status.COMPLETED
    service.resume(held.run_id)
    assert (await stage.ended(held)).status is Status.COMPLETED


async def test_what_is_estimated_is_not_searched_again(stage: Stage, body: dict[str, Any]):
    """A workflow that begins again for a run that only has to be ranked searches nothing."""
    service = await stage.add(workers=Counting(known_answer))
    await service.accept(RunRequest.model_validate(body))
    (claimed,) = stage.repository.claim(None, now_s=service.clock(), lease_s=30, limit=1)
    run = replace(claimed, step=Step.RANKING, status=Status.RUNNING)
    stage.repository.advance(run, [], now_s=service.clock(), plans=())
    assert await service.steps.validate(run) == ()
    await service.steps.search(run, ["a part"], of=1)
    assert service.workers.searched == 0
    assert (await service.steps.conclude(run)).status is Status.COMPLETED
    assert stage.repository.findings(run.run_id, 1) == {}


@on_sqlite
async def test_what_is_missing_for_now_is_tried_again(stage: Stage, body: dict[str, Any]):
    """An activity that fails for want of something is repeated, and nobody is told of it."""
    calls = 0

    def late(
        question: Question, predictor: Any, *, known: object, progress: Callable[[float], None]
    ) -> Outcome:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise Unavailable("not yet")
        return known_answer(question, predictor, known=known, progress=progress)

    service = await stage.add(late)
    run = await service.accept(RunRequest.model_validate(body | {"cluster_id": CLUSTER_ID}))
    assert (await stage.ended(run)).status is Status.COMPLETED
    assert Counter(stage.hub.activities)["ranking"] == 3
    assert stage.log_of(run) == ORDER


@pytest.mark.parametrize(
    ("database_url", "error", "tries"),
    [
        ("sqlite", Unavailable("the disk is gone"), 4),
        ("postgres", WorkerLost("killed"), 3),
        ("sqlite", KeyError(), 1),
    ],
    indirect=["database_url"],
)
async def test_a_run_that_cannot_be_carried_out_fails_and_says_so(
    stage: Stage, body: dict[str, Any], error: Exception, tries: int
):
    """After the tries its error deserves the run is FAILED, and its workflow has ended."""

    def broken(
        question: Question, predictor: Any, *, known: object, progress: Callable[[float], None]
    ) -> Outcome:
        raise error

    service = await stage.add(broken)
    run = await service.accept(RunRequest.model_validate(body | {"cluster_id": CLUSTER_ID}))
    ended = await stage.ended(run)
    assert ended.status is Status.FAILED
    assert stage.log_of(run)[-1] == ("performance_estimation", "FAILED")
    assert Counter(stage.hub.activities)["ranking"] == tries
    assert stage.hub.instances[run.run_id].status == "COMPLETED"


@on_sqlite
async def test_a_request_nobody_can_answer_fails_in_its_validation(
    stage: Stage, body: dict[str, Any]
):
    """The caller's mistake is announced by the validation step; nothing is searched."""
    service = await stage.add()
    run = await service.accept(
        RunRequest.model_validate(body | {"pretrained_model_uri": "no/such-model"}), check=False
    )
    ended = await stage.ended(run)
    assert (ended.status, stage.log_of(run)[-1]) == (Status.FAILED, ("validation", "FAILED"))
    assert "no/such-model" in ended.message
    assert "performance_estimation" not in stage.hub.activities


async def test_a_paused_run_is_held_by_the_database(stage: Stage, body: dict[str, Any]):
    """Nothing is suspended; the run's workflow ends, and another finishes the resumed run."""
    service = await stage.add()
    run = await stage.hold(body)
    assert service.pause(run.run_id).status is Status.SUSPENDED
    await stage.hub.release()
    await until(lambda: known(stage.hub.instances[run.run_id].status == "COMPLETED"))
    assert stage.repository.get(run.run_id).status is Status.SUSPENDED
    assert stage.log_of(run) == ORDER[:1]
    service.resume(run.run_id)
    assert (await stage.ended(run)).status is Status.COMPLETED
    assert stage.log_of(run) == ORDER
    assert stage.hub.told == []


@on_sqlite
async def test_a_run_resumed_before_its_workflow_notices_goes_on(
    stage: Stage, body: dict[str, Any]
):
    """Ten times while an activity is under way: one workflow, one answer."""
    service = await stage.add()
    run = await stage.hold(body)
    for _ in range(10):
        service.pause(run.run_id)
        service.resume(run.run_id)
    await stage.dispatchers[0].dispatch_due()
    await stage.hub.release()
    assert (await stage.ended(run)).status is Status.COMPLETED
    assert stage.log_of(run) == ORDER
    assert stage.hub.told == []


@on_sqlite
async def test_a_workflow_that_skipped_its_steps_is_followed_by_another(
    stage: Stage, body: dict[str, Any]
):
    """Resumed when the activities had seen the pause already, and before the workflow had ended."""
    service = await stage.add()
    run = await stage.hold(body)
    stage.hub.delay, stage.hub.hold_back = False, "publish"
    service.pause(run.run_id)
    await stage.hub.release(hold_back="publish")
    await until(lambda: known("publish" in stage.hub.activities))
    service.resume(run.run_id)
    await stage.dispatchers[0].dispatch_due()
    await stage.hub.release()
    await until(lambda: known(stage.hub.instances[run.run_id].status == "COMPLETED"))
    stage.clock.now_s += 2.0
    assert (await stage.ended(run)).status is Status.COMPLETED
    assert stage.log_of(run) == ORDER


@on_sqlite
async def test_a_restarted_run_gets_a_workflow_of_its_own(stage: Stage, body: dict[str, Any]):
    """Under another name; the events of the first attempt stay."""
    service = await stage.add()
    run = await service.accept(RunRequest.model_validate(body))
    assert (await stage.ended(run)).status is Status.COMPLETED
    again = service.restart(run.run_id)
    assert (await stage.ended(again)).status is Status.COMPLETED
    assert stage.log_of(run) == ORDER + ORDER[1:]
    assert set(stage.hub.instances) == {run.run_id, f"{run.run_id}-2"}


async def test_a_stopped_run_ends_with_its_workflow(stage: Stage, body: dict[str, Any]):
    """What is under way is not written any more."""
    service = await stage.add()
    run = await stage.hold(body)
    service.stop(run.run_id)
    await until(lambda: known(stage.hub.instances[run.run_id].status == "TERMINATED"))
    await stage.hub.release()
    assert stage.repository.get(run.run_id).status is Status.TERMINATED
    assert stage.log_of(run) == ORDER[:1]


@pytest.mark.parametrize(
    ("told", "becomes"), [("TERMINATED", Status.TERMINATED), ("SUSPENDED", Status.SUSPENDED)]
)
async def test_what_the_sidecar_was_told_becomes_of_the_run_too(
    stage: Stage, body: dict[str, Any], told: str, becomes: Status
):
    """A workflow ended or suspended through the sidecar does the same to the run."""
    service = await stage.add()
    run = await stage.hold(body)
    stage.hub.instances[run.run_id].status = told
    (claimed,) = stage.repository.claim(None, now_s=service.clock() + 999, lease_s=1, limit=1)
    stage.repository.advance(_running(claimed), [], now_s=0)
    stage.clock.now_s += 9999
    await stage.dispatchers[0].dispatch_due()
    assert stage.repository.get(run.run_id).status is becomes


@on_sqlite
async def test_a_sidecar_that_forgets_loses_no_run(stage: Stage, body: dict[str, Any]):
    """A run whose workflow is gone is handed over again, and tells nothing twice."""
    await stage.add()
    run = await stage.hold(body)
    stage.hub.forget()
    await stage.hub.release()
    stage.clock.now_s += 9999
    assert (await stage.ended(run)).status is Status.COMPLETED
    assert stage.log_of(run) == ORDER


@on_sqlite
async def test_a_workflow_that_fails_by_itself_begins_anew(stage: Stage, body: dict[str, Any]):
    """A run whose workflow could not be replayed loses and repeats nothing."""
    await stage.add()
    run = await stage.hold(body)
    stage.hub.instances[run.run_id].status = "FAILED"
    await stage.hub.release()
    await until(lambda: known(stage.repository.get(run.run_id).step is Step.ESTIMATION))
    stage.clock.now_s += 9999
    assert (await stage.ended(run)).status is Status.COMPLETED
    assert stage.log_of(run) == ORDER


@on_sqlite
async def test_a_run_whose_workflow_always_fails_ends(stage: Stage, body: dict[str, Any]):
    """Where beginning anew does not help, the run says so instead of beginning for ever."""
    await stage.add()
    run = await stage.hold(body)
    for _ in range(SETBACKS_ALLOWED):
        assert stage.repository.get(run.run_id).status is not Status.FAILED
        stage.hub.instances[run.run_id].status = "FAILED"
        stage.clock.now_s += 9999
        await stage.dispatchers[0].dispatch_due()
    ended = stage.repository.get(run.run_id)
    assert (ended.status, ended.message) == (
        Status.FAILED,
        "the workflow failed; the sidecar's log has the details",
    )


@on_sqlite
async def test_a_stalled_workflow_s_run_goes_on_in_a_process(stage: Stage, body: dict[str, Any]):
    """A replica finishes the run; the workflow, awake again, changes nothing."""
    service = await stage.add()
    run = await stage.hold(body)
    for _ in range(2):
        stage.clock.now_s += 3 * service.options.lease_s
        assert await stage.dispatchers[0].dispatch_due() == 1
    await until(lambda: known(stage.repository.get(run.run_id).status is Status.COMPLETED))
    assert stage.log_of(run) == ORDER
    await stage.hub.release()
    await until(lambda: known(stage.hub.instances[run.run_id].status == "COMPLETED"))
    assert stage.log_of(run) == ORDER
    assert stage.hub.activities == ["validation", "publish"]


@on_sqlite
async def test_a_run_no_workflow_can_be_begun_for_goes_on_in_a_process(
    stage: Stage, body: dict[str, Any]
):
    """A sidecar that takes work and begins none keeps runs waiting for a while, not for ever."""
    service = await stage.add()
    stage.hub.is_stuck = True
    run = await service.accept(RunRequest.model_validate(body))
    assert await stage.dispatchers[0].dispatch_due() == 1
    assert stage.repository.get(run.run_id).status is Status.PENDING
    stage.clock.now_s += (STALLED_AFTER_LEASES + 1) * service.options.lease_s
    assert await stage.dispatchers[0].dispatch_due() == 1
    await until(lambda: known(stage.repository.get(run.run_id).status is Status.COMPLETED))
    assert stage.log_of(run) == ORDER
    assert stage.hub.instances == {}


@on_sqlite
async def test_without_a_sidecar_nothing_waits_and_nothing_is_claimed(
    stage: Stage, body: dict[str, Any]
):
    """A hub that reaches nobody starts and stops at once; its runs stay for others."""
    settings = DaprSettings(_env_file=None, dapr_grpc_port=9, dapr_timeout_s=0.5)
    sidecar = connect(settings)
    assert isinstance(sidecar, GrpcSidecar)
    service = await stage.add()
    hub = WorkflowHub(settings, sidecar, slots=1)
    dispatcher = WorkflowDispatcher(service, hub, poll_s=0.05)
    async with asyncio.timeout(30):
        dispatcher.start_worker()
        run = await service.accept(RunRequest.model_validate(body))
        assert not await hub.is_serving()
        assert await dispatcher.dispatch_due() == 0
        await hub.close()
        await sidecar.close()
    assert stage.repository.get(run.run_id).holder is None


def _running(run: Run) -> Run:
    return replace(run, status=Status.RUNNING)
