"""Accepts requests as runs: recognizes repeated ones, refuses those too many, stores the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import structlog

from budsim.commons.errors import BudsimError, Busy, Conflict, InvalidInput, NotFound, Unavailable
from budsim.simulator.context import ServiceContext
from budsim.simulator.schemas import RunRequest
from budsim.simulator.storage.records import Run, Status, Step
from budsim.simulator.storage.repository import NewRun
from budsim.simulator.storage.write_batching import WriteBatcher

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A request that may become a run; ``owner`` carries it out, None: whoever claims it."""

    request: RunRequest
    request_key: str | None
    owner: str | None = None


class Admission:
    """Turns requests into stored runs, each once."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._writes: WriteBatcher[_Candidate, Run] = WriteBatcher(self._store_all)

    async def accept(self, request: RunRequest, request_key: str | None, *, check: bool) -> Run:
        """See `budsim.simulator.services.Simulations.accept`."""
        self._context.options.check_topics(request.topics)
        if check:
            try:
                await self.check(request)
            except (InvalidInput, NotFound):
                # A repeated request gets its run even if, say, its cluster has gone meanwhile.
                known = await self.known(request, request_key)
                if known:
                    return known
                raise
        run = await self._writes.put(_Candidate(request=request, request_key=request_key))
        self._context.signals.work.set()
        self._context.signals.events.set()
        return run

    async def accept_here(self, request: RunRequest, request_key: str | None) -> Run:
        """Store a request that this process carries out at once, however many runs wait."""
        self._context.options.check_topics(request.topics)
        owner = self._context.owner
        candidate = _Candidate(request=request, request_key=request_key, owner=owner)
        accepted = [self._accepted(candidate, ahead=0)]
        (run,) = await asyncio.to_thread(self._context.repository.add, accepted)
        self._context.signals.events.set()
        return run

    async def known(self, request: RunRequest, request_key: str | None) -> Run | None:
        """Return the run an equal request made before under this key, or None.

        Raises
        ------
        Conflict
            The key was used for another request.
        """
        if request_key is None:
            return None
        found = await asyncio.to_thread(self._context.repository.by_keys, [request_key])
        run = found.get(request_key)
        return _same(run, request) if run else None

    async def check(self, request: RunRequest) -> None:
        """Raise what keeps a request from being answered; errors as `Subject.check`.

        Only a caller that waits for the answer is told that something is not there for now:
        other runs are accepted, and their validation tries again.
        """
        try:
            await self._context.subject(request).check()
        except Unavailable:
            if request.debug:
                raise
            log.warning("accepted unchecked", reason="inventory or models are not there for now")

    def _store_all(self, candidates: Sequence[_Candidate]) -> list[Run | BudsimError]:
        waiting = self._context.backlog.count()
        # Refused requests are looked up too: a repeated one has its run, however full it is.
        room = max(0, self._context.options.max_pending - waiting)
        runs = self._context.repository.add(
            [self._accepted(new, waiting + index) for index, new in enumerate(candidates[:room])]
        )
        self._context.backlog.grow(len(runs))
        refused = candidates[room:]
        known = self._context.repository.by_keys(candidate.request_key for candidate in refused)
        found = [*runs, *(known.get(candidate.request_key or "") for candidate in refused)]
        return [
            _result(candidate, run, waiting)
            for candidate, run in zip(candidates, found, strict=True)
        ]

    def _accepted(self, candidate: _Candidate, ahead: int) -> NewRun:
        now_s, request = self._context.clock(), candidate.request
        run = Run(
            run_id=str(uuid4()),
            status=Status.PENDING,
            step=Step.VALIDATION,
            request=request.stored(),
            created_s=now_s,
            eta_minutes=self._context.backlog.eta_minutes(ahead),
            request_key=candidate.request_key,
            fingerprint=request.fingerprint(),
            holder=candidate.owner,
        )
        return NewRun(
            run=run,
            envelopes=self._context.announcer(run, request).accepted(),
            # A run that is carried out here is nobody else's until its lease ends.
            due_s=now_s + self._context.options.lease_s if candidate.owner else now_s,
        )


def _result(candidate: _Candidate, run: Run | None, waiting: int) -> Run | BudsimError:
    if run is None:
        return Busy(f"{waiting} runs are waiting already")
    try:
        return _same(run, candidate.request)
    except Conflict as error:
        return error


def _same(run: Run, request: RunRequest) -> Run:
    if run.fingerprint != request.fingerprint():
        raise Conflict("this Idempotency-Key or event id was used for another request")
    return run
