"""Fixtures and options for every test: databases, measurements and a running Dapr sidecar."""

import gc
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as drawing

# The time an example takes depends on how busy the machine is, so there is no deadline. The gate
# draws the same examples every time, so that it judges the change and not the luck of a draw.
# HYPOTHESIS_PROFILE=explore draws new ones.
drawing.register_profile(
    "budsim",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=True,
)
drawing.register_profile("explore", drawing.get_profile("budsim"), derandomize=False)
drawing.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "budsim"))

# By default structlog draws tracebacks with their variables, a tenth of a second each.
structlog.configure(
    processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
)

REPOSITORY = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options that point integration tests at a running sidecar."""
    sidecar = parser.getgroup("sidecar", "integration tests against a running Dapr sidecar")
    sidecar.addoption(
        "--dapr-http-port", type=int, default=None, help="HTTP port of the sidecar; else skipped"
    )
    sidecar.addoption(
        "--dapr-api-token", default=None, help="token the sidecar demands (DAPR_API_TOKEN)"
    )
    foreign = parser.getgroup(
        "foreign",
        "checks by the real tools, each in an environment of its own: they clash with ours",
    )
    foreign.addoption("--litellm-python", default=None, help="Python that has litellm[proxy] 1.105")
    foreign.addoption("--llmc-python", default=None, help="Python that has llmcompressor 0.14")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked `sidecar` when no sidecar is named."""
    if config.getoption("--dapr-http-port") is not None:
        return
    skip = pytest.mark.skip(
        reason="needs a running Dapr sidecar: pass --dapr-http-port and --dapr-api-token"
    )
    for item in items:
        if item.get_closest_marker("sidecar"):
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Keep the garbage collector off what was imported and collected: it stays to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def dapr_http_port(request: pytest.FixtureRequest) -> int:
    """HTTP port of the running sidecar, for tests marked `sidecar`."""
    port: int | None = request.config.getoption("--dapr-http-port")
    if port is None:
        pytest.skip("needs a running Dapr sidecar: pass --dapr-http-port")
    return port


@pytest.fixture(scope="session")
def dapr_api_token(request: pytest.FixtureRequest) -> str | None:
    """Token for calls to the sidecar; None when it demands none."""
    token: str | None = request.config.getoption("--dapr-api-token")
    return token


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the measurements: `BUDSIM_DATA`, else `../shared/data`.

    The test is skipped where there is neither.
    """
    folder = Path(os.environ.get("BUDSIM_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "measurements.csv").is_file():
        pytest.skip(
            f"needs measurements.csv, not found in {folder}: "
            "set BUDSIM_DATA to the folder that holds it"
        )
    return folder


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of an empty SQLite file of this test's own."""
    return f"sqlite:///{tmp_path / 'budsim.sqlite3'}"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """URL of an empty Postgres database for this test alone.

    It is on the server of `TEST_DATABASE_URL`; the test is skipped without one.
    """
    with _postgres() as url:
        yield url


@pytest.fixture(scope="module")
def module_postgres_url() -> Iterator[str]:
    """URL of an empty Postgres database that the tests of one file share."""
    with _postgres() as url:
        yield url


@contextmanager
def _postgres() -> Iterator[str]:
    server = os.environ.get("TEST_DATABASE_URL")
    if not server:
        pytest.skip("needs Postgres: set TEST_DATABASE_URL, or run `make test`, which starts one")
    name = f"budsim_{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    _administer(engine, f'CREATE DATABASE "{name}" TEMPLATE template0')
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(engine, f'DROP DATABASE "{name}" WITH (FORCE)')
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, once on SQLite and once on Postgres."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def redis_url() -> str:
    """URL of the Redis named by `TEST_REDIS_URL`; the test is skipped without one.

    Tests share it: use keys of your own.
    """
    url = os.environ.get("TEST_REDIS_URL")
    if not url:
        pytest.skip("needs Redis: set TEST_REDIS_URL, or run `make test`, which starts one")
    return url


def _administer(engine: sa.Engine, statement: str) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
