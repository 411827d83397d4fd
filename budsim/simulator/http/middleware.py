"""The middleware every request passes first: token, rate, size, time and number of requests.

A request counts as one of those being answered only when its body has arrived. Peers that send
slowly, or never finish, keep nobody else out.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import structlog
from fastapi.responses import Response

from budsim.commons.config import LimitSettings
from budsim.commons.telemetry import Metrics
from budsim.commons.tracing import trace_id
from budsim.simulator.http.application_state import ApplicationState, application_state_of
from budsim.simulator.http.error_envelopes import error_response

# Paths that need no token and are never refused: probes and Prometheus ask for them.
OPEN_PATHS = frozenset({"/health", "/healthz", "/ready", "/metrics"})

TOKEN_HEADER = b"dapr-api-token"
CALLERS_REMEMBERED = 10_000
# Counted for requests whose client went away; nginx's status for the same.
CLIENT_LEFT = 499

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientLeft(Exception):
    """The client closed the connection before its request had arrived."""


class AdmissionMiddleware:
    """Refuses requests beyond the limits, and ends those whose client has left.

    Parameters
    ----------
    app : ASGI application
        Answers the requests that are admitted.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._rates: RateLimiter | None = None
        self._answering = 0
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = application_state_of(scope["app"])
        headers = dict(scope["headers"])
        # uvicorn answers the requests of one connection in one context: forget the last one's ids.
        structlog.contextvars.clear_contextvars()
        traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        if found := trace_id(traceparent):
            structlog.contextvars.bind_contextvars(trace_id=found)
        send = _Measured(scope, send, state.metrics)
        try:
            if scope["path"] in OPEN_PATHS:
                await self._app(scope, receive, send)
            else:
                await self._answer(state, headers, traceparent, (scope, receive, send))
        finally:
            send.count()

    async def _answer(
        self,
        state: ApplicationState,
        headers: dict[bytes, bytes],
        traceparent: str,
        call: tuple[Scope, Receive, _Measured],
    ) -> None:
        scope, receive, send = call
        name = f"{scope['method']} {scope['path']}"
        with state.tracing.span(name, traceparent) as inside:
            scope["state"] = {**scope.get("state", {}), "traceparent": inside}
            if refusal := self._refusal(state, scope, headers):
                await refusal(scope, receive, send)
                return
            body = bytearray()
            try:
                # The body first: a request that never arrives must not take a place.
                refusal = await self._receive(receive, body, state.settings.limits)
                if refusal := refusal or self._busy(state.settings.limits):
                    await refusal(scope, receive, send)
                    return
                self._answering += 1
                try:
                    await self._attended(state, bytes(body), call)
                finally:
                    self._answering -= 1
            except ClientLeft:
                send.status = CLIENT_LEFT
            finally:
                self._buffered_bytes -= len(body)

    def _refusal(
        self, state: ApplicationState, scope: Scope, headers: dict[bytes, bytes]
    ) -> Response | None:
        """Return the refusal of a request that the headers alone forbid."""
        limits = state.settings.limits
        token = state.settings.app.app_api_token
        sent = headers.get(TOKEN_HEADER, b"")
        # Compared in constant time: how long it takes must not tell how much is right.
        if token and not hmac.compare_digest(sent, token.get_secret_value().encode()):
            told = "the header dapr-api-token is missing or wrong"
            return error_response(HTTPStatus.UNAUTHORIZED, told, "dapr-api-token")
        if not _fits(headers.get(b"content-length", b"0"), limits.max_body_bytes):
            return _too_large(limits)
        if limits.max_requests_per_s and not self._may_come(_caller(scope, sent), limits):
            told = f"more than {limits.max_requests_per_s:g} requests per second from one caller"
            return error_response(HTTPStatus.TOO_MANY_REQUESTS, told)
        return None

    def _may_come(self, caller: bytes, limits: LimitSettings) -> bool:
        if self._rates is None:
            self._rates = RateLimiter(limits.max_requests_per_s)
        return self._rates.admits(caller, time.monotonic())

    async def _receive(
        self, receive: Receive, body: bytearray, limits: LimitSettings
    ) -> Response | None:
        """Read the whole body into ``body``; return the refusal of one too large or too slow."""
        try:
            async with asyncio.timeout(limits.arrival_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > limits.max_body_bytes:
                        return _too_large(limits)
                    # Bodies are held in memory until they are complete, so their sum is bounded.
                    if self._buffered_bytes + len(chunk) > limits.max_buffered_bytes:
                        return error_response(
                            HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are arriving"
                        )
                    body += chunk
                    self._buffered_bytes += len(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            told = f"the body did not arrive within {limits.arrival_s:g} s"
            return error_response(HTTPStatus.REQUEST_TIMEOUT, told, "body", {"connection": "close"})
        return None

    def _busy(self, limits: LimitSettings) -> Response | None:
        if self._answering < limits.max_requests_at_a_time:
            return None
        told = f"{self._answering} requests are being answered already"
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, told)

    async def _attended(
        self, state: ApplicationState, body: bytes, call: tuple[Scope, Receive, _Measured]
    ) -> None:
        """Answer a request in a task of its own, which is cancelled when nobody waits for it."""
        scope, receive, send = call
        left = asyncio.Event()
        answering = asyncio.create_task(_run(self._app, scope, _replayed(body, left), send))
        watching = asyncio.create_task(_wait_until_left(receive, left))
        state.requests.add(answering)
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            # Servers report a client as gone after a complete answer as well.
            if not send.has_ended:
                answering.cancel()
            await asyncio.wait({answering})
        finally:
            state.requests.discard(answering)
            watching.cancel()
            answering.cancel()
        if not answering.cancelled():
            answering.result()
        elif left.is_set():
            send.status = CLIENT_LEFT
        elif not send.has_started:
            told = "shutting down" if state.ending else "the request was cancelled"
            await error_response(HTTPStatus.SERVICE_UNAVAILABLE, told)(scope, receive, send)


class RateLimiter:
    """A token bucket for each caller: ``per_s`` a second, and twice as many after a pause.

    It counts in this process only. A count over all replicas would add a round trip to every
    request, and replicas together may admit as much more as they can carry.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s, self._size = per_s, 2.0 * per_s
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def admits(self, caller: bytes, now_s: float) -> bool:
        """Take a token from the bucket of ``caller``; return whether there was one."""
        # Taken out and put back last: the first in the table was not seen for longest.
        left, seen_s = self._buckets.pop(caller, (self._size, now_s))
        left = min(self._size, left + (now_s - seen_s) * self._per_s)
        self._buckets[caller] = (left - 1 if left >= 1 else left, now_s)
        if len(self._buckets) > CALLERS_REMEMBERED:
            self._buckets.popitem(last=False)
        return left >= 1


class _Measured:
    """Sends an answer, notes its status, and counts the request at its end."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self._scope, self._send, self._metrics = scope, send, metrics
        self._started_s = time.perf_counter()
        self.status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        self.has_started = self.has_ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.has_started = message["status"], True
        else:
            self.has_ended = not message.get("more_body", False)
        await self._send(message)

    def count(self) -> None:
        """Add the request to the figures."""
        route = getattr(self._scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(self._scope["method"], route, self.status).inc()
        took_s = time.perf_counter() - self._started_s
        self._metrics.request_seconds.labels(route).observe(took_s)


async def _run(app: Asgi, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _wait_until_left(receive: Receive, left: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    left.set()


def _replayed(body: bytes, left: asyncio.Event) -> Receive:
    """Return a receiver that gives the body that has arrived, and then waits for the client."""
    bodies = [body]

    async def receive() -> Message:
        """Give the stored body once; after that report only that the client has left."""
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    return receive


def _fits(length: bytes, limit: int) -> bool:
    # Python takes long to read a number of a million digits.
    return length.isdigit() and len(length) < 16 and int(length) <= limit


def _too_large(limits: LimitSettings) -> Response:
    told = f"the body is larger than {limits.max_body_bytes} bytes"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return error_response(status, told, "body", {"connection": "close"})


def _caller(scope: Scope, token: bytes) -> bytes:
    """Return what a caller is counted under: its address and its token.

    Headers that anybody may set, such as the app id a sidecar adds, would let a caller change its
    name with every request.
    """
    client = scope.get("client") or ("unknown", 0)
    return sha256(token).digest() + str(client[0]).encode()
