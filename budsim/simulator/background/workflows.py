"""The Dapr workflow `run_simulation` and its activities.

The database holds the truth about a run: every activity reads and writes it there first. So
whatever the sidecar forgets or repeats delays a run; it neither loses it nor does it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from budsim.commons.errors import BudsimError, Unavailable
from budsim.simulator.background.worker_processes import WorkerLost
from budsim.simulator.run_steps import log_context
from budsim.simulator.services import Simulations
from budsim.simulator.storage.records import UNFINISHED, Run, Status, Step
from budsim.simulator.storage.repository import LeaseLost

VALIDATE, SEARCH, RANK, PUBLISH = (
    Step.VALIDATION.value,
    Step.ESTIMATION.value,
    Step.RANKING.value,
    "publish",
)
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
# A run that its workflow left unfinished is looked at again after so long: by then the sidecar
# knows that the workflow has ended.
AFTER_WORKFLOW_S = 1.0
# Search activities of one run; with more parts than that, each activity searches several.
MOST_SEARCHES = 128

# `run_id` and `attempt` of a run; activities are given more keys.
WorkflowInput = dict[str, Any]

log = structlog.get_logger()


def batches_of(parts: Sequence[str]) -> list[list[str]]:
    """Return each part by itself, or in `MOST_SEARCHES` even batches.

    A workflow is replayed once for each of its activities, so their number has to be bounded.
    """
    count = min(len(parts), MOST_SEARCHES)
    return [list(parts[number::count]) for number in range(count)]


def workflow_of(max_attempts: int) -> Callable[..., Generator[Any, Any, Any]]:
    """Return the workflow `run_simulation`.

    It is deterministic: Dapr replays it from its history whenever an activity ends.
    """
    from dapr.ext.workflow import RetryPolicy, TaskFailedError, when_all

    retries = RetryPolicy(
        first_retry_interval=FIRST_PAUSE,
        max_number_of_attempts=max_attempts,
        backoff_coefficient=2.0,
        max_retry_interval=LONGEST_PAUSE,
    )

    def run_simulation(context: Any, given: WorkflowInput) -> Generator[Any, Any, Any]:
        """Validate, search in parallel batches, and rank."""

        def call(activity: str, **detail: object) -> Any:
            """Schedule one activity with the input of the run and the retry policy."""
            return context.call_activity(activity, input=given | detail, retry_policy=retries)

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
    """The activities of the workflow; each may be called again after a crash, on any replica.

    Every activity of a paused run returns at once, so its workflow ends. When the run is resumed,
    the dispatcher starts the workflow again. Dapr's own suspension is not used: the SDK's worker
    does not survive two suspensions in a row (`commons.dapr_workflow`).
    """

    def __init__(self, simulations: Simulations) -> None:
        self._simulations = simulations

    def by_name(self) -> dict[str, Callable[[WorkflowInput], Awaitable[Any]]]:
        """Return the activities under the names that the workflow calls them by."""
        return {
            VALIDATE: self.validate,
            SEARCH: self.search,
            RANK: self.rank,
            PUBLISH: self.publish,
        }

    async def validate(self, given: WorkflowInput) -> list[list[str]] | None:
        """Check the request; return the parts each search takes, None where the run has ended."""
        parts = await self._run_step(given, self._simulations.steps.validate)
        return None if parts is None else batches_of(parts)

    async def search(self, given: WorkflowInput) -> None:
        """Search one part, or several where there are very many."""
        step = partial(self._simulations.steps.search, parts=given["parts"], of=given["of"])
        await self._run_step(given, step)

    async def rank(self, given: WorkflowInput) -> None:
        """Join and rank the plans that were found."""
        await self._run_step(given, self._simulations.steps.conclude)

    async def publish(self, given: WorkflowInput) -> WorkflowInput:
        """End a run that no activity could end, have its events sent, and return its status."""
        run = await self._find(given)
        if run and run.status in UNFINISHED:
            run = await self._finish(run, given)
        self._simulations.signals.events.set()
        self._simulations.signals.work.set()
        return {"status": run.status, "message": run.message} if run else {"status": Status.UNKNOWN}

    async def _finish(self, run: Run, given: WorkflowInput) -> Run | None:
        if "failure" in given:
            await self._simulations.steps.give_up(run, str(given["failure"]))
        else:  # it was paused, so the activities did nothing, and resumed before the workflow ended
            due_s = self._simulations.clock() + AFTER_WORKFLOW_S
            await asyncio.to_thread(self._simulations.repository.renew, run, due_s)
        return await self._find(given)

    async def _run_step(self, given: WorkflowInput, step: Callable[[Run], Awaitable[Any]]) -> Any:
        """Return a step's result; None where the run has ended or is paused.

        Errors that may pass are raised, so that Dapr calls the activity again.
        """
        run = await self._find(given)
        if run is None or run.status not in UNFINISHED:
            return None
        try:
            with log_context(run):
                return await self._run_holding(run, step)
        except LeaseLost:
            now = await self._find(given)
            if now is None or now.status not in UNFINISHED:
                return None
            raise

    async def _run_holding(self, run: Run, step: Callable[[Run], Awaitable[Any]]) -> Any:
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

    async def _find(self, given: WorkflowInput) -> Run | None:
        """Return the run; None when another attempt or a replica has replaced the workflow."""
        run = await asyncio.to_thread(self._simulations.repository.get, given["run_id"])
        if run is None or run.attempt != given["attempt"]:
            return None
        if run.holder not in {None, run.instance_id}:
            return None
        return replace(run, holder=run.instance_id)


def called_in_loop(
    loop: asyncio.AbstractEventLoop, activity: Callable[[WorkflowInput], Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """Return an activity that the SDK calls in an event loop of its own and that works in ours."""

    async def called(_context: Any, given: Mapping[str, Any]) -> Any:
        """Wait for the activity, which runs in our event loop."""

        async def work() -> Any:
            """Start the activity inside our loop with a copy of its input."""
            return await activity(dict(given))

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))

    return called
