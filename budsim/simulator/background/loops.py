"""The loops that make runs durable: take unfinished runs from the database and carry them out, send events, clear away old runs.

Any number of replicas may run these loops on one database: a lease says who works on a run, another who sends its events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from budsim.commons.dapr import Sidecar
from budsim.commons.errors import BudsimError, Unavailable
from budsim.commons.telemetry import Metrics
from budsim.commons.tracing import trace_id
from budsim.simulator.events import cloud_event
from budsim.simulator.run_steps import log_context
from budsim.simulator.services import Simulations
from budsim.simulator.signals import wait
from budsim.simulator.storage.records import Envelope, Run
from budsim.simulator.storage.repository import Attempt, Outgoing, Repository

RELAY_RUNS = 50
RELAY_LEASE_S = 60.0
RUNS_SENT_AT_A_TIME = 8
"""So many runs' events are published side by side; more would only make requests wait."""
GATHERING_S = 0.2
LONGEST_REFUSAL_PAUSE_S = 15.0
CLEARING_EVERY_S = 3600.0
SECONDS_PER_DAY = 86400.0

log = structlog.get_logger()


class Runner:
    """Carries out runs nobody works on: new ones, and those a replica left unfinished when it died.

    Parameters
    ----------
    simulations : Simulations
        The steps.
    slots : int
        Runs carried out at a time by this replica.
    poll_s : float
        Longest wait before looking for runs again, s.
    """

    def __init__(self, simulations: Simulations, *, slots: int, poll_s: float) -> None:
        self._simulations, self._slots, self._poll_s = simulations, slots, poll_s
        self._working: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look for runs until cancelled; then finish nothing more and give everything back."""
        try:
            while True:
                claimed = await self._claim()
                for run in claimed:
                    task = asyncio.create_task(self._carry_out(run))
                    self._working.add(task)
                    task.add_done_callback(self._done)
                if not claimed:
                    await wait(self._simulations.signals.work, self._poll_s)
        finally:
            await self._give_back()

    async def _claim(self) -> list[Run]:
        free = self._slots - len(self._working)
        if free <= 0:
            return []
        simulations = self._simulations

        def claim() -> list[Run]:
            return simulations.repository.claim(
                simulations.owner,
                now_s=simulations.clock(),
                lease_s=simulations.options.lease_s,
                limit=free,
            )

        try:
            return await asyncio.to_thread(claim)
        except Unavailable as error:
            log.warning("no runs claimed", reason=str(error))
            return []

    async def _carry_out(self, run: Run) -> None:
        with log_context(run):
            try:
                done = await self._simulations.steps.carry_out(run)
            except BudsimError as error:
                log.info("run ended early", reason=str(error))
            except Exception:
                log.exception("run failed")
            else:
                log.info("run ended", status=done.status, message=done.message)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._simulations.signals.work.set()

    async def _give_back(self) -> None:
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        with suppress(Unavailable):
            self._simulations.repository.release(
                self._simulations.owner, now_s=self._simulations.clock()
            )


class Relay:
    """Sends events after the transaction that wrote them: at least once, in order within a run, each under one id.

    Without a sidecar, and for events nobody asked to be told of, the log is where they go.
    """

    def __init__(
        self,
        repository: Repository,
        sidecar: Sidecar | None,
        metrics: Metrics,
        *,
        pubsub: str,
        clock: Callable[[], float],
    ) -> None:
        self._repository, self._sidecar, self._metrics, self._pubsub, self._clock = (
            repository,
            sidecar,
            metrics,
            pubsub,
            clock,
        )
        self._turns = asyncio.Semaphore(RUNS_SENT_AT_A_TIME)

    async def run(self, wake: asyncio.Event, poll_s: float) -> None:
        """Send until cancelled; a short pause before each round lets events gather, so that many share its queries."""
        while True:
            if not await self.send():
                await wait(wake, poll_s)
            await asyncio.sleep(min(GATHERING_S, poll_s))

    async def send(self) -> int:
        """Send what is waiting once; return how many runs had something."""

        def claim() -> list[Outgoing]:
            return self._repository.claim_outgoing(
                now_s=self._clock(), lease_s=RELAY_LEASE_S, limit=RELAY_RUNS
            )

        try:
            claimed = await asyncio.to_thread(claim)
            attempts = await asyncio.gather(*(self._send_run(outgoing) for outgoing in claimed))
            if attempts:
                await asyncio.to_thread(
                    lambda: self._repository.sent(attempts, now_s=self._clock())
                )
        except Unavailable as error:
            log.warning("no events sent", reason=str(error))
            return 0
        return len(claimed)

    async def _send_run(self, outgoing: Outgoing) -> Attempt:
        sent: list[str] = []
        refused: dict[str | None, str] = {}
        async with self._turns:
            for envelope in outgoing.envelopes:
                if envelope.topic in refused:
                    continue
                if await self._send_one(outgoing.run_id, envelope):
                    sent.append(envelope.event_id)
                else:
                    refused[envelope.topic] = envelope.event_id
        pause_s = (
            min(LONGEST_REFUSAL_PAUSE_S, 2.0 ** min(outgoing.failures, 10)) if refused else 0.0
        )
        return Attempt(
            run_id=outgoing.run_id, sent=sent, refused=list(refused.values()), pause_s=pause_s
        )

    async def _send_one(self, run_id: str, envelope: Envelope) -> bool:
        event = cloud_event(envelope, self._pubsub)
        if envelope.topic and self._sidecar:
            try:
                await self._sidecar.publish(envelope.topic, event)
            except Unavailable as error:
                self._metrics.publish_failures.inc()
                log.warning(
                    "event not sent",
                    workflow_id=run_id,
                    event_name=envelope.event,
                    topic=envelope.topic,
                    reason=str(error),
                )
                return False
        self._metrics.events_published.inc()
        log.info(
            "event",
            workflow_id=run_id,
            event_id=envelope.event_id,
            event_name=envelope.event,
            status=envelope.status,
            topic=envelope.topic,
            sequence=envelope.sequence,
            trace_id=trace_id(envelope.body.get("traceparent")),
        )
        return True


async def clear(
    repository: Repository, *, retention_days: float, clock: Callable[[], float]
) -> None:
    """Delete finished runs older than the retention, a batch at a time, every hour until cancelled."""
    while True:
        deleted = batch = 0
        try:
            while batch := await asyncio.to_thread(
                repository.purge, clock() - retention_days * SECONDS_PER_DAY
            ):
                deleted += batch
        except Unavailable as error:
            log.warning("old runs not deleted", reason=str(error))
        log.info("old runs deleted", runs=deleted)
        await asyncio.sleep(CLEARING_EVERY_S)


async def supervise(loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop, and again when a bug ends it: work is only late, never lost."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("a background loop failed")
            await asyncio.sleep(1.0)
