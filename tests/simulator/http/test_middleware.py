"""The middleware: rates, sizes, times, how many requests are answered, and clients that leave."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from budsim.commons.config import AppSettings, LimitSettings, Settings
from budsim.commons.telemetry import new_metrics
from budsim.commons.tracing import NoTracing
from budsim.simulator.http.application_state import ApplicationState
from budsim.simulator.http.middleware import CLIENT_LEFT, AdmissionMiddleware, RateLimiter
from tests.simulator.serving import MakeClient

TOKEN = {"dapr-api-token": "of-our-own"}


def state_with(**limits: Any) -> ApplicationState:
    """Return the state of an application with these limits and nothing behind it."""
    nothing: Any = None
    return ApplicationState(
        settings=Settings(
            app=AppSettings(_env_file=None), limits=LimitSettings(_env_file=None, **limits)
        ),
        database=nothing,
        sidecar=None,
        hub=None,
        simulations=nothing,
        metrics=new_metrics(),
        tracing=NoTracing(),
        synchronous=asyncio.Semaphore(1),
    )


class Caller:
    """Calls the middleware as a server does, message by message."""

    def __init__(self, app: Any, state: ApplicationState, path: str = "/", **headers: str) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("10.0.0.1", 1),
            "app": SimpleNamespace(state=SimpleNamespace(budsim=state)),
        }

        async def send(message: Any) -> None:
            self.sent.append(message)

        self.task = asyncio.create_task(
            AdmissionMiddleware.__call__(app, scope, self._messages.get, send)
        )

    def body(self, content: bytes = b"", *, more: bool = False) -> "Caller":
        """Send a part of the body."""
        self._messages.put_nowait({"type": "http.request", "body": content, "more_body": more})
        return self

    def leave(self) -> "Caller":
        """Close the connection."""
        self._messages.put_nowait({"type": "http.disconnect"})
        return self

    async def status(self) -> int | None:
        """Return the status of the answer; None without one."""
        async with asyncio.timeout(10):
            await self.task
        return self.sent[0]["status"] if self.sent else None


async def answering(_scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of bytes of the body."""
    body = (await receive())["body"]
    headers = [(b"x-bytes", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def test_a_bucket_fills_as_time_passes():
    """Eight a second: sixteen at once, then one every eighth of a second, for each caller."""
    rates = RateLimiter(8)
    assert [rates.admits(b"a", 100.0) for _ in range(17)] == [True] * 16 + [False]
    assert rates.admits(b"b", 100.0)
    assert [rates.admits(b"a", 100.125), rates.admits(b"a", 100.125)] == [True, False]
    assert [rates.admits(b"a", 200.0) for _ in range(17)] == [True] * 16 + [False]


def test_callers_beyond_the_memory_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch):
    """The table of callers stays as small as it is."""
    monkeypatch.setattr("budsim.simulator.http.middleware.CALLERS_REMEMBERED", 2)
    rates = RateLimiter(0.5)
    assert [rates.admits(name, 1.0) for name in (b"a", b"b", b"a", b"c", b"a", b"b")] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_caller_who_comes_too_often_is_429(make_client: MakeClient):
    """With Retry-After and the envelope, whatever it calls itself; health is never refused."""
    client: TestClient = make_client(
        limits=LimitSettings(_env_file=None, worker_processes=0, max_requests_per_s=0.5)
    )

    def ask(app: str) -> httpx.Response:
        return client.get("/", headers={"dapr-caller-app-id": app})

    assert ask("pipeline").status_code == 200
    refused = ask("deployment")
    assert (refused.status_code, refused.json()["type"]) == (429, "TooManyRequestsError")
    assert int(refused.headers["retry-after"]) > 0
    assert {client.get("/health").status_code for _ in range(5)} == {200}


async def test_requests_beyond_those_being_answered_are_503():
    """Refused at once with Retry-After, answered again when one has ended; probes get through."""
    leave = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/health":
            await leave.wait()
        await answering(scope, receive, send)

    state, app = state_with(max_requests_at_a_time=1), AdmissionMiddleware(slow)
    first = Caller(app, state).body()
    await asyncio.sleep(0.01)
    refused = Caller(app, state).body()
    assert await refused.status() == 503
    assert b"retry-after" in dict(refused.sent[0]["headers"])
    assert await Caller(app, state, "/health").body().status() == 200
    leave.set()
    assert await first.status() == 200
    assert await Caller(app, state).body().status() == 200


async def test_bodies_that_do_not_arrive_keep_nobody_out():
    """A hundred unfinished bodies, one request answered at a time: the next one is answered."""
    state, app = state_with(max_requests_at_a_time=1), AdmissionMiddleware(answering)
    slow = [Caller(app, state).body(b"{", more=True) for _ in range(100)]
    await asyncio.sleep(0)
    assert await Caller(app, state).body(b"{}").status() == 200
    for caller in slow:
        caller.leave()
        assert await caller.status() is None


async def test_a_body_that_arrives_too_slowly_is_408():
    """The time is for the whole body: a byte now and then does not prolong it."""
    caller = Caller(AdmissionMiddleware(answering), state_with(arrival_s=0.2))
    while not caller.task.done():
        caller.body(b"x", more=True)
        await asyncio.sleep(0.02)
    assert await caller.status() == 408
    assert dict(caller.sent[0]["headers"])[b"connection"] == b"close"


@pytest.mark.parametrize(
    ("content", "limits", "status"),
    [
        (b"x" * 1001, {"max_body_bytes": 1000}, 413),
        (b"x" * 1000, {"max_body_bytes": 1000}, 200),
        (b"x" * 1001, {"max_buffered_bytes": 1000}, 503),
    ],
)
async def test_a_body_is_bounded_whatever_its_headers_say(
    content: bytes, limits: dict[str, int], status: int
):
    """One body, and all bodies together."""
    state, app = state_with(**limits), AdmissionMiddleware(answering)
    assert await Caller(app, state).body(content).status() == status
    assert app._buffered_bytes == 0


async def cancelled(caller: Caller, seen: list[str]) -> list[str]:
    """Return what happened to the answer of a caller, once its request has ended."""
    await caller.status()
    return seen


def observed(seen: list[str]) -> Callable[..., Any]:
    """Return an application that never answers and notes that it was cancelled."""

    async def endless(_scope: Any, _receive: Any, _send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    return endless


async def test_a_client_that_leaves_cancels_its_request():
    """The work ends at once, no answer is sent, and the figures tell."""
    seen: list[str] = []
    state = state_with()
    caller = Caller(AdmissionMiddleware(observed(seen)), state).body()
    await asyncio.sleep(0.01)
    assert await caller.leave().status() is None
    assert seen == ["cancelled"]
    counted = state.metrics.requests.labels("POST", "unknown", CLIENT_LEFT)
    assert counted._value.get() == 1


async def test_requests_under_way_are_503_when_the_service_ends():
    """With the envelope and Retry-After."""
    seen: list[str] = []
    state = state_with()
    caller = Caller(AdmissionMiddleware(observed(seen)), state).body()
    await asyncio.sleep(0.01)
    state.end_requests()
    assert await caller.status() == 503
    assert b"shutting down" in caller.sent[1]["body"]


async def test_work_that_is_cancelled_from_within_is_an_envelope():
    """Not the server's plain text 500."""

    async def cancels(_scope: Any, _receive: Any, _send: Any) -> None:
        raise asyncio.CancelledError

    caller = Caller(AdmissionMiddleware(cancels), state_with()).body()
    assert await caller.status() == 503
    assert b'"object":"error"' in caller.sent[1]["body"]
