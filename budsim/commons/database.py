"""Engines and transactions: SQLite in a file by default, Postgres when configured.

A database that cannot be reached becomes `Unavailable`, a value it cannot store `InvalidInput`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from budsim.commons.errors import InvalidInput, Unavailable

CHECKOUT = Path(__file__).resolve().parents[2] / "alembic.ini"
INSTALLED = Path(__file__).resolve().parents[1] / "_migrations" / "alembic.ini"
# Beside the package in a checkout and in the image, inside it in an installed wheel.
ALEMBIC_INI = CHECKOUT if CHECKOUT.is_file() else INSTALLED

BUSY_TIMEOUT_MS = 10_000
POOL_TIMEOUT_S = 5
# Postgres: a connection whose packets nobody acknowledges for so long is given up (libpq).
LOST_AFTER_MS = 20_000


class Database:
    """One engine and its transactions.

    Parameters
    ----------
    url : str
        SQLAlchemy URL; ``postgresql://`` without a driver means psycopg2, the one budsim ships.
    pool_size : int
        Connections kept open (Postgres).
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.engine = _engine(url, pool_size)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that only reads."""
        with _translated(), self._sessions() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that is committed at the end, and rolled back when anything is raised.

        On SQLite the write lock is taken at once. A transaction that read first and wrote later
        would fail when another one had written in between.
        """
        with _translated(), self._sessions() as session, session.begin():
            if self.engine.dialect.name == "sqlite":
                session.connection(execution_options={"sqlite_begin": "IMMEDIATE"})
            yield session

    def check(self) -> None:
        """Ask the database for one row.

        Raises
        ------
        Unavailable
            It does not answer, or its schema is not there.
        """
        with self.reading() as session:
            session.execute(text("SELECT version_num FROM alembic_version")).one()

    def migrate(self) -> None:
        """Bring the schema up to date with Alembic.

        Replicas that start together wait for each other.
        """
        from alembic.config import Config

        from alembic import command

        config = Config(str(ALEMBIC_INI))
        config.attributes["engine"] = self.engine
        with _translated():
            command.upgrade(config, "head")

    def migrate_if_reachable(self) -> None:
        """Bring the schema up to date, or log why not: the service starts without a database."""
        try:
            self.migrate()
        except Unavailable as error:
            structlog.get_logger().error("the schema was not brought up to date", reason=str(error))

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database; None on Postgres."""
        name = self.engine.url.database
        return Path(name) if self.engine.dialect.name == "sqlite" and name else None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Unavailable("the database does not answer") from error
    except DataError as error:
        # The wire refuses such values; this is the net below it.
        problem = "the database cannot store a value of this request"
        raise InvalidInput("body", problem, "text without NUL and lone surrogates") from error
    except UnicodeEncodeError as error:  # psycopg2 encodes before it sends
        problem = "holds text that is not valid Unicode"
        raise InvalidInput("body", problem, "text without lone surrogates") from error


def _engine(url: str, pool_size: int) -> Engine:
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg2" + url.removeprefix("postgresql")
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": POOL_TIMEOUT_S,
                "tcp_user_timeout": LOST_AFTER_MS,
            },
        )
    engine = create_engine(
        url, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection, _record) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
