"""Publishes the events of runs: the relay of a transactional outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from budsim.commons.dapr import Sidecar
from budsim.commons.errors import Unavailable
from budsim.commons.telemetry import Metrics
from budsim.commons.tracing import trace_id
from budsim.simulator.events import published_body
from budsim.simulator.signals import wait
from budsim.simulator.storage.outbox import DeliveryKey, SendResult, UnsentEvents
from budsim.simulator.storage.records import Envelope
from budsim.simulator.storage.repository import Repository

RELAY_RUNS = 50
RELAY_LEASE_S = 60.0
RUNS_SENT_AT_A_TIME = 8
"""Runs whose events are published side by side; more would only make requests wait."""
GATHERING_S = 0.2
"""Pause before each round: events gather meanwhile and share the round's queries."""
LONGEST_REFUSAL_PAUSE_S = 15.0

log = structlog.get_logger()


class Relay:
    """Sends events after the transaction that wrote them.

    Each is sent at least once, always under the same id, and in order within a run and topic.
    Without a sidecar, and for events without a topic, they go to the log only.
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
        """Send until cancelled."""
        while True:
            if not await self.send():
                await wait(wake, poll_s)
            await asyncio.sleep(min(GATHERING_S, poll_s))

    async def send(self) -> int:
        """Send the events that are waiting; return how many runs had some."""

        def claim() -> list[UnsentEvents]:
            return self._repository.outbox.claim(
                now_s=self._clock(), lease_s=RELAY_LEASE_S, limit=RELAY_RUNS
            )

        try:
            claimed = await asyncio.to_thread(claim)
            attempts = await asyncio.gather(*(self._send_run(outgoing) for outgoing in claimed))
            if attempts:
                await asyncio.to_thread(
                    lambda: self._repository.outbox.record(attempts, now_s=self._clock())
                )
        except Unavailable as error:
            log.warning("no events sent", reason=str(error))
            return 0
        return len(claimed)

    async def _send_run(self, outgoing: UnsentEvents) -> SendResult:
        sent: list[DeliveryKey] = []
        refused: dict[str | None, DeliveryKey] = {}
        async with self._turns:
            for envelope in outgoing.envelopes:
                if envelope.topic in refused:
                    continue
                key = (envelope.event_id, envelope.topic)
                if await self._send_one(outgoing.run_id, envelope):
                    sent.append(key)
                else:
                    refused[envelope.topic] = key
        pause_s = (
            min(LONGEST_REFUSAL_PAUSE_S, 2.0 ** min(outgoing.failures, 10)) if refused else 0.0
        )
        return SendResult(
            run_id=outgoing.run_id, sent=sent, refused=list(refused.values()), pause_s=pause_s
        )

    async def _send_one(self, run_id: str, envelope: Envelope) -> bool:
        event = published_body(envelope)
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
