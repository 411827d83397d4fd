"""The runs and events of a soak, read from database and broker rather than from the service."""

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import redis
import sqlalchemy as sa

from budsim.simulator.storage.records import Step
from budsim.simulator.storage.tables import DeliveryRow, RunRow
from tests.soak.traffic import TOPIC

STALLED_S = 180.0
LOOK_EVERY_S = 0.5


@dataclass
class Delivered:
    """The `results` events of one workflow as a subscriber got them."""

    event_ids: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)
    times: int = 0


@dataclass
class Ledger:
    """Every run and every `results` event of a soak."""

    statuses: dict[str, str]
    owners: Counter[str]
    requests: Counter[str]
    delivered: dict[str, Delivered]

    def lost(self, accepted: Iterable[str]) -> int:
        """Return how many accepted workflows did not complete."""
        return sum(self.statuses.get(workflow_id) != "COMPLETED" for workflow_id in accepted)

    def unannounced(self, accepted: Iterable[str]) -> int:
        """Return how many accepted workflows have no `results` event."""
        return sum(workflow_id not in self.delivered for workflow_id in accepted)

    @property
    def twice(self) -> int:
        """How many requests made more than one workflow."""
        return sum(count > 1 for count in self.requests.values())

    @property
    def unstable(self) -> int:
        """How many workflows announced their results under several ids, or with several answers."""
        return sum(
            len(found.event_ids) != 1 or len(found.answers) != 1
            for found in self.delivered.values()
        )

    @property
    def redelivered(self) -> int:
        """How many `results` events came more than once, as they may."""
        return sum(found.times > 1 for found in self.delivered.values())


def settle(database_url: str) -> float:
    """Wait until every run has ended and every event has left; return the seconds it took."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    start_s = moved_s = time.monotonic()
    last = left = _left(engine)
    while any(left):
        if left != last:
            last, moved_s = left, time.monotonic()
        if time.monotonic() - moved_s > STALLED_S:
            raise TimeoutError(
                f"nothing moved for {STALLED_S:g} s; {left[0]} runs and {left[1]} events are left"
            )
        time.sleep(LOOK_EVERY_S)
        left = _left(engine)
    return time.monotonic() - start_s


def ended(database_url: str) -> int:
    """Return how many runs have ended."""
    with sa.create_engine(database_url, poolclass=sa.NullPool).connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).where(RunRow.step == Step.DONE)) or 0


def read(database_url: str, redis_url: str) -> Ledger:
    """Return what the database and the broker hold."""
    with sa.create_engine(database_url, poolclass=sa.NullPool).connect() as connection:
        rows = connection.execute(
            sa.select(RunRow.run_id, RunRow.status, RunRow.lease_owner, RunRow.request_key)
        ).all()
    delivered: dict[str, Delivered] = defaultdict(Delivered)
    for _, fields in redis.Redis.from_url(redis_url).xrange(TOPIC):
        _note(json.loads(fields[b"data"]), delivered)
    return Ledger(
        statuses={row.run_id: row.status for row in rows},
        owners=Counter(str(row.lease_owner) for row in rows),
        requests=Counter(row.request_key for row in rows if row.request_key),
        delivered=dict(delivered),
    )


def _left(engine: sa.Engine) -> tuple[int, int]:
    try:
        with engine.connect() as connection:
            runs = connection.scalar(sa.select(sa.func.count()).where(RunRow.step != Step.DONE))
            events = connection.scalar(
                sa.select(sa.func.count()).where(DeliveryRow.sent_s.is_(None))
            )
    except sa.exc.OperationalError:
        return -1, -1
    return runs or 0, events or 0


def _note(event: dict[str, object], delivered: dict[str, Delivered]) -> None:
    payload = event.get("payload") or {}
    assert isinstance(payload, dict)
    if payload.get("event") != "results":
        return
    found = delivered[payload["workflow_id"]]
    found.event_ids.add(str(payload["event_id"]))
    found.answers.add(
        hashlib.sha256(
            json.dumps(payload["content"]["result"], sort_keys=True).encode()
        ).hexdigest()
    )
    found.times += 1
