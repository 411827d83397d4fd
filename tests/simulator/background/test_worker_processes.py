"""Worker processes: real ones, as the service runs them; what becomes of a question when its process dies or takes too long."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import (
    AUTOGROUP,
    GENTLENESS,
    ProcessWorkers,
    WorkerLost,
)
from tests.waiting import wait_for

QUESTION: Any = "a question"
ABANDONED = f"""
import asyncio
from {__name__} import pool, whereabouts
async def begin():
    print((await pool().compute(whereabouts, None, None))["pid"], flush=True)
    await asyncio.sleep(600)
asyncio.run(begin())
"""


def told(
    question: Any, _predictor: object, *, known: Any, progress: Callable[[float], None]
) -> Any:
    """Tell that half is done, and answer with what is known once whoever was told has made the file that the question names."""
    progress(0.5)
    wait_for(Path(question).exists)
    return dict(known)


def whereabouts(_question: object, _predictor: object, _detail: object) -> dict[str, Any]:
    """Return what the process this runs in is like."""
    return {
        "pid": os.getpid(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "session": os.getsid(0),
        "autogroup": AUTOGROUP.read_text().split() if AUTOGROUP.exists() else None,
    }


def ending(_question: object, _predictor: object, how: signal.Signals) -> None:
    """End the process this runs in."""
    os.kill(os.getpid(), how)


def sleeping(_question: object, _predictor: object, seconds: float) -> None:
    """Take time."""
    time.sleep(seconds)


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    return not Path(f"/proc/{pid}").exists()


def pool(timeout_s: float = 60.0) -> ProcessWorkers:
    """Return a pool of one process."""
    return ProcessWorkers(told, AnalyticPredictor, processes=1, timeout_s=timeout_s)


def with_pool(
    work: Callable[[ProcessWorkers], Coroutine[Any, Any, Any]], timeout_s: float = 60.0
) -> Any:
    """Return what ``work`` finds with a pool that is closed afterwards."""

    async def run() -> Any:
        workers = pool(timeout_s)
        try:
            await workers.check()
            return await work(workers)
        finally:
            workers.close()

    return asyncio.run(run())


def test_a_question_is_answered_and_its_progress_told_in_the_event_loop(tmp_path: Path):
    """What is known goes in, the answer comes out, and the progress is told while the process still computes."""
    file = tmp_path / "told"

    async def ask(workers: ProcessWorkers) -> Any:
        loop, shares = asyncio.get_running_loop(), []

        def tell(share: float) -> None:
            shares.append((share, asyncio.get_running_loop() is loop))
            file.touch()

        question: Any = str(file)
        return await workers.simulate(question, tell, {"a": b"b"}), shares

    assert with_pool(ask) == ({"a": b"b"}, [(0.5, True)])


def test_workers_let_everything_else_go_first():
    """Gentle in their own session, and their session gentle among the others, where the system groups by session."""
    found = with_pool(lambda workers: workers.compute(whereabouts, QUESTION, None))
    assert found["niceness"] >= GENTLENESS
    assert found["session"] == found["pid"]
    assert found["autogroup"] is None or found["autogroup"][-2:] == ["nice", str(GENTLENESS)]


def test_a_process_that_dies_costs_its_question_only():
    """The caller is told, and the next question finds a new process."""

    async def ask(workers: ProcessWorkers) -> Any:
        first = await workers.compute(whereabouts, QUESTION, None)
        with pytest.raises(WorkerLost, match="died"):
            await workers.compute(ending, QUESTION, signal.SIGKILL)
        return first["pid"], (await workers.compute(whereabouts, QUESTION, None))["pid"]

    before, after = with_pool(ask)
    assert before != after


def test_a_question_that_takes_too_long_is_ended():
    """Its process is killed, not left to compute on."""

    async def ask(workers: ProcessWorkers) -> Any:
        first = await workers.compute(whereabouts, QUESTION, None)
        with pytest.raises(WorkerLost, match="longer than 5 s"):
            await workers.compute(sleeping, QUESTION, 600.0)
        return first["pid"], await workers.compute(whereabouts, QUESTION, None)

    before, after = with_pool(ask, timeout_s=5.0)
    assert wait_for(lambda: gone(before))
    assert after["pid"] != before


def test_workers_do_not_outlive_a_service_that_is_killed():
    """SIGKILL leaves the service no time to tell them."""
    command = [sys.executable, "-c", ABANDONED]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    ) as service:
        assert service.stdout is not None
        worker = int(service.stdout.readline())
        service.kill()
    assert wait_for(lambda: gone(worker))
