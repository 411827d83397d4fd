"""Runs migrations on the engine the service hands over, or on DATABASE_URL from the terminal."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, create_engine, text

from alembic import context
from budsim.commons.config import DatabaseSettings
from budsim.simulator.storage.tables import Base

ADVISORY_LOCK = 0x6275_6473_696D
"""Key of the Postgres lock that makes replicas which start together migrate one after another."""


def _engine() -> Engine:
    given = context.config.attributes.get("engine")
    return given if isinstance(given, Engine) else create_engine(DatabaseSettings().database_url)


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _print_sql() -> None:
    context.configure(
        url=DatabaseSettings().database_url, target_metadata=Base.metadata, literal_binds=True
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _print_sql()
else:
    with _engine().begin() as connection:
        _migrate(connection)
