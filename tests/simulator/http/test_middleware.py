"""What every request passes before anything is parsed: rates and how many are inside at a time."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from budsim.commons.config import AppSettings, LimitSettings, Settings
from budsim.commons.telemetry import new_metrics
from budsim.commons.tracing import PassedOn
from budsim.simulator.http.middleware import Guard, Rates
from tests.simulator.serving import MakeClient


def test_a_bucket_fills_as_time_passes():
    """Eight a second: sixteen at once, then one every eighth of a second; another caller has a bucket of its own."""
    rates = Rates(8)
    assert [rates.admits(b"a", 100.0) for _ in range(17)] == [True] * 16 + [False]
    assert rates.admits(b"b", 100.0)
    assert [rates.admits(b"a", 100.125), rates.admits(b"a", 100.125)] == [True, False]
    assert [rates.admits(b"a", 200.0) for _ in range(17)] == [True] * 16 + [False]


def test_callers_beyond_the_memory_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch):
    """A caller who changes his name does not fill the memory."""
    monkeypatch.setattr("budsim.simulator.http.middleware.CALLERS_REMEMBERED", 2)
    rates = Rates(0.5)
    assert [rates.admits(name, 1.0) for name in (b"a", b"b", b"a", b"c", b"a", b"b")] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_caller_who_comes_too_often_is_429(make_client: MakeClient):
    """With Retry-After and the envelope; another app behind the same sidecar is served, and health is never refused."""
    client: TestClient = make_client(
        limits=LimitSettings(_env_file=None, worker_processes=0, max_requests_per_s=0.5)
    )

    def ask(app: str) -> httpx.Response:
        return client.get("/", headers={"dapr-caller-app-id": app})

    assert ask("pipeline").status_code == 200
    refused = ask("pipeline")
    assert (refused.status_code, refused.json()["type"]) == (429, "TooManyRequestsError")
    assert int(refused.headers["retry-after"]) > 0
    assert ask("deployment").status_code == 200
    assert {client.get("/health").status_code for _ in range(5)} == {200}


async def test_requests_beyond_those_inside_are_503():
    """Refused at once with Retry-After, served again when one has left; the probe gets through meanwhile."""
    leave = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/health":
            await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    limits = LimitSettings(_env_file=None, max_requests_at_a_time=1)
    settings = Settings(app=AppSettings(_env_file=None), limits=limits)
    guard = Guard(
        slow, SimpleNamespace(settings=settings, metrics=new_metrics(), tracing=PassedOn())
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=guard), base_url="http://budsim"
    ) as client:
        first = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0)
        refused = await client.get("/")
        assert (refused.status_code, refused.json()["type"]) == (503, "ServiceUnavailableError")
        assert int(refused.headers["retry-after"]) > 0
        assert (await client.get("/health")).status_code == 200
        leave.set()
        assert (await first).status_code == 200
        assert (await client.get("/")).status_code == 200
