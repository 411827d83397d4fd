"""Settings in the sidecar's stores win over the environment; without them there is no start."""

from collections.abc import AsyncIterator, Iterator

import pytest

from budsim.commons.config import (
    AppSettings,
    DaprSettings,
    Environment,
    InventorySettings,
    LimitSettings,
    Settings,
)
from budsim.commons.dapr import Sidecar, connect
from budsim.commons.database_settings import DatabaseSettings
from budsim.commons.errors import InvalidInput, Unavailable
from budsim.commons.stored_settings import stored_settings
from tests.simulator.serving import StandInSidecar

STORES = {
    "secret_store_name": "vault",
    "configuration_store_name": "settings",
    "stores_wait_s": 0.0,
}


@pytest.fixture
def http() -> Iterator[StandInSidecar]:
    """Yield a stand-in sidecar."""
    server = StandInSidecar()
    yield server
    server.close()


@pytest.fixture
async def client(http: StandInSidecar) -> AsyncIterator[Sidecar]:
    """Yield a client for it."""
    found = connect(http.settings)
    assert found is not None
    yield found
    await found.close()


def settings(environment: Environment = Environment.DEVELOPMENT, **dapr: object) -> Settings:
    """Return settings of nobody's environment."""
    return Settings(
        app=AppSettings(_env_file=None, environment=environment),
        database=DatabaseSettings(_env_file=None),
        dapr=DaprSettings(_env_file=None, **dapr),
        inventory=InventorySettings(_env_file=None),
        limits=LimitSettings(_env_file=None),
    )


async def test_stores_win_over_the_environment(http: StandInSidecar, client: Sidecar):
    """Token and database from the secret, a limit from the configuration; nothing else."""
    http.secrets["budsim"] = {
        "APP_API_TOKEN": "of-our-own",
        "DATABASE_URL": "postgresql://b:p4ss@db/b",
        "LEASE_S": "1",
    }
    http.configuration = {"MAX_PENDING_RUNS": "77", "APP_API_TOKEN": "not-from-here"}
    found = await stored_settings(settings(Environment.PRODUCTION, **STORES), client)
    assert found.app.app_api_token is not None
    assert found.app.app_api_token.get_secret_value() == "of-our-own"
    assert found.database.url == "postgresql+psycopg2://b:p4ss@db/b"
    assert (found.limits.max_pending_runs, found.limits.lease_s) == (77, 30.0)


async def test_nothing_is_asked_where_no_store_is_named(http: StandInSidecar, client: Sidecar):
    """The settings are what they were, even while the sidecar is away."""
    http.is_down = True
    given = settings()
    assert await stored_settings(given, client) is given


async def test_a_store_that_does_not_answer_is_no_start(http: StandInSidecar, client: Sidecar):
    """Better none than one with the wrong secrets."""
    with pytest.raises(Unavailable):
        await stored_settings(settings(secret_store_name="vault", stores_wait_s=0.0), client)


async def test_stored_values_keep_the_bounds(http: StandInSidecar, client: Sidecar):
    """A limit out of its bounds is refused by name."""
    http.configuration = {"MAX_PENDING_RUNS": "0"}
    with pytest.raises(InvalidInput, match="MAX_PENDING_RUNS"):
        await stored_settings(settings(configuration_store_name="settings"), client)


async def test_production_refuses_a_placeholder_from_the_store(
    http: StandInSidecar, client: Sidecar
):
    """Wherever it comes from."""
    http.secrets["budsim"] = {"APP_API_TOKEN": "change-me"}
    with pytest.raises(InvalidInput, match="APP_API_TOKEN"):
        await stored_settings(settings(Environment.PRODUCTION, secret_store_name="vault"), client)


async def test_stores_need_a_sidecar():
    """Said by name, not ignored."""
    with pytest.raises(InvalidInput, match="SECRET_STORE_NAME"):
        await stored_settings(settings(secret_store_name="vault"), None)
