"""Tells why the application does not start in one line instead of a traceback."""

from __future__ import annotations

import sys
from typing import Any

from budsim.commons.errors import BudsimError
from budsim.simulator.http.middleware import Asgi, Message, Receive, Scope, Send


class OneLineStartupErrors:
    """Replaces the traceback that Starlette gives the server for an error of ours at startup."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through but the report of a failed start."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def shortened(message: Message) -> None:
            """Send the message with one plain sentence in place of the traceback of our errors."""
            error: Any = sys.exc_info()[1]  # Starlette reports from its `except` block
            if message["type"] == "lifespan.startup.failed" and isinstance(error, BudsimError):
                message = {**message, "message": f"budsim does not start: {error}"}
            await send(message)

        await self._app(scope, receive, shortened)
