"""Runs migrations on the engine of the service, or on DATABASE_URL from the terminal."""

from __future__ import annotations

from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, text

from alembic import context
from budsim.commons.config import DatabaseSettings, read_group
from budsim.commons.errors import InvalidInput
from budsim.simulator.storage.tables import Base

ADVISORY_LOCK = 0x6275_6473_696D
"""Key of the Postgres lock: replicas that start together migrate one after another."""


def _url() -> str:
    try:
        return read_group(DatabaseSettings).url
    except InvalidInput as error:
        raise CommandError(str(error)) from None  # alembic prints it in one line


def _engine() -> Engine:
    given = context.config.attributes.get("engine")
    return given if isinstance(given, Engine) else create_engine(_url())


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
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _print_sql()
else:
    with _engine().begin() as connection:
        _migrate(connection)
