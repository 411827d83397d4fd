"""Settings of the database, and the checks of its URL."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, field_validator

from budsim.commons.settings_group import Port, SettingsGroup, secret

DEFAULT_DATABASE = "sqlite:///budsim.db"
POSTGRES_SCHEMES = frozenset({"postgres", "postgresql", "postgresql+psycopg2"})
SQLITE_SCHEMES = frozenset({"sqlite", "sqlite+pysqlite"})


class DatabaseSettings(SettingsGroup):
    """Where runs, plans and events are kept."""

    database_url: SecretStr = secret(
        "database_url",
        SecretStr(DEFAULT_DATABASE),
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME",
    )
    psql_host: str | None = Field(
        None, description="host of Postgres, where DATABASE_URL is unset; the next four go with it"
    )
    psql_port: Port = Field(5432, description="port of Postgres")
    psql_user: str = secret("psql_user", "budsim", "user of Postgres")
    psql_password: SecretStr | None = secret("psql_password", None, "password of Postgres")
    psql_db_name: str = Field("budsim", description="database of Postgres")
    database_pool_size: int = Field(
        10, ge=1, le=200, description="connections kept open (Postgres)"
    )
    migrate_at_start: bool = Field(
        True, description="bring the schema up to date at start; false where a job does it"
    )
    retention_days: float = Field(
        30.0, gt=0, le=3650, description="finished runs are deleted after so many days"
    )

    @property
    def url(self) -> str:
        """SQLAlchemy URL with the driver budsim ships: psycopg2 or SQLite's own."""
        given = self.database_url.get_secret_value()
        if self.psql_host and given == DEFAULT_DATABASE:
            return self._psql_url(self.psql_host)
        scheme, _, rest = given.partition("://")
        return f"postgresql+psycopg2://{rest}" if scheme in POSTGRES_SCHEMES else given

    def _psql_url(self, host: str) -> str:
        password = self.psql_password.get_secret_value() if self.psql_password else ""
        login = quote(self.psql_user, safe="") + (
            f":{quote(password, safe='')}" if password else ""
        )
        name = quote(self.psql_db_name, safe="")
        return f"postgresql+psycopg2://{login}@{host}:{self.psql_port}/{name}"

    @field_validator("database_url")
    @classmethod
    def _check_url(cls, value: SecretStr) -> SecretStr:
        # Checked by hand: an error of a URL library repeats the URL, and with it the password.
        url = value.get_secret_value()
        scheme, separator, rest = url.partition("://")
        if separator and scheme in SQLITE_SCHEMES:
            _check_sqlite_path(rest)
        elif separator and scheme in POSTGRES_SCHEMES:
            _check_postgres_host(url)
        else:
            raise ValueError("the scheme is not sqlite or postgresql")
        return value


def _check_sqlite_path(path: str) -> None:
    if len(path) <= 1 or not path.startswith("/") or ":memory:" in path:
        raise ValueError("SQLite needs a file, as in sqlite:///budsim.db")


def _check_postgres_host(url: str) -> None:
    try:
        named = urlsplit(url)
        host, _ = named.hostname or "host=" in named.query, named.port
    except ValueError:
        raise ValueError("the port is not a number from 1 to 65535") from None
    if not host:
        raise ValueError("it names no host")
