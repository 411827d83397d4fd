"""Reads and writes runs, plans and events; every public method is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from budsim.commons.database import Database
from budsim.commons.errors import Conflict
from budsim.simulator.storage import outbox
from budsim.simulator.storage.outbox import Outbox, is_unsent
from budsim.simulator.storage.records import (
    FINISHED,
    UNFINISHED,
    Envelope,
    Feedback,
    PlanFilter,
    Run,
    Status,
    Step,
    StoredGroup,
    StoredPlan,
)
from budsim.simulator.storage.tables import FindingRow, NodeGroupRow, PlanRow, RunRow


class LeaseLost(Conflict):
    """The run was stopped, paused, restarted or taken over; its former holder may not write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A new run with its first events.

    Its holder has it until ``due_s``; without a holder any replica may claim it from then on.
    """

    run: Run
    envelopes: Sequence[Envelope]
    due_s: float


class Repository:
    """Runs and plans in one database, with the events of each change written beside it.

    ``outbox`` has the events.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.outbox = Outbox(database)

    def add(self, accepted: Sequence[NewRun]) -> list[Run]:
        """Store new runs with their events; return each, or the run that has its key already."""
        if not accepted:
            return []
        with self._database.writing() as session:
            added = _insert_runs(session, [_run_values(one) for one in accepted])
            new = [one for one in accepted if one.run.run_id in added]
            outbox.insert_first(session, ((one.run.run_id, one.envelopes) for one in new))
        # Read after the transaction: another replica may have stored the run with the same key.
        known = self.by_keys(
            [one.run.request_key for one in accepted if one.run.run_id not in added]
        )
        return [
            one.run if one.run.run_id in added else known[str(one.run.request_key)]
            for one in accepted
        ]

    def get(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        with self._database.reading() as session:
            row = session.get(RunRow, run_id)
            return _run(row) if row else None

    def latest(self, limit: int) -> list[Run]:
        """Return the runs that were written last, newest first."""
        with self._database.reading() as session:
            newest = select(RunRow).order_by(RunRow.updated_s.desc()).limit(limit)
            return [_run(row) for row in session.scalars(newest)]

    def by_keys(self, request_keys: Iterable[str | None]) -> dict[str, Run]:
        """Return the runs that requests with these keys made, by key."""
        wanted = [key for key in request_keys if key]
        if not wanted:
            return {}
        with self._database.reading() as session:
            rows = session.scalars(select(RunRow).where(RunRow.request_key.in_(wanted)))
            return {str(row.request_key): _run(row) for row in rows}

    def waiting(self) -> int:
        """Return how many accepted runs are not finished."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(RunRow.step != Step.DONE)) or 0

    def unfinished(self, run_ids: Collection[str]) -> frozenset[str]:
        """Return those of these runs that are pending or running."""
        if not run_ids:
            return frozenset()
        with self._database.reading() as session:
            going_on = select(RunRow.run_id).where(
                RunRow.run_id.in_(run_ids), RunRow.status.in_(UNFINISHED)
            )
            return frozenset(session.scalars(going_on))

    def claim(self, owner: str | None, *, now_s: float, lease_s: float, limit: int) -> list[Run]:
        """Take up to ``limit`` due runs, oldest first; other replicas wait until the lease ends.

        ``owner`` None makes the Dapr workflow of each run its holder.
        """
        due = (
            select(RunRow)
            .where(RunRow.step != Step.DONE, RunRow.due_s <= now_s, RunRow.status.in_(UNFINISHED))
            .order_by(RunRow.due_s)
            .limit(limit)
            # Replicas that look at the same moment take different runs instead of waiting.
            .with_for_update(skip_locked=True)
        )
        with self._database.writing() as session:
            rows = session.scalars(due).all()
            for row in rows:
                row.lease_owner, row.due_s = owner or _run(row).instance_id, now_s + lease_s
            return [_run(row) for row in rows]

    def take_over(self, run: Run, owner: str, *, due_s: float) -> Run | None:
        """Make ``owner`` the holder of a run; None when ``run.holder`` no longer holds it."""
        with self._database.writing() as session:
            taken = _touch(session, run, lease_owner=owner, due_s=due_s)
        return replace(run, holder=owner) if taken else None

    def renew(self, run: Run, due_s: float) -> bool:
        """Prolong the lease of a run's holder; False when it is lost."""
        with self._database.writing() as session:
            return _touch(session, run, due_s=due_s)

    def release(self, owner: str, *, now_s: float) -> None:
        """Give back the runs that ``owner`` holds, so that other replicas may continue them."""
        with self._database.writing() as session:
            session.execute(
                update(RunRow)
                .where(RunRow.lease_owner == owner)
                .values(lease_owner=None, due_s=now_s)
            )

    def advance(
        self,
        run: Run,
        envelopes: Sequence[Envelope],
        *,
        now_s: float,
        due_s: float | None = None,
        plans: Sequence[StoredPlan] | None = None,
    ) -> None:
        """Write the state a run has reached, its plans and its events in one transaction.

        ``due_s`` gives the run back until then; None keeps the lease. Events that were written
        before are not written again.

        Raises
        ------
        LeaseLost
            The run's holder does not hold it any more, or it has come further already.
        """
        values: dict[str, object] = {
            "status": run.status,
            "step": run.step,
            "message": run.message,
            "reasons": list(run.reasons),
            "failures": run.failures,
            "eta_minutes": run.eta_minutes,
            "updated_s": now_s,
        }
        if due_s is not None:
            values |= {"due_s": due_s, "lease_owner": None}
        with self._database.writing() as session:
            if not _touch(session, run, **values):
                raise LeaseLost("the run is no longer ours")
            if plans is not None:
                _replace_plans(session, run.run_id, plans)
                # Partial results are not needed any more once the plans are stored.
                session.execute(delete(FindingRow).where(FindingRow.run_id == run.run_id))
            outbox.append(session, run, envelopes)

    def record_progress(
        self, run: Run, envelopes: Sequence[Envelope], *, now_s: float, found: Mapping[str, bytes]
    ) -> None:
        """Store one worker's progress and partial results; errors as `advance`."""
        with self._database.writing() as session:
            if not _touch(session, run, updated_s=now_s):
                raise LeaseLost("the run is no longer ours")
            for part, content in found.items():
                # A part may be searched again after a lost worker; the later result takes its
                # place.
                session.merge(
                    FindingRow(run_id=run.run_id, attempt=run.attempt, part=part, content=content)
                )
            outbox.append(session, run, envelopes)

    def searched(self, run_id: str, attempt: int) -> frozenset[str]:
        """Return the names of the parts searched so far."""
        with self._database.reading() as session:
            return frozenset(
                session.scalars(select(FindingRow.part).where(*_of_attempt(run_id, attempt)))
            )

    def findings(self, run_id: str, attempt: int) -> dict[str, bytes]:
        """Return what was found in the parts searched so far, by their names."""
        with self._database.reading() as session:
            return {
                row.part: row.content
                for row in session.scalars(select(FindingRow).where(*_of_attempt(run_id, attempt)))
            }

    def change_status(
        self,
        run_id: str,
        allowed: Iterable[Status],
        status: Status,
        *,
        now_s: float,
        restart: bool = False,
    ) -> Run | None:
        """Change a run's status and take it from its holder; None when its status is not allowed.

        With ``restart`` it begins again as the next attempt, without its plans.
        """
        with self._database.writing() as session:
            # Locked, so that two callers cannot both change the status that they read.
            row = session.scalar(
                select(RunRow)
                .where(RunRow.run_id == run_id, RunRow.status.in_(list(allowed)))
                .with_for_update(),
            )
            if row is None:
                return None
            # Without a holder, the process that works on the run fails at its next write and stops.
            row.status, row.lease_owner, row.due_s, row.updated_s = status, None, now_s, now_s
            if restart:
                row.step, row.attempt, row.failures, row.message = (
                    Step.VALIDATION,
                    row.attempt + 1,
                    0,
                    "",
                )
                row.reasons = []
                _replace_plans(session, run_id, ())
            if status in FINISHED:
                row.step = Step.DONE
            return _run(row)

    def plans(
        self, run_id: str, wanted: PlanFilter, *, offset: int = 0, limit: int | None = None
    ) -> list[StoredPlan]:
        """Return the plans of a run that fit the filter and are not blacklisted, best first."""
        query = (
            select(PlanRow)
            .where(*_conditions(run_id, wanted))
            .order_by(PlanRow.rank)
            .offset(offset)
            .limit(limit)
        )
        with self._database.reading() as session:
            return _stored_plans(session, query)

    def count_plans(self, run_id: str, wanted: PlanFilter) -> int:
        """Return how many plans `plans` would find without a limit."""
        with self._database.reading() as session:
            return (
                session.scalar(
                    select(func.count()).select_from(PlanRow).where(*_conditions(run_id, wanted))
                )
                or 0
            )

    def record_feedback(self, run_id: str, feedback: Sequence[Feedback]) -> frozenset[str]:
        """Set or clear blacklist marks of configurations; return ids the run does not have."""
        unknown: set[str] = set()
        with self._database.writing() as session:
            for report in feedback:
                change = (
                    update(NodeGroupRow)
                    .where(
                        NodeGroupRow.run_id == run_id, NodeGroupRow.config_id == report.config_id
                    )
                    .values(blacklisted=report.failed, reason=report.reason)
                )
                if not _affected(session, change):
                    unknown.add(report.config_id)
            # Derived from all groups of a plan, so that a cleared mark counts as well as a set one.
            marked = exists().where(
                NodeGroupRow.run_id == PlanRow.run_id,
                NodeGroupRow.rank == PlanRow.rank,
                NodeGroupRow.blacklisted.is_(True),
            )
            session.execute(
                update(PlanRow).where(PlanRow.run_id == run_id).values(blacklisted=marked),
                execution_options={"synchronize_session": False},
            )
        return frozenset(unknown)

    def purge(self, before_s: float, *, at_most: int = 500) -> int:
        """Delete up to ``at_most`` finished runs that were last written before ``before_s``.

        Runs with unsent events stay. Returns how many were deleted; call again until it is 0. A
        batch is small so that nobody waits long for its locks.
        """
        old = (
            select(RunRow.run_id)
            .where(RunRow.updated_s < before_s, RunRow.step == Step.DONE, ~is_unsent())
            .order_by(RunRow.updated_s)
            .limit(at_most)
            .with_for_update(skip_locked=True)
        )
        with self._database.writing() as session:
            run_ids = session.scalars(old).all()
            return (
                _affected(session, delete(RunRow).where(RunRow.run_id.in_(run_ids)))
                if run_ids
                else 0
            )


def _touch(session: Session, run: Run, **values: object) -> bool:
    """Change a run its holder still has and that has not come further than ``run``."""
    # In the WHERE clause, so that checking and changing are one: between two statements another
    # replica could take the run.
    steps = list(Step)
    held = (
        RunRow.run_id == run.run_id,
        RunRow.lease_owner == run.holder,
        RunRow.status.in_(UNFINISHED),
    )
    reached = RunRow.step.in_(steps[: steps.index(run.step) + 1])
    return bool(_affected(session, update(RunRow).where(*held, reached).values(**values)))


def _affected(session: Session, statement: object) -> int:
    # Nothing that the session has loaded is read after the statement.
    options = {"synchronize_session": False}
    result = session.execute(statement, execution_options=options)  # type: ignore[call-overload]
    return int(result.rowcount)


def _replace_plans(session: Session, run_id: str, plans: Sequence[StoredPlan]) -> None:
    session.execute(delete(NodeGroupRow).where(NodeGroupRow.run_id == run_id))
    session.execute(delete(PlanRow).where(PlanRow.run_id == run_id))
    for plan in plans:
        session.add(_plan_row(run_id, plan))
        for position, group in enumerate(plan.groups):
            session.add(
                NodeGroupRow(
                    run_id=run_id,
                    rank=plan.rank,
                    position=position,
                    config_id=group.config_id,
                    document=dict(group.document),
                ),
            )


def _conditions(run_id: str, wanted: PlanFilter) -> list[ColumnElement[bool]]:
    conditions = [
        PlanRow.run_id == run_id,
        PlanRow.blacklisted.is_(False),
        PlanRow.error_rate <= wanted.error_rate_threshold,
    ]
    if wanted.cluster_id is not None:
        conditions.append(PlanRow.cluster_id == wanted.cluster_id)
    if wanted.concurrency is not None:
        conditions.append(PlanRow.concurrency >= wanted.concurrency)
    if wanted.best_of_cluster:
        # After the other filters: the best plan of those that fit them, not of all.
        best = select(func.min(PlanRow.rank)).where(*conditions).group_by(PlanRow.cluster_id)
        conditions.append(PlanRow.rank.in_(best))
    return conditions


def _stored_plans(session: Session, query: Select[Any]) -> list[StoredPlan]:
    rows: Sequence[PlanRow] = session.scalars(query).all()
    if not rows:
        return []
    groups: dict[int, list[StoredGroup]] = {row.rank: [] for row in rows}
    members = (
        select(NodeGroupRow)
        .where(NodeGroupRow.run_id == rows[0].run_id, NodeGroupRow.rank.in_(groups))
        .order_by(NodeGroupRow.rank, NodeGroupRow.position)
    )
    for member in session.scalars(members):
        groups[member.rank].append(
            StoredGroup(config_id=member.config_id, document=member.document)
        )
    return [_stored_plan(row, groups[row.rank]) for row in rows]


def _run(row: RunRow) -> Run:
    return Run(
        run_id=row.run_id,
        status=Status(row.status),
        step=Step(row.step),
        request=row.request,
        created_s=row.created_s,
        attempt=row.attempt,
        failures=row.failures,
        message=row.message,
        reasons=tuple(row.reasons),
        eta_minutes=row.eta_minutes,
        request_key=row.request_key,
        fingerprint=row.fingerprint,
        holder=row.lease_owner,
        written_s=row.updated_s,
    )


def _of_attempt(run_id: str, attempt: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return FindingRow.run_id == run_id, FindingRow.attempt == attempt


def _insert_runs(session: Session, rows: Sequence[dict[str, Any]]) -> frozenset[str]:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    # A repeated request key is no error: its run is returned instead.
    new = dialect.insert(RunRow).on_conflict_do_nothing(index_elements=[RunRow.request_key])
    return frozenset(session.scalars(new.returning(RunRow.run_id), rows))


def _run_values(accepted: NewRun) -> dict[str, Any]:
    run = accepted.run
    return {
        "run_id": run.run_id,
        "status": run.status,
        "step": run.step,
        "attempt": run.attempt,
        "message": run.message,
        "request": dict(run.request),
        "request_key": run.request_key,
        "fingerprint": run.fingerprint,
        "eta_minutes": run.eta_minutes,
        "lease_owner": run.holder,
        "due_s": accepted.due_s,
        "created_s": run.created_s,
        "updated_s": run.created_s,
    }


def _plan_row(run_id: str, plan: StoredPlan) -> PlanRow:
    return PlanRow(
        run_id=run_id,
        rank=plan.rank,
        cluster_id=plan.cluster_id,
        replicas=plan.replicas,
        concurrency=plan.concurrency,
        ttft_s=plan.ttft_s,
        tokens_per_s_per_user=plan.tokens_per_s_per_user,
        e2e_s=plan.e2e_s,
        error_rate=plan.error_rate,
        cost_per_million_tokens_usd=plan.cost_per_million_tokens_usd,
        cost_usd_per_h=plan.cost_usd_per_h,
        quantized=plan.quantized,
    )


def _stored_plan(row: PlanRow, groups: Sequence[StoredGroup]) -> StoredPlan:
    return StoredPlan(
        rank=row.rank,
        cluster_id=row.cluster_id,
        replicas=row.replicas,
        concurrency=row.concurrency,
        ttft_s=row.ttft_s,
        tokens_per_s_per_user=row.tokens_per_s_per_user,
        e2e_s=row.e2e_s,
        error_rate=row.error_rate,
        cost_per_million_tokens_usd=row.cost_per_million_tokens_usd,
        cost_usd_per_h=row.cost_usd_per_h,
        quantized=row.quantized,
        groups=tuple(groups),
    )
