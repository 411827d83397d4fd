"""Runs as Dapr workflows: which activity follows which, what each does, and how runs and workflows are kept in step.

The database stays the truth about a run: it is claimed there, its workflow is its holder, and every activity writes there
first. So whatever the sidecar forgets or repeats is only late, never lost or done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.errors import BudsimError, Conflict, Unavailable
from budsim.simulator.background.worker_processes import WorkerLost
from budsim.simulator.run_steps import log_context
from budsim.simulator.services import Simulations
from budsim.simulator.signals import wait
from budsim.simulator.storage.records import FINISHED, UNFINISHED, WORKFLOW_NAME, Run, Status, Step
from budsim.simulator.storage.repository import LeaseLost

VALIDATE, SEARCH, RANK, PUBLISH = (
    Step.VALIDATION.value,
    Step.ESTIMATION.value,
    Step.RANKING.value,
    "publish",
)
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
RUNS_PER_WORKER = 4
"""Runs a replica has in the sidecar's hands for each of its worker processes; the others wait in the database, where it costs
nothing: two thousand workflows begun at once keep sidecar and scheduler busy with each other."""
WATCHED_AFTER_LEASES = 2
"""A run whose workflow has not written for so many leases is looked after."""
STALLED_AFTER_LEASES = 4
"""A run whose workflow has not written for so many leases, or cannot be begun, goes on in this process: a sidecar keeps the
activities of an app that died for as long as the app stays away, and without its scheduler it begins nothing."""

MOST_SEARCHES = 128
"""Searches of one run; of more parts than that, each search takes several."""

Order = dict[str, Any]
log = structlog.get_logger()


def batches_of(parts: Sequence[str]) -> list[list[str]]:
    """Return each part by itself, or in `MOST_SEARCHES` even batches: a workflow is replayed for each of its activities."""
    count = min(len(parts), MOST_SEARCHES)
    return [list(parts[number::count]) for number in range(count)]


def workflow_of(max_attempts: int) -> Callable[..., Generator[Any, Any, Any]]:
    """Return the workflow `run_simulation`; deterministic, as it is replayed from its history whenever an activity ends."""
    from dapr.ext.workflow import RetryPolicy, TaskFailedError, when_all

    retries = RetryPolicy(
        first_retry_interval=FIRST_PAUSE,
        max_number_of_attempts=max_attempts,
        backoff_coefficient=2.0,
        max_retry_interval=LONGEST_PAUSE,
    )

    def run_simulation(context: Any, order: Order) -> Generator[Any, Any, Any]:
        def call(activity: str, **detail: object) -> Any:
            return context.call_activity(activity, input=order | detail, retry_policy=retries)

        try:
            batches = yield call(VALIDATE)
            if batches is not None:
                of = sum(map(len, batches))
                yield when_all([call(SEARCH, parts=parts, of=of) for parts in batches])
                yield call(RANK)
        except TaskFailedError as error:
            return (yield call(PUBLISH, failure=error.details.message))
        return (yield call(PUBLISH))

    return run_simulation


class Activities:
    """What the activities do; each may be called again after a crash, and on any replica."""

    def __init__(self, simulations: Simulations) -> None:
        self._simulations = simulations

    def by_name(self) -> dict[str, Callable[[Order], Awaitable[Any]]]:
        """Return the activities under the names the workflow calls them by."""
        return {
            VALIDATE: self.validate,
            SEARCH: self.search,
            RANK: self.rank,
            PUBLISH: self.publish,
        }

    async def validate(self, order: Order) -> list[list[str]] | None:
        """Check the request; return the parts each search is to look at, None where the run has ended."""
        parts = await self._taken(order, self._simulations.steps.validate)
        return None if parts is None else batches_of(parts)

    async def search(self, order: Order) -> None:
        """Search one part; several, where there are very many."""
        await self._taken(
            order, partial(self._simulations.steps.search, parts=order["parts"], of=order["of"])
        )

    async def rank(self, order: Order) -> None:
        """Join and rank what was found."""
        await self._taken(order, self._simulations.steps.conclude)

    async def publish(self, order: Order) -> Order:
        """End a run no activity could end, have what is left of its events sent, and return how it ended."""
        run = await self._found(order)
        if run and run.status in UNFINISHED and "failure" in order:
            await self._simulations.steps.give_up(run, str(order["failure"]))
            run = await self._found(order)
        self._simulations.signals.events.set()
        self._simulations.signals.work.set()
        return {"status": run.status, "message": run.message} if run else {"status": Status.UNKNOWN}

    async def _taken(self, order: Order, step: Callable[[Run], Awaitable[Any]]) -> Any:
        """Return what a step returned; None where the run has ended, now or before. What may pass is raised."""
        run = await self._found(order)
        if run is None or run.status in FINISHED:
            return None
        with log_context(run):
            return await self._held(run, step)

    async def _held(self, run: Run, step: Callable[[Run], Awaitable[Any]]) -> Any:
        try:
            async with self._simulations.steps.holding(run):
                return await step(run)
        except WorkerLost as error:
            if await self._simulations.steps.set_back(run, str(error)):
                return None
            raise
        except (Unavailable, LeaseLost):
            raise
        except BudsimError as error:
            log.info("run ended early", reason=str(error))
        except Exception:
            log.exception("run failed")
        return None

    async def _found(self, order: Order) -> Run | None:
        """Return the run, unless another attempt or a replica has taken the place of the workflow."""
        run = await asyncio.to_thread(self._simulations.repository.get, order["run_id"])
        if (
            run is None
            or run.attempt != order["attempt"]
            or run.holder not in {None, run.instance_id}
        ):
            return None
        return replace(run, holder=run.instance_id)


class Conductor:
    """Hands runs to workflows, and keeps both in the same state.

    Parameters
    ----------
    simulations : Simulations
        The steps.
    hub : WorkflowHub
        The sidecar's workflows.
    poll_s : float
        Longest wait before looking for runs again, s.
    """

    def __init__(self, simulations: Simulations, hub: WorkflowHub, *, poll_s: float) -> None:
        self._simulations, self._hub, self._poll_s = simulations, hub, poll_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._handed_over: dict[str, float] = {}
        self._turns = asyncio.Semaphore(simulations.options.workers)

    def begin(self) -> None:
        """Take activities from the sidecar as soon as it is there; called in the event loop that carries them out."""
        loop = asyncio.get_running_loop()
        activities = Activities(self._simulations).by_name()
        self._hub.serve(
            workflow_of(self._simulations.options.max_attempts),
            {name: _in_loop(loop, activity) for name, activity in activities.items()},
        )
        self._simulations.on_move = lambda run: _ignore(loop.call_soon_threadsafe(self._tell, run))

    async def run(self) -> None:
        """Look for runs until cancelled; then give back what this process carries out itself."""
        try:
            while True:
                if not await self.hand_over():
                    await wait(self._simulations.signals.work, self._poll_s)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            with suppress(Unavailable):
                self._simulations.repository.release(
                    self._simulations.owner, now_s=self._simulations.clock()
                )

    async def hand_over(self) -> int:
        """Hand runs that are due to their workflows once, as many as there is room for; return how many."""
        if not await self._hub.is_serving():
            return 0
        try:
            claimed = await asyncio.to_thread(self._claim)
        except Unavailable as error:
            log.warning("no runs claimed", reason=str(error))
            return 0
        await asyncio.gather(*(self._settle(run) for run in claimed))
        return len(claimed)

    def _claim(self) -> list[Run]:
        simulations, now_s = self._simulations, self._simulations.clock()
        watched = [run_id for run_id, due_s in self._handed_over.items() if now_s < due_s]
        unfinished = simulations.repository.unfinished(watched)
        self._handed_over = {
            run_id: due_s for run_id, due_s in self._handed_over.items() if run_id in unfinished
        }
        room = RUNS_PER_WORKER * simulations.options.workers - len(self._handed_over)
        if room <= 0:
            return []
        return simulations.repository.claim(
            None, now_s=now_s, lease_s=simulations.options.lease_s, limit=room
        )

    async def _settle(self, run: Run) -> None:
        try:
            await self._bring_in_step(run)
        except Unavailable as error:
            if self._has_stalled(run):
                self._go_on_here(run)
            else:
                log.warning("run not handed over", workflow_id=run.run_id, reason=str(error))
        except Conflict:
            log.info("run changed hands", workflow_id=run.run_id)
        except Exception:
            log.exception("run not handed over", workflow_id=run.run_id)

    async def _bring_in_step(self, run: Run) -> None:
        """Start the workflow of a new run; of one that is old news, see what has become of its workflow."""
        is_new = (
            run.status is Status.PENDING
            and self._simulations.clock() - run.created_s < self._simulations.options.lease_s
        )
        if is_new and await self._start(run):
            await self._leave_alone(run)
            return
        state = await self._hub.status(run.instance_id)
        if state == Status.SUSPENDED and run.status is Status.PENDING:
            await self._hub.resume(run.instance_id)
        elif state in {Status.SUSPENDED, Status.TERMINATED}:  # somebody told the sidecar, not us
            await asyncio.to_thread(self._mirror, run, Status(state))
        elif state == Status.FAILED:
            await self._begin_anew(run)
        elif state in {None, Status.COMPLETED}:
            await self._start(run)
        elif self._has_stalled(run):
            self._go_on_here(run)
            return
        await self._leave_alone(run)

    def _has_stalled(self, run: Run) -> bool:
        return (
            self._simulations.clock() - run.written_s
            > STALLED_AFTER_LEASES * self._simulations.options.lease_s
        )

    def _go_on_here(self, run: Run) -> None:
        self._watch(run)
        self._spawn(self._carry_out(run))

    def _watch(self, run: Run) -> float:
        """Count a run as handed over until it has ended or is looked after again, and return when that is."""
        due_s = self._simulations.clock() + WATCHED_AFTER_LEASES * self._simulations.options.lease_s
        self._handed_over[run.run_id] = due_s
        return due_s

    async def _start(self, run: Run) -> bool:
        order = {"run_id": run.run_id, "attempt": run.attempt}
        if not await self._hub.start(WORKFLOW_NAME, run.instance_id, order):
            return False
        log.info("run handed over", workflow_id=run.run_id, instance_id=run.instance_id)
        return True

    async def _begin_anew(self, run: Run) -> None:
        """Start the workflow of a run again that failed by itself, a few times.

        Activities end runs and their workflows in good order, so what failed is the replay. The SDK (1.19) schedules an activity
        twice that a suspension overtook, and then takes the history for another workflow's.
        """
        log.warning("workflow failed by itself", workflow_id=run.run_id)
        if not await self._simulations.steps.set_back(
            run, "the workflow failed; the sidecar's log has the details"
        ):
            await self._start(run)

    async def _leave_alone(self, run: Run) -> None:
        await asyncio.to_thread(self._simulations.repository.renew, run, self._watch(run))

    def _mirror(self, run: Run, state: Status) -> None:
        log.info("the sidecar changed a run", workflow_id=run.run_id, status=state)
        if state is Status.SUSPENDED:
            self._simulations.pause(run.run_id)
        else:
            self._simulations.stop(run.run_id)

    def _tell(self, run: Run) -> None:
        """Pass on to the workflow what callers did to the run; what does not arrive, the activities will see."""
        self._spawn(self._pass_on(run))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, run: Run) -> None:
        """Take a run from a workflow that has stalled; should it wake up, it will see that its run has another holder."""
        simulations = self._simulations
        async with self._turns:
            due_s = simulations.clock() + simulations.options.lease_s
            taken = await asyncio.to_thread(
                simulations.repository.take_over, run, simulations.owner, due_s=due_s
            )
            if taken is None:
                return
            log.warning(
                "no workflow carries the run out; it goes on in this process",
                workflow_id=run.run_id,
            )
            try:
                await simulations.steps.carry_out(taken)
            except BudsimError as error:
                log.info("run ended early", workflow_id=run.run_id, reason=str(error))

    async def _pass_on(self, run: Run) -> None:
        before = replace(run, attempt=run.attempt - 1)
        try:
            if run.status is Status.SUSPENDED:
                await self._hub.suspend(run.instance_id)
            elif run.status is Status.TERMINATED:
                await self._hub.terminate(run.instance_id)
            elif (
                run.step is Step.VALIDATION
                and before.attempt
                and await self._hub.status(before.instance_id) == Status.SUSPENDED
            ):
                await self._hub.terminate(before.instance_id)
        except Unavailable as error:
            log.info(
                "workflow not told", workflow_id=run.run_id, status=run.status, reason=str(error)
            )


def _in_loop(
    loop: asyncio.AbstractEventLoop, activity: Callable[[Order], Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """Return an activity as the SDK calls it, in an event loop of its own, that does its work in ours."""

    async def called(_context: Any, order: Mapping[str, Any]) -> Any:
        async def work() -> Any:
            return await activity(dict(order))

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))

    return called


def _ignore(_result: object) -> None:
    return None
