"""The parts of a soak; each runs alone and returns findings for the table."""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

from tests.soak import fuzzing, strangers
from tests.soak.findings import Finding, accounted, at_most, in_background, none, told_only, warm
from tests.soak.ledger import ended, read, settle
from tests.soak.stack import Replica, running, wait_until
from tests.soak.traffic import NO_ANSWER, Answers, insistently, probe, steadily
from tests.soak.workflows import workflows

LOAD_PER_S = 200.0
LOAD_S = 10.0
ACCEPT_P99_MS = 150.0
HEALTH_P99_MS = 50.0
KILLS = 50
KILLED_RUNS = 500
OUTAGE_S = 60.0
MEMORY_RUNS = 5000
MEMORY_GROWTH = 1.10
FUZZED_CASES = 20_000
OPERATIONS = 6
"""Operations with something to vary; the others have few cases to offer."""
TOKEN = "soak"


def load(scale: float) -> Iterator[Finding]:
    """Ask 200 different questions a second: accepted fast, all completed, the excess refused."""
    count = max(1, int(LOAD_PER_S * LOAD_S * scale))
    with running(MAX_PENDING_RUNS=str(count), LEASE_S="30") as stack:
        url = stack.replicas[0].url
        health, answers, excess = Answers(), Answers(), Answers()
        warm(stack)

        async def hammer() -> None:
            checking = asyncio.create_task(probe(url + "/health", health, 0.02))
            await steadily(lambda: [url], range(count), LOAD_PER_S, answers)
            checking.cancel()
            await steadily(lambda: [url], range(count, 2 * count), 2 * LOAD_PER_S, excess)

        asyncio.run(hammer())
        took_s = settle(stack.database_url)
        ledger = read(stack.database_url, stack.redis_url)
    rate = answers.count(200)
    yield Finding(
        what=f"accepted of {count} at {LOAD_PER_S:g}/s",
        found=str(rate),
        wanted=str(count),
        good=rate == count,
    )
    yield at_most(
        "accept p99", answers.latency_ms(0.99), ACCEPT_P99_MS, f"p50 {answers.latency_ms(0.5):.0f}"
    )
    yield at_most(
        "/health p99 meanwhile",
        health.latency_ms(0.99),
        HEALTH_P99_MS,
        f"{len(health.latencies_s)} probes",
    )
    yield none("health answers other than 200", sum(health.statuses.values()) - health.count(200))
    refused = excess.count(429, 503)
    told = f"{refused} refused, {excess.count(200)} accepted, {excess.count(NO_ANSWER)} unanswered"
    hinted = not excess.refused_without_hint
    yield Finding(
        what="excess is refused with Retry-After",
        found=told,
        wanted=f"{count} answered",
        good=refused > 0 and hinted and refused + excess.count(200) == count,
    )
    yield none("answers other than 200, 429, 503", len(answers.others) + len(excess.others))
    yield from accounted(ledger, answers, excess)
    yield told_only("everything completed after", f"{took_s:.0f} s")


def kills(scale: float) -> Iterator[Finding]:
    """SIGKILL at random while runs go on, on two replicas."""
    runs, times = max(4, int(KILLED_RUNS * scale)), max(1, int(KILLS * scale))
    answers = Answers()
    with running(2, LEASE_S="3", POLL_S="0.2", WORKER_PROCESSES="1") as stack:
        urls = [replica.url for replica in stack.replicas]
        killed = Killer(stack.replicas, times)
        killed.start()
        asyncio.run(insistently(lambda: urls, range(runs), runs / (times * 4.0), answers))
        killed.join()
        settle(stack.database_url)
        ledger = read(stack.database_url, stack.redis_url)
    yield Finding(
        what="kills", found=str(killed.done), wanted=str(times), good=killed.done == times
    )
    yield Finding(
        what="runs asked for",
        found=str(len(ledger.statuses)),
        wanted=str(runs),
        good=len(ledger.statuses) == runs,
    )
    yield from accounted(ledger, answers)
    yield told_only("results events delivered again, same id", str(ledger.redelivered))


def faults(scale: float) -> Iterator[Finding]:
    """Restart Postgres and Redis, and end the sidecar for a minute, while callers go on asking."""
    outage_s = max(3.0, OUTAGE_S * scale)
    answers, health = Answers(), Answers()
    with running(1, LEASE_S="5", WORKER_PROCESSES="1") as stack:
        url = stack.replicas[0].url
        readiness = Readiness()

        async def callers(stopped: asyncio.Event) -> None:
            tasks = [
                asyncio.create_task(probe(url + "/health", health, 0.1)),
                asyncio.create_task(probe(url + "/ready", Answers(), 0.5, readiness.note)),
                asyncio.create_task(
                    steadily(lambda: [url], range(100_000), 5.0, answers, method="heuristic")
                ),
            ]
            await stopped.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with in_background(callers):
            time.sleep(3)
            stack.restart_postgres()
            time.sleep(max(3.0, outage_s / 6))
            stack.redis.end()
            time.sleep(3)
            stack.redis.start()
            time.sleep(max(3.0, outage_s / 6))
            readiness.mark("sidecar away")
            stack.sidecar.end(signal.SIGKILL)
            time.sleep(outage_s)
            readiness.mark("sidecar back")
            stack.start_sidecar()
            time.sleep(max(5.0, outage_s / 6))
            readiness.mark("end")
        settle(stack.database_url)
        ledger = read(stack.database_url, stack.redis_url)
    told = ", ".join(f"{status}: {count}" for status, count in sorted(answers.statuses.items()))
    yield none(f"answers other than 200, 429, 503 ({told})", len(answers.others))
    yield none("refusals without Retry-After", answers.refused_without_hint)
    yield none("health answers other than 200", sum(health.statuses.values()) - health.count(200))
    away, back = readiness.share(503, "sidecar away", "sidecar back"), readiness.last
    yield Finding(
        what="readiness says 503 while the sidecar is away",
        found=f"{away:.0%}",
        wanted="> 80 %",
        good=away > 0.8,
    )
    yield Finding(what="readiness afterwards", found=str(back), wanted="200", good=back == 200)
    yield from accounted(ledger, answers)


def memory(scale: float) -> Iterator[Finding]:
    """Memory after many runs is what it was after the first tenth."""
    count = max(50, int(MEMORY_RUNS * scale))
    answers = Answers()
    with running(1, MAX_PENDING_RUNS="1000", LOG_LEVEL="WARNING") as stack:
        replica = stack.replicas[0]
        measured: list[tuple[int, int]] = []

        async def ask(stopped: asyncio.Event) -> None:
            await insistently(
                lambda: [replica.url], range(count), 60.0, answers, method="heuristic"
            )
            await stopped.wait()

        with in_background(ask):
            for share in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
                wait_until(
                    lambda: ended(stack.database_url) >= share * count,  # noqa: B023
                    f"{share:.0%} have ended",
                    3600,
                )
                measured.append((ended(stack.database_url), replica.resident_bytes()))
        settle(stack.database_url)
        ledger = read(stack.database_url, stack.redis_url)
    for done, size in measured:
        yield told_only(f"memory after {done} runs", f"{size / 1e6:.0f} MB")
    growth = measured[-1][1] / measured[0][1]
    yield Finding(
        what="growth",
        found=f"{growth:.3f}",
        wanted=f"<= {MEMORY_GROWTH}",
        good=growth <= MEMORY_GROWTH,
    )
    yield from accounted(ledger, answers)


def replicas(scale: float) -> Iterator[Finding]:
    """One, two and four replicas: who carried out how many runs, and how fast."""
    count = max(12, int(400 * scale))
    for number in (1, 2, 4):
        answers = Answers()
        with running(number, WORKER_PROCESSES="1") as stack:
            urls = [replica.url for replica in stack.replicas]
            asyncio.run(insistently(lambda: urls[:1], range(count), 100.0, answers))  # noqa: B023
            took_s = settle(stack.database_url)
            ledger = read(stack.database_url, stack.redis_url)
        shares = sorted((done / count for done in ledger.owners.values()), reverse=True)
        told = " ".join(f"{share:.0%}" for share in shares)
        fair = len(shares) == number and shares[-1] >= 0.5 / number
        wanted = f"each >= {0.5 / number:.0%}"
        yield Finding(
            what=f"work per replica, {number} replicas, all asked of one",
            found=told,
            wanted=wanted,
            good=fair,
        )
        yield told_only(
            "runs per second on the cores there are", f"{count / max(took_s, 1e-9):.1f}"
        )
        yield from accounted(ledger, answers)


def fuzz(scale: float) -> Iterator[Finding]:
    """Send requests made from the OpenAPI document: every answer is as it says."""
    wanted = int(FUZZED_CASES * scale)
    with running(
        1, APP_API_TOKEN=TOKEN, MAX_REQUESTS_PER_S="0", MAX_PENDING_RUNS="1000000"
    ) as stack:
        found = fuzzing.fuzz(
            stack.replicas[0].url, TOKEN, examples=max(1, wanted // OPERATIONS), folder=stack.folder
        )
    enough = found.cases >= wanted
    yield Finding(
        what="requests made from the OpenAPI document",
        found=str(found.cases),
        wanted=f">= {wanted}",
        good=enough,
    )
    yield none("answers that break it", len(found.problems))
    yield told_only("errors of schemathesis itself", str(found.tool_errors))
    for problem in found.problems:
        yield told_only("", problem)


PARTS: dict[str, Callable[[float], Iterator[Finding]]] = {
    "load": load,
    "kills": kills,
    "faults": faults,
    "memory": memory,
    "replicas": replicas,
    "fuzz": fuzz,
    "pauses": strangers.pauses,
    "poison": strangers.poison,
    "peers": strangers.peers,
    "inventories": strangers.inventories,
    "leavers": strangers.leavers,
    "endings": strangers.endings,
    "starts": strangers.starts,
    "workflows": workflows,
}


class Killer(threading.Thread):
    """Kills a random replica at random moments and starts it again, so many times."""

    def __init__(self, victims: list[Replica], times: int, seed: int = 0) -> None:
        super().__init__(daemon=True)
        self._victims, self._times, self._random = victims, times, random.Random(seed)
        self.done = 0

    def run(self) -> None:
        """Kill, start, wait until it serves again."""
        while self.done < self._times:
            victim = self._random.choice(self._victims)
            time.sleep(self._random.uniform(0.1, 2.0))
            victim.process.end(signal.SIGKILL)
            self.done += 1
            victim.start()


class Readiness:
    """What `/ready` answered when, between named moments."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._moments: dict[str, float] = {}

    def note(self, status: int, moment_s: float) -> None:
        """Remember one answer."""
        self._seen.append((moment_s, status))

    def mark(self, name: str) -> None:
        """Remember this moment."""
        self._moments[name] = time.monotonic()

    def share(self, status: int, since: str, until: str) -> float:
        """Return which share of the answers between two moments was ``status``."""
        begin, end = self._moments[since], self._moments[until]
        between = [found for moment, found in self._seen if begin <= moment < end]
        return between.count(status) / max(1, len(between))

    @property
    def last(self) -> int:
        """The last answer."""
        return self._seen[-1][1]
