"""Hands runs to Dapr workflows and keeps both in the same state.

A run is claimed in the database, and its workflow becomes its holder. The dispatcher looks after
runs whose workflow has not written for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.errors import BudsimError, Conflict, Unavailable
from budsim.simulator.background.workflows import Activities, called_in_loop, workflow_of
from budsim.simulator.services import Simulations
from budsim.simulator.signals import wait
from budsim.simulator.storage.records import WORKFLOW_NAME, Run, Status, Step

# Runs that a replica gives to the sidecar for each of its worker processes. The others wait in the
# database, where waiting costs nothing: two thousand workflows begun at once keep sidecar and
# scheduler busy with each other.
RUNS_PER_WORKER = 4
# A run whose workflow has not written for so many leases is looked at again.
WATCHED_AFTER_LEASES = 2
# A run whose workflow has not written for so many leases continues in this process. A sidecar keeps
# the activities of an app that died for as long as the app stays away, and without its scheduler it
# begins nothing.
STALLED_AFTER_LEASES = 4

log = structlog.get_logger()


class WorkflowDispatcher:
    """Starts a workflow for every run that is due, and continues runs whose workflow stalled.

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
        self._watched_until_s: dict[str, float] = {}
        self._turns = asyncio.Semaphore(simulations.options.workers)

    def start_worker(self) -> None:
        """Take activities from the sidecar as soon as it is there; called in our event loop."""
        loop = asyncio.get_running_loop()
        activities = Activities(self._simulations).by_name()
        self._hub.serve(
            workflow_of(self._simulations.options.max_attempts),
            {name: called_in_loop(loop, activity) for name, activity in activities.items()},
        )

        def notice(run: Run) -> None:
            """Pass the change of a run to the event loop, whichever thread made it."""
            loop.call_soon_threadsafe(self._notice_change, run)

        self._simulations.on_move = notice

    async def run(self) -> None:
        """Look for runs until cancelled; then give back the runs this process carries out."""
        try:
            while True:
                if not await self.dispatch_due():
                    await wait(self._simulations.signals.work, self._poll_s)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            with suppress(Unavailable):
                self._simulations.repository.release(
                    self._simulations.owner, now_s=self._simulations.clock()
                )

    async def dispatch_due(self) -> int:
        """Give as many due runs to their workflows as there is room for; return how many."""
        if not await self._hub.is_serving():
            return 0
        try:
            claimed = await asyncio.to_thread(self._claim)
        except Unavailable as error:
            log.warning("no runs claimed", reason=str(error))
            return 0
        await asyncio.gather(*(self._dispatch(run) for run in claimed))
        return len(claimed)

    def _claim(self) -> list[Run]:
        simulations, now_s = self._simulations, self._simulations.clock()
        watched = [run_id for run_id, until_s in self._watched_until_s.items() if now_s < until_s]
        unfinished = simulations.repository.unfinished(watched)
        self._watched_until_s = {
            run_id: until_s
            for run_id, until_s in self._watched_until_s.items()
            if run_id in unfinished
        }
        # Paused runs are not unfinished and take no room.
        room = RUNS_PER_WORKER * simulations.options.workers - len(self._watched_until_s)
        if room <= 0:
            return []
        return simulations.repository.claim(
            None, now_s=now_s, lease_s=simulations.options.lease_s, limit=room
        )

    async def _dispatch(self, run: Run) -> None:
        try:
            await self._synchronize(run)
        except Unavailable as error:
            if self._has_stalled(run):
                self._continue_in_process(run)
            else:
                log.warning("run not handed over", workflow_id=run.run_id, reason=str(error))
        except Conflict:
            log.info("run changed hands", workflow_id=run.run_id)
        except Exception:
            log.exception("run not handed over", workflow_id=run.run_id)

    async def _synchronize(self, run: Run) -> None:
        """Start the workflow of a new run; for an older run, compare it with its workflow."""
        # For a new run the sidecar need not be asked for a state: one call instead of two.
        if self._is_new(run) and await self._start(run):
            await self._extend_lease(run)
            return
        state = await self._hub.status(run.instance_id)
        if state == Status.SUSPENDED and run.status is Status.PENDING:
            await self._hub.resume(run.instance_id)
        elif state in {Status.SUSPENDED, Status.TERMINATED}:  # done through the sidecar's own API
            await asyncio.to_thread(self._copy_state, run, Status(state))
        elif state == Status.FAILED:
            await self._restart_failed(run)
        elif state in {None, Status.COMPLETED}:
            await self._start(run)
        elif self._has_stalled(run):
            self._continue_in_process(run)
            return
        await self._extend_lease(run)

    def _is_new(self, run: Run) -> bool:
        lease_s = self._simulations.options.lease_s
        return run.status is Status.PENDING and self._simulations.clock() - run.created_s < lease_s

    def _has_stalled(self, run: Run) -> bool:
        silent_s = self._simulations.clock() - run.written_s
        return silent_s > STALLED_AFTER_LEASES * self._simulations.options.lease_s

    def _continue_in_process(self, run: Run) -> None:
        self._watch(run)
        self._spawn(self._carry_out(run))

    def _watch(self, run: Run) -> float:
        """Count a run as handed over for two leases or until it ends; return when they end."""
        until_s = (
            self._simulations.clock() + WATCHED_AFTER_LEASES * self._simulations.options.lease_s
        )
        self._watched_until_s[run.run_id] = until_s
        return until_s

    async def _start(self, run: Run) -> bool:
        given = {"run_id": run.run_id, "attempt": run.attempt}
        if not await self._hub.start(WORKFLOW_NAME, run.instance_id, given):
            return False
        log.info("run handed over", workflow_id=run.run_id, instance_id=run.instance_id)
        return True

    async def _restart_failed(self, run: Run) -> None:
        """Start a workflow again that failed by itself; end the run after the third failure.

        Activities end runs and workflows in good order, so it was the replay that failed.
        """
        log.warning("workflow failed by itself", workflow_id=run.run_id)
        reason = "the workflow failed; the sidecar's log has the details"
        if not await self._simulations.steps.set_back(run, reason):
            await self._start(run)

    async def _extend_lease(self, run: Run) -> None:
        await asyncio.to_thread(self._simulations.repository.renew, run, self._watch(run))

    def _copy_state(self, run: Run, state: Status) -> None:
        log.info("the sidecar changed a run", workflow_id=run.run_id, status=state)
        if state is Status.SUSPENDED:
            self._simulations.pause(run.run_id)
        else:
            self._simulations.stop(run.run_id)

    def _notice_change(self, run: Run) -> None:
        self._spawn(self._pass_on(run))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, run: Run) -> None:
        """Take a run from a stalled workflow, which will find that its run has another holder."""
        simulations = self._simulations
        # No more at a time than there are workers: the lease begins when the turn has come.
        async with self._turns:
            due_s = simulations.clock() + simulations.options.lease_s
            taken = await asyncio.to_thread(
                simulations.repository.take_over, run, simulations.owner, due_s=due_s
            )
            if taken is None:
                return
            log.warning("workflow stalled; the run continues here", workflow_id=run.run_id)
            try:
                await simulations.steps.carry_out(taken)
            except BudsimError as error:
                log.info("run ended early", workflow_id=run.run_id, reason=str(error))

    async def _pass_on(self, run: Run) -> None:
        """End the workflow of a run that a caller stopped, or restarted while it was suspended.

        A call that does not arrive does no harm: the activities read the run's status themselves.
        """
        previous = replace(run, attempt=run.attempt - 1)
        try:
            if run.status is Status.TERMINATED:
                await self._hub.terminate(run.instance_id)
            elif (
                run.status is Status.PENDING
                and run.step is Step.VALIDATION
                and previous.attempt
                and await self._hub.status(previous.instance_id) == Status.SUSPENDED
            ):
                await self._hub.terminate(previous.instance_id)
        except Unavailable as error:
            log.info(
                "workflow not told", workflow_id=run.run_id, status=run.status, reason=str(error)
            )
