"""An application that does not start tells why in one line."""

from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from budsim.commons.errors import InvalidInput
from budsim.simulator.http.startup_errors import OneLineStartupErrors


async def started(error: Exception) -> str:
    """Return what the server is told of an application whose lifespan raises ``error``."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        raise error
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(OneLineStartupErrors)
    told: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        assert message["type"] == "lifespan.startup.failed"
        told.append(message["message"])

    with pytest.raises(type(error)):
        await app({"type": "lifespan", "app": app, "state": {}}, receive, send)
    return told[0]


async def test_an_error_of_ours_is_one_line():
    """The message of the error, which names the setting."""
    told = await started(InvalidInput("LEASE_S", "is not a number", "a number"))
    assert told == "budsim does not start: LEASE_S: is not a number; expected a number"


async def test_a_bug_keeps_its_traceback():
    """Nobody could find it otherwise."""
    assert "Traceback" in await started(KeyError("x"))
