"""Runs the application on uvicorn, with limits for requests that are not complete yet.

httptools, which parses HTTP for uvicorn, has no limit on headers: one of 100 MB blocks the event
loop for a minute. And neither of them has a limit on how long a request may take to arrive.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import OrderedDict, defaultdict
from http import HTTPStatus
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from budsim.commons.config import LimitSettings, Settings

# Data is given to the parser in slices of this size, so that limits are checked in between.
SLICE_BYTES = 65_536

KEEP_ALIVE_S = 5
# uvicorn waits so much longer for open requests than the application, which answers them.
SHUTDOWN_MARGIN_S = 10
# Requests younger than this are not closed: a hundred callers may well connect at once.
BURST_S = 1.0
# Bytes of framing allowed for each byte of a body: a chunk of one byte takes six.
CHUNK_OVERHEAD = 8


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on headers, on arrival and reading time, and on peers.

    The oldest unfinished request of a peer that has too many is closed, rather than the newest
    refused: a good request behind the same address, such as a sidecar's, still gets through.
    """

    limits: ClassVar[LimitSettings]
    unfinished: ClassVar[defaultdict[str, OrderedDict[LimitedProtocol, float]]]
    """By peer: its unfinished requests, oldest first, and when each began (loop time, s)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count time and bytes."""
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else "unknown"
        self._timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None
        self._overhead_bytes = 0
        self._is_closed = self._has_begun = False
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting."""
        self._is_closed = True
        self._stop_timer()
        self._stop_reading_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the peer as much time to take some of the answer as a request has to arrive.

        Otherwise peers that read nothing would hold answers, and the places of requests, for ever.
        """
        super().pause_writing()
        self._stop_reading_timer()
        self._reading_timer = self.loop.call_later(self.limits.arrival_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop counting: the peer reads."""
        super().resume_writing()
        self._stop_reading_timer()

    def data_received(self, data: bytes) -> None:
        """Parse data as long as the request stays within its limits."""
        for start in range(0, len(data), SLICE_BYTES):
            if self._is_closed or self.transport.is_closing():
                return
            self._has_begun = True
            piece = data[start : start + SLICE_BYTES]
            self._overhead_bytes += len(piece)
            super().data_received(piece)
            if self._overhead_bytes > self.limits.max_header_bytes:
                told = f"the headers are larger than {self.limits.max_header_bytes} bytes"
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)

    def on_message_begin(self) -> None:
        """Begin to count the time of a request on a connection that is kept alive."""
        super().on_message_begin()
        self._expect_request()

    def on_headers_complete(self) -> None:
        """Give the body as much time as the headers had."""
        super().on_headers_complete()
        self._start_timer()

    def on_body(self, body: bytes) -> None:
        """Do not count the body as overhead; the middleware bounds it."""
        super().on_body(body)
        self._overhead_bytes -= min(self._overhead_bytes, CHUNK_OVERHEAD * len(body))

    def on_message_complete(self) -> None:
        """Count no longer: the request has arrived."""
        super().on_message_complete()
        self._stop_timer()
        self._overhead_bytes = 0

    def _expect_request(self) -> None:
        self._start_timer()
        now_s = self.loop.time()
        waiting = self.unfinished[self._peer]
        waiting[self] = now_s
        if len(waiting) > self.limits.max_unfinished_per_peer:
            oldest, since_s = next(iter(waiting.items()))
            if now_s - since_s > BURST_S:
                oldest._refuse(HTTPStatus.REQUEST_TIMEOUT, "too many unfinished requests")

    def _start_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.limits.arrival_s, self._arrived_too_slowly)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        waiting = self.unfinished.get(self._peer)
        if waiting is not None:
            waiting.pop(self, None)
            if not waiting:
                del self.unfinished[self._peer]

    def _stop_reading_timer(self) -> None:
        if self._reading_timer:
            self._reading_timer.cancel()
            self._reading_timer = None

    def _arrived_too_slowly(self) -> None:
        told = f"the request did not arrive within {self.limits.arrival_s:g} s"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, told)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer with the error envelope unless an answer has begun, and close."""
        self._stop_timer()
        self._is_closed = True
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request
        is_open = cycle is not None and not cycle.response_complete
        if is_open:
            cycle.disconnected = True  # the application must not answer as well
            cycle.message_event.set()
        # Whoever sent nothing expects nothing: clients keep connections for later.
        if self._has_begun and not (is_open and cycle.response_started):
            self.transport.write(_envelope(status, message))
        self.transport.close()


def limited_protocol(limits: LimitSettings) -> type[LimitedProtocol]:
    """Return the protocol class for one server, with its limits and its table of peers."""
    members = {"limits": limits, "unfinished": defaultdict(OrderedDict)}
    return type("LimitedProtocol", (LimitedProtocol,), members)


def server_config(app: Any, settings: Settings, host: str, port: int | None) -> uvicorn.Config:
    """Return how uvicorn serves ``app``: on ``port``, else on APP_PORT."""
    return uvicorn.Config(
        app,
        host=host,
        port=settings.app.app_port if port is None else port,
        http=limited_protocol(settings.limits),
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=_graceful_s(settings),
        log_level=settings.app.log_level.lower(),
        # Every probe would be a line; /metrics counts requests by route and status.
        access_log=settings.app.log_level == "DEBUG",
    )


def protect_running_server(settings: Settings) -> None:
    """Give the uvicorn server that runs this process the limits, however it was started.

    `uvicorn budsim.main:app` knows nothing of `server_config`. The server is found through its
    handler of SIGTERM; a server of another kind is left alone.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(server, uvicorn.Server):
        return
    if server.config.http_protocol_class is HttpToolsProtocol:
        server.config.http_protocol_class = limited_protocol(settings.limits)
    if server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = _graceful_s(settings)


def run_server(app: Any, settings: Settings, *, host: str, port: int | None = None) -> None:
    """Serve ``app`` until the process is told to stop."""
    server = uvicorn.Server(server_config(app, settings, host, port))
    server.run()


def _graceful_s(settings: Settings) -> int:
    return int(settings.app.shutdown_s) + SHUTDOWN_MARGIN_S


def _envelope(status: HTTPStatus, message: str) -> bytes:
    kind = "".join(part.capitalize() for part in status.phrase.split()) + "Error"
    body = {"object": "error", "message": message, "type": kind, "param": None, "code": status}
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
