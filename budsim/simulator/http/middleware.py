"""What every request passes before anything is parsed: token, rate, concurrency and size limits, trace ids, counting."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi.responses import Response

from budsim.commons.config import Settings
from budsim.commons.telemetry import Metrics
from budsim.commons.tracing import trace_id
from budsim.simulator.http.error_envelopes import BodyTooLarge, error_response

OPEN_PATHS = frozenset({"/health", "/healthz", "/ready", "/metrics"})
TOKEN_HEADER = b"dapr-api-token"
CALLER_HEADER = b"dapr-caller-app-id"
CALLERS_REMEMBERED = 10_000

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """Refuses what must not come in, bounds bodies, binds trace ids and counts requests, before anything is parsed."""

    def __init__(self, app: Asgi, state: Any) -> None:
        self._app, self._state = app, state
        self._rates: Rates | None = None
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        structlog.contextvars.clear_contextvars()
        traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        if found := trace_id(traceparent):
            structlog.contextvars.bind_contextvars(trace_id=found)
        bounded = _Bounded(receive, self._state.settings.limits.max_body_bytes)
        counts = scope["path"] not in OPEN_PATHS
        refusal = self._refusal(scope, headers) if counts else None
        self._inside += counts
        try:
            await self._traced(refusal or self._app, scope, bounded, send, traceparent)
        finally:
            self._inside -= counts

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        settings: Settings = self._state.settings
        token, limits = settings.app.app_api_token, settings.limits
        if token and not hmac.compare_digest(
            headers.get(TOKEN_HEADER, b""), token.get_secret_value().encode()
        ):
            return error_response(
                HTTPStatus.UNAUTHORIZED,
                "the header dapr-api-token is missing or wrong",
                "dapr-api-token",
            )
        if not _fits(headers.get(b"content-length", b"0"), limits.max_body_bytes):
            told = f"the body is larger than {limits.max_body_bytes} bytes"
            return error_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told, "body")
        if self._inside >= limits.max_requests_at_a_time:
            return error_response(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._inside} requests are being answered already",
            )
        if limits.max_requests_per_s and not self._may_come(
            _caller(scope, headers), limits.max_requests_per_s
        ):
            told = f"more than {limits.max_requests_per_s:g} requests per second from one caller"
            return error_response(HTTPStatus.TOO_MANY_REQUESTS, told)
        return None

    def _may_come(self, caller: bytes, per_s: float) -> bool:
        if self._rates is None:
            self._rates = Rates(per_s)
        return self._rates.admits(caller, time.monotonic())

    async def _traced(
        self, app: Asgi, scope: Scope, receive: Receive, send: Send, traceparent: str
    ) -> None:
        if scope["path"] in OPEN_PATHS:
            await self._measured(app, scope, receive, send)
            return
        name = f"{scope['method']} {scope['path']}"
        with self._state.tracing.span(name, traceparent) as inside:
            scope["state"] = {**scope.get("state", {}), "traceparent": inside}
            await self._measured(app, scope, receive, send)

    async def _measured(self, app: Asgi, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        seen = {"status": 500}

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            await send(message)

        try:
            await app(scope, receive, noted)
        finally:
            metrics: Metrics = self._state.metrics
            route = getattr(scope.get("route"), "path", "unknown")
            metrics.requests.labels(scope["method"], route, seen["status"]).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - started_s)


class Rates:
    """A token bucket for each caller: ``per_s`` requests a second, and twice as many at once after a pause.

    In this process only: a count over all replicas would put one more round trip into every request, and what replicas together
    admit may grow with them, as what they can carry does.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s, self._room = per_s, 2.0 * per_s
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def admits(self, caller: bytes, now_s: float) -> bool:
        """Take a token of ``caller``'s, if there is one."""
        left, seen_s = self._buckets.pop(caller, (self._room, now_s))
        left = min(self._room, left + (now_s - seen_s) * self._per_s)
        self._buckets[caller] = (left - 1 if left >= 1 else left, now_s)
        if len(self._buckets) > CALLERS_REMEMBERED:
            self._buckets.popitem(last=False)
        return left >= 1


class _Bounded:
    """Receives a body and stops when it grows beyond a limit, whatever its headers said."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._left = receive, limit, limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise BodyTooLarge(self._limit)
        return message


def _fits(length: bytes, limit: int) -> bool:
    return length.isdigit() and len(length) < 16 and int(length) <= limit


def _caller(scope: Scope, headers: dict[bytes, bytes]) -> bytes:
    """Return the app the sidecar says is calling; without one, the address the connection comes from."""
    client = scope.get("client") or ("unknown", 0)
    return headers.get(CALLER_HEADER) or str(client[0]).encode()
