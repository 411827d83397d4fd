"""Stores the events of runs and where each still has to be sent: a transactional outbox."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from budsim.commons.database import Database
from budsim.simulator.storage.records import Envelope, Run
from budsim.simulator.storage.tables import DeliveryRow, EventRow, RunRow

# The topic of an event that nobody asked to be told of.
LOG_ONLY = ""

# Id of an event and the topic it goes to.
DeliveryKey = tuple[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsentEvents:
    """Unsent events of one run in order, and how often the first was refused."""

    run_id: str
    envelopes: tuple[Envelope, ...]
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """The result of sending one run's events.

    What was sent, what was refused, and the pause before the run's next turn, s.
    """

    run_id: str
    sent: Sequence[DeliveryKey]
    refused: Sequence[DeliveryKey]
    pause_s: float


class Outbox:
    """Events of runs in one database; every public method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(self, run_id: str, *, offset: int = 0, limit: int | None = None) -> list[Envelope]:
        """Return the events of a run in the order they happened, each once, without topics."""
        query = (
            select(EventRow)
            .where(EventRow.run_id == run_id)
            .order_by(EventRow.sequence)
            .offset(offset)
            .limit(limit)
        )
        with self._database.reading() as session:
            return [_envelope(row, LOG_ONLY) for row in session.scalars(query)]

    def count(self, run_id: str) -> int:
        """Return how many events a run has."""
        with self._database.reading() as session:
            query = select(func.count()).where(EventRow.run_id == run_id)
            return session.scalar(query) or 0

    def claim(self, *, now_s: float, lease_s: float, limit: int) -> list[UnsentEvents]:
        """Take the unsent events of up to ``limit`` runs; other replicas wait for ``lease_s``.

        Only one relay works on a run at a time, so its events leave in order.
        """
        query = (
            select(RunRow.run_id)
            .where(is_unsent(), RunRow.relay_due_s <= now_s)
            .order_by(RunRow.relay_due_s, RunRow.created_s)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        # Runs are claimed, not deliveries: two relays on one run would mix up its order.
        with self._database.writing() as session:
            run_ids = session.scalars(query).all()
            if not run_ids:
                return []
            claimed = update(RunRow).where(RunRow.run_id.in_(run_ids))
            session.execute(claimed.values(relay_due_s=now_s + lease_s))
            return _unsent_of(session, run_ids)

    def record(self, results: Sequence[SendResult], *, now_s: float) -> None:
        """Note what was sent and what was refused, and when the runs are due again."""
        sent = [_key(key) for result in results for key in result.sent]
        refused = [_key(key) for result in results for key in result.refused]
        key = tuple_(DeliveryRow.event_id, DeliveryRow.topic)
        pauses: dict[float, list[str]] = {}
        for result in results:
            pauses.setdefault(result.pause_s, []).append(result.run_id)
        with self._database.writing() as session:
            if sent:
                session.execute(update(DeliveryRow).where(key.in_(sent)).values(sent_s=now_s))
            if refused:
                failed = update(DeliveryRow).where(key.in_(refused))
                session.execute(failed.values(failures=DeliveryRow.failures + 1))
            for pause_s, run_ids in pauses.items():
                paused = update(RunRow).where(RunRow.run_id.in_(run_ids))
                session.execute(paused.values(relay_due_s=now_s + pause_s))

    def unsent(self) -> tuple[int, float | None]:
        """Return how many deliveries are due, and the time of the oldest, s since the epoch."""
        query = select(func.count(), func.min(DeliveryRow.created_s)).where(
            DeliveryRow.sent_s.is_(None)
        )
        with self._database.reading() as session:
            count, oldest_s = session.execute(query).one()
        return count, oldest_s


def is_unsent() -> Any:
    """Return the condition that a run has events which have not left yet."""
    return exists().where(DeliveryRow.run_id == RunRow.run_id, DeliveryRow.sent_s.is_(None))


def insert_first(session: Session, runs: Iterable[tuple[str, Sequence[Envelope]]]) -> None:
    """Store the first events of new runs, given as pairs of run id and events."""
    events: list[dict[str, Any]] = []
    deliveries: list[dict[str, Any]] = []
    for run_id, envelopes in runs:
        _add_rows(run_id, envelopes, 0, events, deliveries)
    _insert(session, events, deliveries)


def append(session: Session, run: Run, envelopes: Sequence[Envelope]) -> None:
    """Store events after those a run has; storing one again has no effect."""
    if not envelopes:
        return
    query = select(EventRow.event_id, EventRow.sequence).where(EventRow.run_id == run.run_id)
    written = session.execute(query).all()
    known = {row.event_id for row in written}
    following = 1 + max((row.sequence for row in written), default=-1)
    events: list[dict[str, Any]] = []
    deliveries: list[dict[str, Any]] = []
    # A step that is carried out again after a crash announces the same events under the same ids.
    fresh = [envelope for envelope in envelopes if envelope.event_id not in known]
    _add_rows(run.run_id, fresh, following, events, deliveries)
    _insert(session, events, deliveries)


def _add_rows(
    run_id: str,
    envelopes: Sequence[Envelope],
    following: int,
    events: list[dict[str, Any]],
    deliveries: list[dict[str, Any]],
) -> None:
    """Add one row for each event, and one for each topic it goes to."""
    seen: set[str] = set()
    for envelope in envelopes:
        if envelope.event_id not in seen:
            place = following + len(seen)
            seen.add(envelope.event_id)
            events.append(_event_values(run_id, envelope, place))
        deliveries.append(
            {
                "event_id": envelope.event_id,
                "topic": envelope.topic or LOG_ONLY,
                "run_id": run_id,
                "created_s": envelope.created_s,
            }
        )


def _insert(
    session: Session, events: list[dict[str, Any]], deliveries: list[dict[str, Any]]
) -> None:
    if events:
        session.execute(insert(EventRow), events)
        session.execute(insert(DeliveryRow), deliveries)


def _event_values(run_id: str, envelope: Envelope, sequence: int) -> dict[str, Any]:
    return {
        "event_id": envelope.event_id,
        "run_id": run_id,
        "sequence": sequence,
        "event": envelope.event,
        "status": envelope.status,
        "body": dict(envelope.body),
        "created_s": envelope.created_s,
    }


def _unsent_of(session: Session, run_ids: Collection[str]) -> list[UnsentEvents]:
    query = (
        select(EventRow, DeliveryRow.topic, DeliveryRow.failures)
        .join(DeliveryRow, DeliveryRow.event_id == EventRow.event_id)
        .where(DeliveryRow.run_id.in_(run_ids), DeliveryRow.sent_s.is_(None))
        .order_by(EventRow.sequence, DeliveryRow.topic)
    )
    waiting: dict[str, list[tuple[Envelope, int]]] = {}
    for row, topic, failures in session.execute(query):
        waiting.setdefault(row.run_id, []).append((_envelope(row, topic), failures))
    return [
        UnsentEvents(
            run_id=run_id,
            envelopes=tuple(envelope for envelope, _ in found),
            failures=found[0][1],
        )
        for run_id, found in waiting.items()
    ]


def _key(key: DeliveryKey) -> tuple[str, str]:
    event_id, topic = key
    return event_id, topic or LOG_ONLY


def _envelope(row: EventRow, topic: str) -> Envelope:
    return Envelope(
        event_id=row.event_id,
        topic=topic or None,
        event=row.event,
        status=row.status,
        body=row.body,
        created_s=row.created_s,
        sequence=row.sequence,
    )
