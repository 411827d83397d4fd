"""Settings that the sidecar keeps: secrets in a secret store, limits in a configuration store.

Both stores are optional and are read once, at start.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from budsim.commons.config import SECRETS, TUNABLES, Settings
from budsim.commons.dapr import Sidecar
from budsim.commons.errors import InvalidInput, Unavailable
from budsim.commons.placeholder_secrets import refuse_placeholders

RETRY_S = 0.5
log = structlog.get_logger()


async def stored_settings(settings: Settings, sidecar: Sidecar | None) -> Settings:
    """Return the settings with the values of the sidecar's stores in place of the environment's.

    Raises
    ------
    InvalidInput
        A store is named without a sidecar, a value is out of its bounds, or production would
        run with a placeholder secret.
    Unavailable
        A store did not answer in time. No start is better than one with the wrong secrets.
    """
    dapr = settings.dapr
    if not (dapr.secret_store_name or dapr.configuration_store_name):
        return settings
    if sidecar is None:
        raise InvalidInput(
            "SECRET_STORE_NAME",
            "there is no sidecar to ask",
            "a port in DAPR_HTTP_PORT or DAPR_GRPC_PORT",
        )
    retry = AsyncRetrying(  # the sidecar may still be starting
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_delay(dapr.stores_wait_s),
        wait=wait_fixed(RETRY_S),
        reraise=True,
    )
    found: dict[str, str] = {}
    if store := dapr.configuration_store_name:
        held: Mapping[str, str] = await retry(sidecar.configuration, store, TUNABLES)
        found |= {name: value for name, value in held.items() if name in TUNABLES}
    if secrets := dapr.secret_store_name:
        held = await retry(sidecar.secret, secrets, dapr.secret_name)
        found |= {name: value for name, value in held.items() if name in SECRETS}
    log.info("settings read from the sidecar", names=sorted(found))
    chosen = settings.overridden(found)
    refuse_placeholders(chosen)
    return chosen
