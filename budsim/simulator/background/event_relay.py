"""Publishes the events of runs: the relay of a transactional outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
# Runs whose events are published side by side; more would only make requests wait.
RUNS_SENT_AT_A_TIME = 8
# Pause before each round: events gather meanwhile and share the round's queries.
GATHERING_S = 0.2
# A round records what it has sent after so long; slower runs are recorded by a later round.
ROUND_S = 1.0

LONGEST_REFUSAL_PAUSE_S = 15.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Refusals:
    """How often a topic has refused events in a row, and when it is tried again."""

    count: int
    again_s: float


class Relay:
    """Sends events after the transaction that wrote them.

    Each is sent at least once, always under the same id, and in order within a run and topic.
    Without a sidecar, and for events without a topic, they go to the log only.

    A topic that refuses an event rests for a while, for all runs: one event tries it again. Other
    topics go on meanwhile. An event that is refused for too long goes to the dead-letter topic.

    Parameters
    ----------
    repository, sidecar, metrics
        Where events come from, go to, and are counted.
    dead_letter : str
        Topic of events that their own topic has refused for too long.
    give_up_s : float
        How long that is, s.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        repository: Repository,
        sidecar: Sidecar | None,
        metrics: Metrics,
        *,
        dead_letter: str,
        give_up_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._repository, self._sidecar, self._metrics = repository, sidecar, metrics
        self._dead_letter, self._give_up_s, self._clock = dead_letter, give_up_s, clock
        self._turns = asyncio.Semaphore(RUNS_SENT_AT_A_TIME)
        self._refusing: dict[str, _Refusals] = {}
        self._slow: set[asyncio.Task[SendResult]] = set()

    async def run(self, wake: asyncio.Event, poll_s: float) -> None:
        """Send until cancelled."""
        try:
            while True:
                if not await self.send():
                    await wait(wake, poll_s)
                await asyncio.sleep(min(GATHERING_S, poll_s))
        finally:
            # What they have sent is sent again under the same id when their lease ends.
            for task in self._slow:
                task.cancel()

    async def send(self) -> int:
        """Send the events that are waiting; return how many runs had some."""

        def claim() -> list[UnsentEvents]:
            """Reserve the runs with unsent events for this process until the lease ends."""
            return self._repository.outbox.claim(
                now_s=self._clock(), lease_s=RELAY_LEASE_S, limit=RELAY_RUNS
            )

        try:
            claimed = await asyncio.to_thread(claim)
            await self._send_all(claimed)
        except Unavailable as error:
            log.warning("no events sent", reason=str(error))
            return 0
        return len(claimed)

    async def _send_all(self, claimed: list[UnsentEvents]) -> None:
        """Send the events of runs, and record those that are done within a round."""
        sending = {asyncio.create_task(self._send_run(unsent)) for unsent in claimed} | self._slow
        if not sending:
            return
        done, self._slow = await asyncio.wait(sending, timeout=ROUND_S)
        results = [task.result() for task in done]
        if results:
            await asyncio.to_thread(
                lambda: self._repository.outbox.record(results, now_s=self._clock())
            )

    async def _send_run(self, unsent: UnsentEvents) -> SendResult:
        sent: list[DeliveryKey] = []
        refused: dict[str | None, DeliveryKey] = {}
        async with self._turns:
            for envelope in unsent.envelopes:
                if envelope.topic in refused:  # later events of a topic wait for earlier ones
                    continue
                key = (envelope.event_id, envelope.topic)
                if await self._send_one(unsent.run_id, envelope):
                    sent.append(key)
                else:
                    refused[envelope.topic] = key
        pause_s = max((self._rest_s(topic) for topic in refused), default=0.0)
        return SendResult(
            run_id=unsent.run_id, sent=sent, refused=list(refused.values()), pause_s=pause_s
        )

    async def _send_one(self, run_id: str, envelope: Envelope) -> bool:
        """Send one event; return whether it has left, to its topic or to the dead letters."""
        body = published_body(envelope)
        if envelope.topic and self._sidecar and not await self._publish(envelope.topic, body):
            return await self._give_up(run_id, envelope, body)
        self._metrics.events_published.inc()
        self._tell("event", run_id, envelope)
        return True

    async def _publish(self, topic: str, body: Mapping[str, object]) -> bool:
        """Publish an event, unless its topic rests; return whether the sidecar took it."""
        resting = self._refusing.get(topic)
        if resting and self._clock() < resting.again_s:
            return False
        if resting:  # one event tries the topic; the others wait for what becomes of it
            resting.again_s = self._clock() + LONGEST_REFUSAL_PAUSE_S
        assert self._sidecar is not None
        try:
            await self._sidecar.publish(topic, body)
        except Unavailable as error:
            count = 1 + (resting.count if resting else 0)
            pause_s = min(LONGEST_REFUSAL_PAUSE_S, 2.0 ** min(count - 1, 10))
            self._refusing[topic] = _Refusals(count, self._clock() + pause_s)
            self._metrics.publish_failures.inc()
            log.warning("topic refuses events", topic=topic, times=count, reason=str(error))
            return False
        self._refusing.pop(topic, None)
        return True

    def _rest_s(self, topic: str | None) -> float:
        resting = self._refusing.get(topic or "")
        return max(0.0, resting.again_s - self._clock()) if resting else 0.0

    async def _give_up(self, run_id: str, envelope: Envelope, body: Mapping[str, object]) -> bool:
        """Send an event that is too old to the dead letters; return whether it has left.

        Otherwise an event for a topic that never takes it would be tried for ever, and its run
        never deleted.
        """
        age_s = self._clock() - envelope.created_s
        if age_s < self._give_up_s:
            return False
        letter = {**body, "subject": envelope.topic}  # CloudEvents: what the event is about
        if envelope.topic != self._dead_letter and await self._publish(self._dead_letter, letter):
            self._metrics.events_given_up.inc()
            self._tell("event sent to the dead letters", run_id, envelope)
            return True
        if age_s < 2 * self._give_up_s:
            return False
        self._metrics.events_given_up.inc()
        self._tell("event given up", run_id, envelope)
        return True

    def _tell(self, message: str, run_id: str, envelope: Envelope) -> None:
        log.info(
            message,
            workflow_id=run_id,
            event_id=envelope.event_id,
            event_name=envelope.event,
            status=envelope.status,
            topic=envelope.topic,
            sequence=envelope.sequence,
            trace_id=trace_id(envelope.body.get("traceparent")),
        )
