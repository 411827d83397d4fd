"""Parts of a soak in which callers and peers misbehave: every other caller must not notice."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import redis

from tests.soak.findings import Finding, at_most, in_background, none, told_only, warm
from tests.soak.ledger import read, settle
from tests.soak.stack import INVENTORY_KEY, inventory, running
from tests.soak.traffic import Answers, calling, insistently, probe, question, steadily

PAUSED_RUNS = 50
PAUSES_EACH = 20
PAUSED_GROWTH = 1.10
INNOCENT = 120
POISONED = 10
SLOW_PEERS = 500
SLOW_S = 20.0
HEALTH_P99_MS = 50.0
RUN_P99_MS = 300.0
INVENTORY_RUNS = 200
INVENTORY_S = 60.0
LEAVERS = 40
NEXT_ANSWER_S = 10.0
START_CPU_S = 5.0
OVER_TERMINAL = 1.3
END_S = 60.0


def pauses(scale: float, *, real_dapr: bool = False) -> Iterator[Finding]:
    """Pause and resume every run again and again: memory stays flat, and all runs end."""
    runs, each = max(4, int(PAUSED_RUNS * scale)), max(5, int(PAUSES_EACH * scale))
    answers, refused = Answers(), 0
    with running(1, real_dapr=real_dapr, WORKER_PROCESSES="1", LEASE_S="5") as stack:
        replica = stack.replicas[0]
        warm(stack)
        before = replica.resident_bytes()

        async def storm() -> int:
            failed = 0
            await insistently(
                lambda: [replica.url], range(runs), 200.0, answers, method="heuristic"
            )
            async with calling() as session:
                for workflow_id in list(answers.accepted) * each:
                    for change in ("pause", "resume"):
                        url = f"{replica.url}/workflow/{workflow_id}/{change}"
                        async with session.post(url) as answer:
                            failed += answer.status not in {200, 409}
            return failed

        refused = asyncio.run(storm())
        settle(stack.database_url)
        after = replica.resident_bytes()
        ledger = read(stack.database_url, stack.redis_url)
    told = f"{runs * each} pairs on {runs} runs"
    yield none(f"{told}: answers other than 200 and 409", refused)
    yield none("runs that did not complete", ledger.lost(answers.accepted))
    growth = after / before
    yield Finding(
        what="memory afterwards",
        found=f"{after / 1e6:.0f} MB, {growth:.3f} of before",
        wanted=f"<= {PAUSED_GROWTH}",
        good=growth <= PAUSED_GROWTH,
    )


def poison(scale: float) -> Iterator[Finding]:
    """Messages no database can store among innocent ones, in the same moments."""
    innocent, poisoned = max(12, int(INNOCENT * scale)), max(2, int(POISONED * scale))
    answers, found = Answers(), []
    with running(1, WORKER_PROCESSES="1") as stack:
        url = stack.replicas[0].url
        warm(stack)

        async def send(session: aiohttp.ClientSession, number: int) -> None:
            data = json.dumps(question(number) | {"model_uri": "\ud800"})
            event = {"id": str(number), "topic": "t", "pubsubname": "p", "data": data}
            headers = {"content-type": "application/cloudevents+json"}
            async with session.post(
                url + "/notifications", data=json.dumps(event), headers=headers
            ) as answer:
                found.append((await answer.json()).get("status"))

        async def ask() -> None:
            async with calling() as session, asyncio.TaskGroup() as group:
                group.create_task(
                    steadily(lambda: [url], range(innocent), 1000.0, answers, method="heuristic")
                )
                for number in range(poisoned):
                    group.create_task(send(session, number))

        asyncio.run(ask())
        settle(stack.database_url)
        ledger = read(stack.database_url, stack.redis_url)
    yield Finding(
        what=f"innocent callers beside {poisoned} poisoned messages",
        found=f"{answers.count(200)} x 200",
        wanted=f"{innocent} x 200",
        good=answers.count(200) == innocent,
    )
    yield none("poisoned messages that were not dropped", poisoned - found.count("DROP"))
    yield none("innocent runs that did not complete", ledger.lost(answers.accepted))


def peers(scale: float) -> Iterator[Finding]:
    """Peers that send huge headers, nothing, or half a body, while others ask."""
    count, lasts_s = max(20, int(SLOW_PEERS * scale)), max(5.0, SLOW_S * scale)
    answers, health = Answers(), Answers()
    with running(1, WORKER_PROCESSES="1") as stack:
        url = stack.replicas[0].url
        port = int(url.rpartition(":")[2])
        warm(stack)

        async def ask() -> None:
            stopped = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(_slow_peer(port, number, stopped))
                await asyncio.sleep(1.0)
                checking = asyncio.create_task(probe(url + "/health", health, 0.05))
                await steadily(
                    lambda: [url], range(int(10 * lasts_s)), 10.0, answers, method="heuristic"
                )
                checking.cancel()
                stopped.set()

        before_s, started_s = stack.replicas[0].cpu_s(), time.monotonic()
        asyncio.run(ask())
        cpu_s, took_s = stack.replicas[0].cpu_s() - before_s, time.monotonic() - started_s
    told = f"{count} slow peers"
    yield told_only(f"CPU of the service beside {told}", f"{cpu_s:.1f} s of {took_s:.1f} s")
    yield at_most(f"/health p99, {told}", health.latency_ms(0.99), HEALTH_P99_MS, _p50(health))
    yield at_most(
        f"/simulator/run p99, {told}", answers.latency_ms(0.99), RUN_P99_MS, _p50(answers)
    )
    yield none("health answers other than 200", sum(health.statuses.values()) - health.count(200))
    told = ", ".join(f"{status}: {count}" for status, count in sorted(answers.statuses.items()))
    refused = sum(answers.statuses.values()) - answers.count(200)
    yield none(f"runs refused or unanswered ({told})", refused)


def inventories(scale: float) -> Iterator[Finding]:
    """Replace, delete, empty and restore the inventory every second during runs."""
    runs, lasts_s = max(10, int(INVENTORY_RUNS * scale)), max(8.0, INVENTORY_S * scale)
    answers = Answers()
    with running(1, WORKER_PROCESSES="2", LEASE_S="5") as stack:
        url = stack.replicas[0].url
        broker = redis.Redis.from_url(stack.redis_url)
        warm(stack)

        async def disturb(stopped: asyncio.Event) -> None:
            turn = 0
            while not stopped.is_set():
                _disturb(broker, turn)
                turn += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), 1.0)
            _disturb(broker, 0)

        with in_background(disturb):
            asyncio.run(
                insistently(lambda: [url], range(runs), runs / lasts_s, answers, method="heuristic")
            )
        settle(stack.database_url)
        ledger = read(stack.database_url, stack.redis_url)
    yield none(f"of {runs} runs did not complete", ledger.lost(answers.accepted))
    yield none("requests with two workflows", ledger.twice)


def leavers(scale: float) -> Iterator[Finding]:
    """Callers of debug runs that go away: their work ends with them."""
    count = max(4, int(LEAVERS * scale))
    with running(1, WORKER_PROCESSES="2", MAX_SYNCHRONOUS_RUNS="100") as stack:
        url = stack.replicas[0].url
        warm(stack)

        async def leave_and_ask() -> tuple[float, int, float]:
            async with calling() as session:
                alone_s, _ = await _debug(session, url, 5000)
                calls = [
                    asyncio.create_task(_debug(session, url, 6000 + number))
                    for number in range(count)
                ]
                await asyncio.sleep(1.0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                next_s, status = await _debug(session, url, 7000)
                return next_s, status, alone_s

        next_s, status, alone_s = asyncio.run(leave_and_ask())
    yield Finding(
        what=f"next answer after {count} callers left",
        found=f"{next_s:.1f} s ({status}); alone {alone_s:.1f} s",
        wanted=f"<= {NEXT_ANSWER_S:g} s, or thrice alone",
        good=status == 200 and next_s <= max(NEXT_ANSWER_S, 3 * alone_s),
    )


def endings(scale: float) -> Iterator[Finding]:
    """End the service beside unfinished bodies and debug runs: bounded, and without a 500."""
    count = max(4, int(64 * scale))
    with running(1, WORKER_PROCESSES="2") as stack:
        replica = stack.replicas[0]
        port = int(replica.url.rpartition(":")[2])
        warm(stack)

        async def end() -> tuple[float, list[int]]:
            stopped = asyncio.Event()
            async with calling() as session, asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(_slow_peer(port, 2 + 3 * number, stopped))
                calls = [
                    group.create_task(_debug(session, replica.url, 8000 + number))
                    for number in range(16)
                ]
                await asyncio.sleep(1.0)
                started_s = time.monotonic()
                await asyncio.to_thread(replica.process.end, signal.SIGTERM, END_S + 30)
                took_s = time.monotonic() - started_s
                stopped.set()
                statuses = [(await call)[1] for call in calls]
            return took_s, statuses

        took_s, statuses = asyncio.run(end())
    yield Finding(
        what="from SIGTERM to the end",
        found=f"{took_s:.0f} s",
        wanted=f"< {END_S:g} s",
        good=took_s < END_S,
    )
    bad = [status for status in statuses if status not in {200, 503}]
    yield none(f"answers other than 200 and 503 of {len(statuses)}", len(bad))


def starts(_scale: float) -> Iterator[Finding]:
    """Measure CPU to the first answer, and of an answer through HTTP and in the terminal."""
    with running(1, WORKER_PROCESSES="1") as stack:
        replica = stack.replicas[0]
        ready_s = replica.cpu_s()
        asyncio.run(_answer(replica.url, 9000))
        first_s = replica.cpu_s()
        asyncio.run(_answer(replica.url, 9001))
        http_s = replica.cpu_s() - first_s
        terminal_s = _terminal_cpu_s(stack.folder)
    yield Finding(
        what="CPU until the first answer",
        found=f"{first_s:.1f} s (ready after {ready_s:.1f} s)",
        wanted=f"<= {START_CPU_S:g} s",
        good=first_s <= START_CPU_S,
    )
    yield Finding(
        what="CPU of an answer through HTTP, of the terminal's",
        found=f"{http_s:.2f} s, {terminal_s:.2f} s",
        wanted=f"<= {OVER_TERMINAL:g} x",
        good=http_s <= OVER_TERMINAL * terminal_s,
    )


async def _slow_peer(port: int, number: int, stopped: asyncio.Event) -> None:
    """Connect again and again, and never finish a request."""
    while not stopped.is_set():
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(20):
                await _half_a_request(port, number, stopped)
        await asyncio.sleep(random.uniform(0.1, 0.5))


async def _half_a_request(port: int, number: int, stopped: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if number % 50 == 0:  # a header of 1 MB
            writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * 1_000_000)
        elif number % 3 == 0:  # nothing
            pass
        elif number % 3 == 1:  # half a line
            writer.write(b"POST /simulator/run HTT")
        else:  # half a body
            writer.write(b"POST /simulator/run HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n{")
        await writer.drain()
        closing = asyncio.create_task(reader.read(1))
        ending = asyncio.create_task(stopped.wait())
        await asyncio.wait({closing, ending}, return_when=asyncio.FIRST_COMPLETED)
        for task in (closing, ending):
            task.cancel()
    finally:
        writer.close()


def _disturb(broker: "redis.Redis", turn: int) -> None:
    """Replace, delete, empty or restore the inventory, with versions that repeat."""
    whole = json.dumps(inventory())
    if turn % 4 == 1:
        broker.delete(INVENTORY_KEY)
    else:
        data = (whole, "", "[]", whole)[turn % 4]
        broker.hset(INVENTORY_KEY, mapping={"data": data, "version": 1 + turn % 4})


async def _debug(session: aiohttp.ClientSession, url: str, number: int) -> tuple[float, int]:
    """Return how long an answer took, s, and its status; 0 without one."""
    started_s = time.monotonic()
    asked = question(number) | {"debug": True}
    try:
        limit = aiohttp.ClientTimeout(total=600)
        async with session.post(url + "/simulator/run", json=asked, timeout=limit) as answer:
            await answer.read()
            return time.monotonic() - started_s, answer.status
    except (aiohttp.ClientError, OSError):
        return time.monotonic() - started_s, 503  # the connection ended with the service


async def _answer(url: str, number: int) -> None:
    async with calling() as session:
        _, status = await _debug(session, url, number)
        assert status == 200


def _terminal_cpu_s(folder: Path) -> float:
    """Return the CPU time of `budsim simulate` with the question asked through HTTP, s."""
    asked = question(9001)
    file = folder / "cluster.json"
    file.write_text(json.dumps(inventory()))
    command = [
        sys.executable,
        "-m",
        "budsim.cli",
        "simulate",
        "--model",
        str(asked["pretrained_model_uri"]),
    ]
    for option, name in (
        ("--input-tokens", "input_tokens"),
        ("--output-tokens", "output_tokens"),
        ("--concurrency", "concurrency"),
        ("--ttft-ms", "target_ttft"),
        ("--tokens-per-s-per-user", "target_throughput_per_user"),
    ):
        command += [option, str(asked[name])]
    before = os.times()
    subprocess.run(
        [*command, "--cluster", str(file)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def _p50(answers: Answers) -> str:
    return f"p50 {answers.latency_ms(0.5):.0f}, {len(answers.latencies_s)} answers"
