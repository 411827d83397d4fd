"""Lines of the table a soak prints, and what its parts share."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.soak.ledger import Ledger, settle
from tests.soak.stack import Stack
from tests.soak.traffic import Answers, insistently


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the table."""

    what: str
    found: str
    wanted: str
    good: bool


@contextmanager
def in_background(work: Callable[[asyncio.Event], object]) -> Iterator[None]:
    """Run a coroutine in a thread until the block ends; its errors are raised there."""
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(work(stopped))  # type: ignore[arg-type]
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    loop.call_soon_threadsafe(stopped.set)
    thread.join()
    if failed:
        raise failed[0]


def warm(stack: Stack) -> None:
    """Ask a few questions first, so that what is measured is not the start."""
    url = stack.replicas[0].url
    asyncio.run(insistently(lambda: [url], range(-20, 0), 20.0, Answers(), method="heuristic"))
    settle(stack.database_url)


def accounted(ledger: Ledger, *callers: Answers) -> Iterator[Finding]:
    """Nothing lost, nothing twice, one id and one answer for each workflow."""
    accepted = {workflow_id for answers in callers for workflow_id in answers.accepted}
    yield none(f"lost of {len(accepted)} accepted", ledger.lost(accepted))
    yield none("accepted without a results event", ledger.unannounced(accepted))
    yield none("requests with two workflows", ledger.twice)
    yield none("workflows with two ids or two answers", ledger.unstable)


def none(what: str, count: int) -> Finding:
    """Return a line that is good when there is none of it."""
    return Finding(what=what, found=str(count), wanted="0", good=count == 0)


def at_most(what: str, found_ms: float, wanted_ms: float, detail: str) -> Finding:
    """Return a line about a latency."""
    return Finding(
        what=what,
        found=f"{found_ms:.0f} ms ({detail})",
        wanted=f"<= {wanted_ms:.0f} ms",
        good=found_ms <= wanted_ms,
    )


def told_only(what: str, found: str) -> Finding:
    """Return a line that only tells."""
    return Finding(what=what, found=found, wanted="", good=True)


def machine() -> str:
    """Return what the figures were measured on, and how busy it was."""
    one, five, _ = os.getloadavg()
    return f"{len(os.sched_getaffinity(0))} cores, load {one:.1f} (1 min), {five:.1f} (5 min)"
