"""Settings the sidecar keeps: secrets from a secret store, tunables from a configuration store; both optional, read at start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from budsim.commons.config import SECRETS, TUNABLES, Settings, refuse_placeholders
from budsim.commons.dapr import Sidecar
from budsim.commons.errors import InvalidInput, Unavailable

AGAIN_S = 0.5
Read = TypeVar("Read")
log = structlog.get_logger()


async def stored_settings(settings: Settings, sidecar: Sidecar | None) -> Settings:
    """Return the settings with what the sidecar's stores hold in place of what the environment says.

    Raises
    ------
    InvalidInput
        A store is named without a sidecar, a value is out of its bounds, or production would run with a placeholder secret.
    Unavailable
        A store did not answer in time: better no start than one with the wrong secrets.
    """
    dapr = settings.dapr
    if not (dapr.secret_store_name or dapr.configuration_store_name):
        return settings
    if sidecar is None:
        raise InvalidInput("SECRET_STORE_NAME", "there is no sidecar to ask", "a port in DAPR_HTTP_PORT or DAPR_GRPC_PORT")
    found: dict[str, str] = {}
    if store := dapr.configuration_store_name:
        held = await _insistently(lambda: sidecar.configuration(store, TUNABLES), dapr.stores_wait_s)
        found |= {name: value for name, value in held.items() if name in TUNABLES}
    if secrets := dapr.secret_store_name:
        held = await _insistently(lambda: sidecar.secret(secrets, dapr.secret_name), dapr.stores_wait_s)
        found |= {name: value for name, value in held.items() if name in SECRETS}
    log.info("settings read from the sidecar", names=sorted(found))
    chosen = settings.overridden(found)
    refuse_placeholders(chosen)
    return chosen


async def _insistently(read: Callable[[], Awaitable[Read]], longest_s: float) -> Read:
    """Return what is read, asking again while the sidecar starts."""
    ends_s = time.monotonic() + longest_s
    while True:
        try:
            return await read()
        except Unavailable:
            if time.monotonic() > ends_s:
                raise
            await asyncio.sleep(AGAIN_S)
