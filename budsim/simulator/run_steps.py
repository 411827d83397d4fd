"""The steps of a run: validate, search, rank; each is written down and announced as it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import structlog

from budsim.commons.errors import BudsimError, Conflict, Unavailable
from budsim.commons.tracing import trace_id
from budsim.simulator.background.worker_processes import WorkerLost
from budsim.simulator.context import ServiceContext
from budsim.simulator.events import Announcer
from budsim.simulator.planning.plans import Outcome, Rejection
from budsim.simulator.planning.question import Question
from budsim.simulator.questions import Subject
from budsim.simulator.schemas import (
    RunRequest,
    found_message,
    reason_documents,
    recommendations_of,
    stored_plans,
)
from budsim.simulator.searching import offered_checkpoint, parts_of, search_part
from budsim.simulator.storage.records import (
    EVERY_PLAN,
    UNFINISHED,
    Envelope,
    Finding,
    Run,
    Status,
    Step,
    StoredPlan,
)

# Worker processes or workflows one run may cost before it fails.
SETBACKS_ALLOWED = 3
# Longest pause before a step is tried again, s.
LONGEST_PAUSE_S = 30.0
# Shares of the search that are announced; the contract asks for about every 25 %.
QUARTERS = (0.25, 0.5, 0.75)

log = structlog.get_logger()

TakeStep = Callable[["Work"], Awaitable[Run]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A run that is being carried out, with what it is about."""

    run: Run
    subject: Subject

    @property
    def request(self) -> RunRequest:
        """The request as it was accepted."""
        return self.subject.request


class RunSteps:
    """Takes runs through their steps, each in one transaction."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def carry_out(self, run: Run, *, retry: bool = True) -> Run:
        """Take a run this replica holds from its next step to its end; return it as it ended.

        What is missing for now gives the run back to be tried again (with ``retry``); any other
        failure ends it.

        Raises
        ------
        BudsimError
            Why it ended or was given back; it is written down already.
        """
        steps: dict[Step, TakeStep] = {
            Step.VALIDATION: self._validate,
            Step.ESTIMATION: self._estimate,
            Step.RANKING: self._rank,
        }
        started_s = self._context.clock()
        async with self.holding(run):
            while run.step is not Step.DONE:
                # Each step looks its clusters up anew: they may have changed since the last one.
                work = self._work(run)
                try:
                    run = await self._take(work, steps[run.step])
                except Unavailable as error:
                    await self._postpone(work, error, retry=retry)
                    raise
        self._context.backlog.ended(self._context.clock() - started_s)
        return run

    async def carry_out_awaited(self, run: Run) -> Run:
        """Carry out a run whose caller waits; end it when the caller leaves."""
        try:
            return await self.carry_out(run, retry=False)
        except asyncio.CancelledError:
            # Otherwise another process would carry it out when the lease ends, for nobody.
            stop = partial(self._context.repository.change_status, now_s=self._context.clock())
            with suppress(Unavailable):
                await asyncio.to_thread(stop, run.run_id, UNFINISHED, Status.TERMINATED)
            raise

    async def validate(self, run: Run) -> tuple[str, ...]:
        """Validate a run that has not come further; return the parts that can be searched alone.

        Raises
        ------
        BudsimError
            `Unavailable`: not now; `Conflict`: the run was taken away; any other ended the run.
        """
        work = self._work(run)
        if run.step is Step.VALIDATION:
            work = replace(work, run=await self._take(work, self._validate))
        if work.request.is_proprietary_model or work.run.step is not Step.ESTIMATION:
            return ()
        return await self._context.workers.compute(parts_of, await work.subject.question(), None)

    async def search(self, run: Run, parts: Sequence[str], *, of: int) -> None:
        """Search some of the ``of`` parts and keep what was found; errors as `validate`."""
        if run.step is Step.ESTIMATION:
            await self._take(self._work(run), partial(self._search, parts=parts, of=of))

    async def conclude(self, run: Run) -> Run:
        """Answer with what was found in all parts, rank it, end the run; errors as `validate`."""
        if run.step is Step.ESTIMATION:
            run = await self._take(self._work(run), self._estimate)
        return await self._take(self._work(run), self._rank)

    async def give_up(self, run: Run, reason: str) -> None:
        """End a run that could not be carried out."""
        await self._fail(self._work(run), reason)

    async def set_back(self, run: Run, reason: str) -> bool:
        """Record a lost worker or workflow; fail the run after the third and say whether."""
        if run.failures + 1 >= SETBACKS_ALLOWED:
            await self.give_up(run, reason)
            return True
        await self._advance(replace(run, failures=run.failures + 1), [])
        return False

    @asynccontextmanager
    async def holding(self, run: Run) -> AsyncIterator[None]:
        """Prolong a run's lease and put its ids into log lines, as long as the context lasts."""
        # A step may compute for longer than a lease lasts.
        keep = asyncio.create_task(self._keep_lease(run))
        try:
            with log_context(run):
                yield
        finally:
            keep.cancel()

    def _work(self, run: Run) -> Work:
        request = RunRequest.model_validate(run.request)
        return Work(run=run, subject=self._context.subject(request))

    async def _take(self, work: Work, step: TakeStep) -> Run:
        """Return a run as one step leaves it; write down what ends it, raise what may pass."""
        run, parent = work.run, work.run.request.get("traceparent")
        timed = self._context.metrics.step_seconds.labels(run.step).time()
        try:
            with timed, self._context.tracing.span(run.step.value, parent, workflow_id=run.run_id):
                return await step(work)
        except (Unavailable, Conflict):
            # Not the run's fault: it is tried again, or somebody else has it.
            raise
        except BudsimError as error:
            await self._fail(work, str(error))
            raise
        except Exception:
            # Callers are told no more than that: exception text may hold what is not theirs.
            log.exception("a step failed", step=run.step)
            await self._fail(work, "an unexpected error; the service's log has the details")
            raise

    async def _validate(self, work: Work) -> Run:
        run = replace(work.run, status=Status.RUNNING)
        tell = self._announcer(work).step
        started = [
            *tell("validation", Status.STARTED, "Checking the request"),
            *tell("eta", Status.RUNNING, str(run.eta_minutes or 1)),
        ]
        await self._advance(run, started)
        await work.subject.check()
        run = replace(run, step=Step.ESTIMATION, failures=0)
        return await self._advance(
            run, self._told(work, "validation", Status.COMPLETED, "The request is valid")
        )

    async def _estimate(self, work: Work) -> Run:
        run = work.run
        await self._advance(run, self._search_started(work))
        known = await asyncio.to_thread(self._context.repository.findings, run.run_id, run.attempt)
        quarters = SearchProgress(lambda share: self._advance(run, self._progress(work, share)))
        try:
            found = await self._searched(work.subject, known, quarters.reached)
        finally:
            await quarters.finish()
        return await self._estimated(work, found)

    async def _searched(
        self, subject: Subject, known: Mapping[str, bytes], progress: Callable[[float], None]
    ) -> Finding:
        if subject.request.is_proprietary_model:
            return await subject.priced()
        question = await subject.question()
        outcome = await self._context.workers.simulate(question, progress, known)
        request = subject.request
        stored = partial(
            stored_plans,
            keep=self._context.options.plans_kept,
            overrides=self._context.options.overrides(
                request.pretrained_model_uri, request.quantization_method
            ),
        )
        plans = await asyncio.to_thread(stored, outcome, question)
        offers = await self._offers(request, question, outcome)
        reasons = reason_documents((*offers, *outcome.rejections))
        return Finding(plans=plans, reasons=reasons, evaluations=outcome.evaluations)

    async def _offers(
        self, request: RunRequest, question: Question, outcome: Outcome
    ) -> tuple[Rejection, ...]:
        """Return a cheaper checkpoint of the model in words, where the request asks for one."""
        if not request.offer_checkpoint:
            return ()
        costs = (each.cost_per_million_tokens_usd for each in outcome.plans if each.meets_targets)
        cost = next(costs, None)
        offer = await self._context.workers.compute(offered_checkpoint, question, cost)
        return (offer,) if offer else ()

    async def _search(self, work: Work, *, parts: Sequence[str], of: int) -> Run:
        """Search some parts of a run's question, beside others who search the rest."""
        run = work.run
        await self._note(run, self._search_started(work))
        question = await work.subject.question()
        for part in parts:
            known = await asyncio.to_thread(
                self._context.repository.searched, run.run_id, run.attempt
            )
            # An activity may be called again after a crash: what it found is not searched twice.
            if part in known:
                continue
            found = await self._context.workers.compute(
                search_part, question.for_partition(part), part
            )
            if found is not None:
                told = self._quarters(work, (len(known) + 1) / of)
                await self._note(run, told, found={part: found})
        return run

    async def _estimated(self, work: Work, found: Finding) -> Run:
        self._count(found)
        message = f"{found.evaluations} candidates predicted"
        told = self._told(work, Step.ESTIMATION.value, Status.COMPLETED, message)
        run = replace(work.run, step=Step.RANKING, failures=0, reasons=found.reasons)
        return await self._advance(run, [*self._quarters(work, 1.0), *told], plans=found.plans)

    async def _rank(self, work: Work) -> Run:
        run = work.run
        plans = await asyncio.to_thread(self._context.repository.plans, run.run_id, EVERY_PLAN)
        message = found_message(plans, run.reasons)
        run = replace(run, status=Status.COMPLETED, step=Step.DONE, message=message)
        result = await asyncio.to_thread(recommendations_of, run, plans)
        tell = self._announcer(replace(work, run=run)).step
        ranked = [
            *tell("ranking", Status.STARTED, "Ranking deployments"),
            *tell("ranking", Status.COMPLETED, f"{len(plans)} deployments ranked"),
            *tell("results", Status.COMPLETED, run.message, result=result),
        ]
        run = await self._advance(run, ranked)
        self._context.metrics.runs.labels(run.status).inc()
        return run

    async def _postpone(self, work: Work, error: Unavailable, *, retry: bool) -> None:
        """Give a run back to be tried again later, or end it after too many tries."""
        failures = work.run.failures + 1
        lost = isinstance(error, WorkerLost)
        allowed = SETBACKS_ALLOWED if lost else self._context.options.max_attempts
        if not retry or failures >= allowed:
            await self._fail(work, str(error))
            return
        pause_s = min(LONGEST_PAUSE_S, 2.0 ** min(failures - 1, 10))
        log.warning("run given back", reason=str(error), again_in_s=pause_s)
        run = replace(work.run, status=Status.RUNNING, failures=failures)
        await self._advance(run, [], due_s=self._context.clock() + pause_s)

    async def _fail(self, work: Work, message: str) -> None:
        event = work.run.step.value
        self._context.metrics.runs.labels(Status.FAILED).inc()
        run = replace(work.run, status=Status.FAILED, step=Step.DONE, message=message)
        told = self._told(replace(work, run=run), event, Status.FAILED, message)
        await self._advance(run, told)

    async def _advance(
        self,
        run: Run,
        envelopes: Sequence[Envelope],
        *,
        due_s: float | None = None,
        plans: Sequence[StoredPlan] | None = None,
    ) -> Run:
        """Write the state a run has reached, with its events; errors as `Repository.advance`."""
        advance = partial(
            self._context.repository.advance, now_s=self._context.clock(), due_s=due_s, plans=plans
        )
        await asyncio.to_thread(advance, run, envelopes)
        self._context.signals.events.set()
        return run

    async def _note(
        self,
        run: Run,
        envelopes: Sequence[Envelope],
        *,
        found: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Store one worker's progress and partial results; errors as `Repository.advance`."""
        note = partial(
            self._context.repository.record_progress, now_s=self._context.clock(), found=found
        )
        await asyncio.to_thread(note, run, envelopes)
        self._context.signals.events.set()

    async def _keep_lease(self, run: Run) -> None:
        lease_s = self._context.options.lease_s
        while True:
            # A third: two renewals may fail before the lease is lost.
            await asyncio.sleep(lease_s / 3)
            try:
                await asyncio.to_thread(
                    self._context.repository.renew, run, self._context.clock() + lease_s
                )
            except Unavailable:
                log.warning("lease not renewed", reason="the database does not answer")

    def _count(self, found: Finding) -> None:
        self._context.metrics.evaluations.inc(found.evaluations)
        for plan in found.plans:
            for group in plan.groups:
                confidence = group.document.get("confidence") or {}
                self._context.metrics.plans.labels(confidence.get("basis", "priced")).inc()

    def _search_started(self, work: Work) -> list[Envelope]:
        return self._told(work, Step.ESTIMATION.value, Status.STARTED, "Searching deployments")

    def _progress(self, work: Work, share: float) -> list[Envelope]:
        return self._told(work, Step.ESTIMATION.value, Status.RUNNING, f"{round(100 * share)} %")

    def _quarters(self, work: Work, share: float) -> list[Envelope]:
        """Return the announcements due at a share of the search; repeated ones are not stored."""
        due = [quarter for quarter in QUARTERS if quarter <= share]
        return [envelope for quarter in due for envelope in self._progress(work, quarter)]

    def _told(self, work: Work, event: str, status: Status, message: str) -> list[Envelope]:
        return self._announcer(work).step(event, status, message)

    def _announcer(self, work: Work) -> Announcer:
        return self._context.announcer(work.run, work.request)


class SearchProgress:
    """Announces 25, 50 and 75 % of a search as they are reached, one after another."""

    def __init__(self, announce: Callable[[float], Awaitable[object]]) -> None:
        self._announce_share = announce
        self._left = list(QUARTERS)
        self._writing: asyncio.Task[None] | None = None

    def reached(self, share: float) -> None:
        """Note the share done, 0..1; called in the event loop."""
        if self._left and share >= self._left[0] and self._is_free():
            self._writing = asyncio.create_task(self._announce(self._left.pop(0)))

    async def finish(self) -> None:
        """Wait for the announcement that is being written.

        Raises
        ------
        LeaseLost
            The run was taken away meanwhile.
        """
        if self._writing:
            await self._writing

    def _is_free(self) -> bool:
        """Whether the last announcement was written; after one that failed there are no more."""
        return self._writing is None or (self._writing.done() and self._writing.exception() is None)

    async def _announce(self, share: float) -> None:
        await self._announce_share(share)


def log_context(run: Run) -> AbstractContextManager[object]:
    """Return a context whose log lines carry the ids of a run and of its trace."""
    found = trace_id(run.request.get("traceparent"))
    ids = {"workflow_id": run.run_id, **({"trace_id": found} if found else {})}
    return structlog.contextvars.bound_contextvars(**ids)
