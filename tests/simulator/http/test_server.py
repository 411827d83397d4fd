"""The server's limits before any token: headers, arrival time, unfinished requests of one peer."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from budsim.commons.config import AppSettings, LimitSettings, Settings
from budsim.simulator.http.server import server_config

REQUEST = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with the length of its body, once it has arrived."""
    if scope["type"] != "http":
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    body = json.dumps(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(app: Any = application, **limits: Any) -> AsyncIterator[int]:
    """Serve the application with these limits; yields the port."""
    settings = Settings(
        app=AppSettings(_env_file=None, log_level="ERROR"),
        limits=LimitSettings(_env_file=None, **limits),
    )
    config = server_config(app, settings, "127.0.0.1", 0)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.force_exit = True
        await server.shutdown()


async def answer(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send the parts of a request, and return everything the server sends until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
    found = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            found = await reader.read()
    writer.close()
    return found


def status_of(found: bytes) -> int:
    """Return the status of an answer."""
    return int(found.split(b" ", 2)[1]) if found else 0


@pytest.mark.parametrize(
    "sent",
    [
        [b"GET / HTTP/1.1\r\nx: ", *[b"y" * 65_536] * 160],
        [b"GET / HTTP/1.1\r\n", *[b"x: y\r\n" * 10_000] * 160],
        [b"GET /", *[b"y" * 65_536] * 160],
        [b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;", *[b"y" * 65_536] * 160],
        [
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
            *[b"x: y\r\n" * 10_000] * 160,
        ],
    ],
    ids=["one header", "many headers", "the path", "a chunk's extension", "trailers"],
)
async def test_headers_are_bounded(sent: list[bytes]):
    """10 MB of anything but a body are refused after 64 KiB, in a tenth of a second of CPU."""
    async with serving() as port:
        started_s = time.process_time()
        found = await answer(port, *sent)
        assert status_of(found) in {0, 400, 431}  # 0: reset while we still sent
        assert time.process_time() - started_s < 1.0
        assert status_of(await answer(port, REQUEST[:-2] + b"connection: close\r\n\r\n")) == 200


async def test_a_refusal_is_an_envelope():
    """With a status callers can tell."""
    async with serving(max_header_bytes=2000) as port:
        found = await answer(port, b"GET / HTTP/1.1\r\nx: " + b"y" * 3000)
    assert status_of(found) == 431
    body = json.loads(found.partition(b"\r\n\r\n")[2])
    assert (body["object"], body["code"]) == ("error", 431)
    assert body["type"] == "RequestHeaderFieldsTooLargeError"


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"GET / HT"],
        [b"GET /", *[b"x"] * 40],
        [b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"],
    ],
    ids=["nothing", "half a line", "a byte now and then", "half a body"],
)
async def test_a_request_that_does_not_arrive_is_ended(parts: list[bytes]):
    """Closed within its time, whatever is missing, and with 408 if it had begun."""
    async with serving(arrival_s=0.3) as port:
        started_s = time.monotonic()
        found = await answer(port, *parts, pause_s=0.02)
        assert status_of(found) in ({0, 408} if parts else {0})  # 0: reset while we still sent
        assert time.monotonic() - started_s < 5.0


@pytest.mark.parametrize(("reads_all", "sent"), [(False, False), (True, True)])
async def test_an_answer_that_nobody_takes_is_ended(reads_all: bool, sent: bool):
    """64 MB for a peer that reads nothing: its connection is closed, and its place is free."""
    done = asyncio.Event()

    async def generous(_scope: Any, _receive: Any, send: Any) -> None:
        """Send an answer piece by piece, as large files are sent."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with contextlib.suppress(OSError):
            for _ in range(64):
                await send(
                    {"type": "http.response.body", "body": bytes(1_000_000), "more_body": True}
                )
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        done.set()

    async with serving(generous, arrival_s=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST[:-2] + b"connection: close\r\n\r\n")
        read = await reader.read() if reads_all else b""
        async with asyncio.timeout(5):
            await done.wait()
        assert (len(read) > 64_000_000) is sent
        writer.close()


@pytest.mark.parametrize("size", [1, 7, 65_536])
async def test_a_body_is_not_taken_for_headers(size: int):
    """300 kB arrive whole, in chunks of one byte too."""
    chunk = b"%x\r\n%s\r\n" % (size, b"x" * size)
    count = 300_000 // size if size > 1 else 30_000
    async with serving() as port:
        found = await answer(
            port,
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            chunk * count,
            b"0\r\n\r\n",
        )
    assert (status_of(found), found.rpartition(b"\r\n")[2]) == (200, str(size * count).encode())


async def test_a_connection_that_is_kept_alive_is_not_counted_as_unfinished():
    """Requests one after another on it take longer together than one may."""
    async with serving(arrival_s=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(4):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readexactly(1)
            await asyncio.sleep(0.15)
        writer.close()


async def test_the_oldest_unfinished_request_of_a_peer_makes_room(monkeypatch: pytest.MonkeyPatch):
    """Three may be unfinished: of five the first two are closed, and a whole one is answered."""
    monkeypatch.setattr("budsim.simulator.http.server.BURST_S", 0.0)
    async with serving(max_unfinished_per_peer=3) as port:
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert status_of(await answer(port, REQUEST[:-2] + b"connection: close\r\n\r\n")) == 200
        readers: list[Any] = [reader for reader, _ in slow]
        closed = [reader.at_eof() or bool(reader._buffer) for reader in readers]
        assert closed[:2] == [True, True]
        assert not closed[-1]
        for _, writer in slow:
            writer.close()
