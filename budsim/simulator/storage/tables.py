"""The tables: runs, their plans and node groups, and the outbox of events.

Times are seconds since the epoch: one type that SQLite and Postgres order alike.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
Document = JSON().with_variant(JSONB(), "postgresql")
Seconds: Double[float] = Double()


class Base(DeclarativeBase):
    """Base of all tables; constraint names are the same on every database."""

    metadata = MetaData(naming_convention=CONVENTION)


class RunRow(Base):
    """An accepted request, its state, and which replica works on it until when."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('UNKNOWN','STARTED','RUNNING','COMPLETED','FAILED','TERMINATED',"
            "'PENDING','SUSPENDED')",
            name="status",
        ),
        CheckConstraint(
            "step IN ('validation','performance_estimation','ranking','done')", name="step"
        ),
        Index(
            "ix_runs_claimable",
            "due_s",
            postgresql_where=text("step <> 'done'"),
            sqlite_where=text("step <> 'done'"),
        ),
        Index("ix_runs_updated_s", "updated_s"),
    )

    run_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    step: Mapped[str] = mapped_column(String(32))
    attempt: Mapped[int] = mapped_column(default=1)
    failures: Mapped[int] = mapped_column(default=0)
    message: Mapped[str] = mapped_column(Text, default="")
    reasons: Mapped[list[dict[str, Any]]] = mapped_column(Document, default=list)
    request: Mapped[dict[str, Any]] = mapped_column(Document)
    request_key: Mapped[str | None] = mapped_column(String(512), unique=True)
    fingerprint: Mapped[str] = mapped_column(String(64), default="")
    eta_minutes: Mapped[int | None]
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    due_s: Mapped[float] = mapped_column(Seconds)
    relay_due_s: Mapped[float] = mapped_column(Seconds, default=0.0)
    created_s: Mapped[float] = mapped_column(Seconds)
    updated_s: Mapped[float] = mapped_column(Seconds)


class PlanRow(Base):
    """A ranked plan of a run."""

    __tablename__ = "plans"
    __table_args__ = (Index("ix_plans_run_id_cluster_id", "run_id", "cluster_id"),)

    run_id: Mapped[str] = mapped_column(
        ForeignKey(RunRow.run_id, ondelete="CASCADE"), primary_key=True
    )
    rank: Mapped[int] = mapped_column(primary_key=True)
    cluster_id: Mapped[str] = mapped_column(String(255))
    replicas: Mapped[int]
    concurrency: Mapped[int]
    ttft_s: Mapped[float | None] = mapped_column(Seconds)
    tokens_per_s_per_user: Mapped[float | None] = mapped_column(Seconds)
    e2e_s: Mapped[float | None] = mapped_column(Seconds)
    error_rate: Mapped[float] = mapped_column(Seconds)
    cost_per_million_tokens_usd: Mapped[float] = mapped_column(Seconds)
    cost_usd_per_h: Mapped[float] = mapped_column(Seconds)
    quantized: Mapped[bool]
    blacklisted: Mapped[bool] = mapped_column(default=False)


class NodeGroupRow(Base):
    """One replica group of a plan, and whether callers reported that it failed."""

    __tablename__ = "node_groups"
    __table_args__ = (Index("ix_node_groups_run_id_config_id", "run_id", "config_id"),)

    run_id: Mapped[str] = mapped_column(
        ForeignKey(RunRow.run_id, ondelete="CASCADE"), primary_key=True
    )
    rank: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    config_id: Mapped[str] = mapped_column(String(255))
    document: Mapped[dict[str, Any]] = mapped_column(Document)
    blacklisted: Mapped[bool] = mapped_column(default=False)
    reason: Mapped[str] = mapped_column(Text, default="")


class FindingRow(Base):
    """The result of searching one part of a run, kept until the run is answered.

    The parts of a run may be searched by different replicas.
    """

    __tablename__ = "findings"

    run_id: Mapped[str] = mapped_column(
        ForeignKey(RunRow.run_id, ondelete="CASCADE"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[str] = mapped_column(String(512), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class EventRow(Base):
    """An event, written once in the transaction of the change it tells of."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_run_id_sequence", "run_id", "sequence"),)

    event_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey(RunRow.run_id, ondelete="CASCADE"))
    sequence: Mapped[int]
    event: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    body: Mapped[dict[str, Any]] = mapped_column(Document)
    created_s: Mapped[float] = mapped_column(Seconds)


class DeliveryRow(Base):
    """An event on its way to one topic: sent after the commit, at least once, under the same id.

    ``topic`` is empty where nobody asked to be told: the event is only logged.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(
            "ix_deliveries_unsent",
            "run_id",
            postgresql_where=text("sent_s IS NULL"),
            sqlite_where=text("sent_s IS NULL"),
        ),
        Index("ix_deliveries_run_id", "run_id"),
    )

    event_id: Mapped[str] = mapped_column(
        ForeignKey(EventRow.event_id, ondelete="CASCADE"), primary_key=True
    )
    topic: Mapped[str] = mapped_column(String(255), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey(RunRow.run_id, ondelete="CASCADE"))
    created_s: Mapped[float] = mapped_column(Seconds)
    sent_s: Mapped[float | None] = mapped_column(Seconds)
    failures: Mapped[int] = mapped_column(default=0)
