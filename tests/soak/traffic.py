"""Callers of a soak: questions at a steady rate whatever the service does, and probes."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

TOPIC = "soakMessages"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
REFUSALS = frozenset({429, 503})
CALL_LIMIT_S = 30.0
NO_ANSWER = 0
RETRY_S = 1.0
ASKED_AT_A_TIME = 100
"""Questions an insistent caller has open: thousands would measure how fast they are refused."""


@dataclass
class Answers:
    """Answers to callers: status and latency of each call, workflow of each accepted one."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    refused_without_hint: int = 0

    def latency_ms(self, share: float) -> float:
        """Return the latency in ms that ``share`` of all answered calls stay within."""
        ordered = sorted(self.latencies_s) or [0.0]
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def count(self, *statuses: int) -> int:
        """Return how many calls were answered with one of these."""
        return sum(self.statuses[status] for status in statuses)

    @property
    def others(self) -> dict[int, int]:
        """Answers that are neither success nor a refusal to come again."""
        return {
            status: count
            for status, count in self.statuses.items()
            if status not in {200, NO_ANSWER, *REFUSALS}
        }


def question(number: int, *, method: str = "regressor") -> dict[str, object]:
    """Return a request that no other number asks."""
    return {
        "pretrained_model_uri": MODEL,
        "is_proprietary_model": False,
        "input_tokens": 256 + number,
        "output_tokens": 64 + number % 512,
        "concurrency": 8 + number % 64,
        "target_ttft": 1500,
        "target_throughput_per_user": 20,
        "target_e2e_latency": 30,
        "simulation_method": method,
        "source_topic": TOPIC,
    }


@asynccontextmanager
async def calling() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session with as many connections as it takes."""
    limit = aiohttp.ClientTimeout(total=CALL_LIMIT_S)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=limit
    ) as session:
        yield session


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    number: int,
    answers: Answers,
    due_s: float,
    method: str,
) -> int:
    """Send one question and note the answer.

    Latency counts from when it was due, so that a stalled service shows.
    """
    try:
        headers = {"Idempotency-Key": f"soak-{number}"}
        async with session.post(
            url + "/simulator/run", json=question(number, method=method), headers=headers
        ) as answer:
            found = await answer.json()
            status, hint = answer.status, answer.headers.get("Retry-After")
    except (aiohttp.ClientError, TimeoutError, OSError):
        answers.statuses[NO_ANSWER] += 1
        return NO_ANSWER
    answers.latencies_s.append(time.monotonic() - due_s)
    answers.statuses[status] += 1
    if status == 200:
        answers.repeated += found["workflow_id"] in answers.accepted
        answers.accepted[found["workflow_id"]] = number
    answers.refused_without_hint += status in REFUSALS and not hint
    return status


async def steadily(
    urls: Callable[[], Sequence[str]],
    numbers: range,
    per_s: float,
    answers: Answers,
    *,
    method: str = "regressor",
) -> None:
    """Ask every question once, ``per_s`` a second, without waiting for answers."""
    async with calling() as session, asyncio.TaskGroup() as group:
        start_s = time.monotonic()
        for index, number in enumerate(numbers):
            due_s = start_s + index / per_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            group.create_task(ask(session, random.choice(urls()), number, answers, due_s, method))


async def insistently(
    urls: Callable[[], Sequence[str]],
    numbers: range,
    per_s: float,
    answers: Answers,
    *,
    method: str = "regressor",
) -> None:
    """Ask every question, ``per_s`` a second, each until it is accepted."""
    turns = asyncio.Semaphore(ASKED_AT_A_TIME)
    async with calling() as session, asyncio.TaskGroup() as group:

        async def until_accepted(number: int) -> None:
            while (
                await ask(session, random.choice(urls()), number, answers, time.monotonic(), method)
                != 200
            ):
                await asyncio.sleep(RETRY_S)
            turns.release()

        for number in numbers:
            await turns.acquire()
            group.create_task(until_accepted(number))
            await asyncio.sleep(1 / per_s)


async def probe(
    url: str, answers: Answers, every_s: float, seen: Callable[[int, float], None] | None = None
) -> None:
    """Ask ``url`` every so often until cancelled; ``seen`` is told status and moment."""
    async with calling() as session, asyncio.TaskGroup() as group:

        async def once(due_s: float) -> None:
            try:
                async with session.get(url) as answer:
                    await answer.read()
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = NO_ANSWER
            answers.latencies_s.append(time.monotonic() - due_s)
            answers.statuses[status] += 1
            if seen:
                seen(status, due_s)

        due_s = time.monotonic()
        while True:
            group.create_task(once(due_s))
            due_s += every_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
