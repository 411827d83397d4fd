"""What the database does with many runs: every query uses an index, and old runs go in batches."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event, text

from budsim.commons.database import Database
from budsim.simulator.storage.records import PlanFilter
from budsim.simulator.storage.repository import Repository

RUNS = 3000
RUN_ID = str(uuid.UUID(int=7))
FILL = """
INSERT INTO runs (run_id, status, step, attempt, failures, message, reasons, request,
                  request_key, fingerprint, due_s, relay_due_s, created_s, updated_s)
SELECT lpad(to_hex(i), 32, '0')::uuid, CASE WHEN i % 50 = 0 THEN 'PENDING' ELSE 'COMPLETED' END,
       CASE WHEN i % 50 = 0 THEN 'validation' ELSE 'done' END, 1, 0, '', '[]', '{}',
       'key:' || i, '', i, 0, i, i
FROM generate_series(1, :runs) AS i;
INSERT INTO events (event_id, run_id, sequence, event, status, body, created_s)
SELECT gen_random_uuid(), lpad(to_hex(i), 32, '0')::uuid, n, 'results', 'COMPLETED', '{}', i
FROM generate_series(1, :runs) AS i, generate_series(1, 4) AS n;
INSERT INTO deliveries (event_id, topic, run_id, created_s, sent_s, failures)
SELECT event_id, 't', run_id, created_s, CASE WHEN created_s::int % 100 > 0 THEN 1 END, 0
FROM events;
INSERT INTO plans (run_id, rank, cluster_id, replicas, concurrency, error_rate,
                   cost_per_million_tokens_usd, cost_usd_per_h, quantized, blacklisted)
SELECT lpad(to_hex(i), 32, '0')::uuid, n, 'c', 1, 1, 0, 1, 1, false, false
FROM generate_series(1, :runs) AS i, generate_series(1, 4) AS n;
INSERT INTO node_groups (run_id, rank, position, config_id, document, blacklisted, reason)
SELECT lpad(to_hex(i), 32, '0')::uuid, n, 0, 'g' || n, '{}', false, ''
FROM generate_series(1, :runs) AS i, generate_series(1, 4) AS n;
"""
OF_A_RUN = {"ix_plans_run_id_cluster_id", "pk_plans"}
QUERIES: dict[str, tuple[Callable[[Repository], object], set[str]]] = {
    "claim": (lambda r: r.claim("me", now_s=1e9, lease_s=1, limit=4), {"ix_runs_claimable"}),
    "waiting": (lambda r: r.waiting(), {"ix_runs_claimable"}),
    "repeated requests": (lambda r: r.by_keys(["key:7", "key:8"]), {"uq_runs_request_key"}),
    "one run": (lambda r: r.get(RUN_ID), {"pk_runs"}),
    "unsent events": (lambda r: r.outbox.unsent(), {"ix_deliveries_unsent"}),
    "events of a run": (lambda r: r.outbox.events(RUN_ID), {"ix_events_run_id_sequence"}),
    "a page of plans": (
        lambda r: r.plans(RUN_ID, PlanFilter(cluster_id="c"), limit=1),
        {"ix_plans_run_id_cluster_id", "pk_plans"},
    ),
    "how many plans": (
        lambda r: r.count_plans(RUN_ID, PlanFilter()),
        {"ix_plans_run_id_cluster_id", "pk_plans"},
    ),
    "old runs": (lambda r: r.purge(30.0), {"ix_runs_updated_s"}),
}


@pytest.fixture(scope="module")
def filled(module_postgres_url: str) -> Iterator[Database]:
    """Return a migrated Postgres with thousands of runs, most of them finished and told of."""
    database = Database(module_postgres_url)
    database.migrate()
    with database.engine.begin() as connection:
        for statement in FILL.strip().split(";\n"):
            connection.execute(text(statement), {"runs": RUNS} if ":runs" in statement else {})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    yield database
    database.close()


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_uses_an_index(filled: Database, name: str):
    """EXPLAIN of every query names the index made for it, and reads no table from end to end."""
    ask, wanted = QUERIES[name]
    used, scanned = indexes(filled, lambda: ask(Repository(filled)))
    assert used & wanted, used
    assert not scanned


def indexes(database: Database, ask: Callable[[], object]) -> tuple[set[str], set[str]]:
    """Return the indexes and the tables read from end to end by the queries ``ask`` sends."""
    plans: list[Any] = []

    def explain(
        _connection: Any, cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            cursor.execute(
                "EXPLAIN (FORMAT JSON) " + statement, parameters[0] if many else parameters
            )
            found = cursor.fetchone()[0]
            plans.append(found if isinstance(found, list) else json.loads(found))

    event.listen(database.engine, "before_cursor_execute", explain)
    try:
        ask()
    finally:
        event.remove(database.engine, "before_cursor_execute", explain)
    nodes = [node for plan in plans for node in _nodes(plan[0]["Plan"])]
    return (
        {node["Index Name"] for node in nodes if "Index Name" in node},
        {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"},
    )


def test_relay_finds_unsent_events_without_reading_the_sent_ones(filled: Database):
    """The outbox is read through its partial index; only runs with unsent events are read."""
    used, scanned = indexes(
        filled, lambda: Repository(filled).outbox.claim(now_s=1e9, lease_s=1, limit=50)
    )
    assert "ix_deliveries_unsent" in used
    assert "deliveries" not in scanned


def test_old_runs_go_in_batches_with_all_they_own(filled: Database):
    """Finished, old runs whose events were sent go, ninety at a time; the others stay."""
    repository = Repository(filled)
    sizes = [repository.purge(200.0, at_most=90) for _ in range(4)]
    assert (sizes[0], sizes[-1]) == (90, 0)
    assert 90 < sum(sizes) <= 196
    assert repository.get(str(uuid.UUID(int=100))) is not None  # its events have not left
    assert repository.get(str(uuid.UUID(int=50))) is not None  # it is not finished
    assert repository.get(str(uuid.UUID(int=199))) is None
    assert repository.outbox.events(str(uuid.UUID(int=199))) == []
    assert repository.plans(str(uuid.UUID(int=199)), PlanFilter()) == []
    assert repository.get(str(uuid.UUID(int=201))) is not None


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)
