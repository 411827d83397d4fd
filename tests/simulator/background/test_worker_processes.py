"""Worker processes, real ones: no run disturbs another, whatever becomes of it."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from budsim.commons.errors import CatalogError
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_main import AUTOGROUP, INTERRUPT, NICENESS
from budsim.simulator.background.worker_processes import ProcessWorkers, WorkerLost
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
    """Tell that half is done, and answer once the file that the question names is there."""
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


def knows_colorsys(_question: object, _predictor: object, _detail: object) -> bool:
    """Return whether a module that nothing here needs was imported in this process."""
    return "colorsys" in sys.modules


def ending(_question: object, _predictor: object, how: signal.Signals) -> None:
    """End the process this runs in."""
    os.kill(os.getpid(), how)


def deaf(_question: object, _predictor: object, _detail: object) -> None:
    """Block the signal that interrupts runs, as native code does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {INTERRUPT})
    time.sleep(600)


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    return not Path(f"/proc/{pid}").exists()


def computing(_question: object, _predictor: object, _detail: object) -> None:
    """Use CPU time without end, and swallow every ordinary error."""
    while True:
        with suppress(Exception):
            sum(range(1000))


def waiting(_question: object, _predictor: object, file: str) -> int:
    """Wait for a file, and return the process id."""
    wait_for(Path(file).exists)
    return os.getpid()


def broken_load() -> Any:
    """Load regressors that are not there."""
    raise CatalogError("no regressors")


def pool(
    timeout_s: float = 60.0,
    processes: int = 1,
    load: Any = AnalyticPredictor,
    modules: tuple[str, ...] = (),
) -> ProcessWorkers:
    """Return a pool, of one process unless told otherwise."""
    return ProcessWorkers(told, load, processes=processes, timeout_s=timeout_s, modules=modules)


Ask = Callable[[ProcessWorkers], Coroutine[Any, Any, Any]]
WithPool = Callable[..., Any]


@pytest.fixture(scope="module")
def with_pool() -> Iterator[WithPool]:
    """Return a function that runs a test with a pool of one process, the same for all tests."""
    with asyncio.Runner() as runner:

        async def start() -> ProcessWorkers:
            workers = pool()
            await workers.check()
            return workers

        async def close() -> None:
            workers.close()

        workers = runner.run(start())

        def run(ask: Ask, timeout_s: float = 60.0) -> Any:
            workers._timeout_s = timeout_s
            return runner.run(ask(workers))

        yield run
        runner.run(close())


def test_a_question_is_answered_and_its_progress_told_in_the_event_loop(
    with_pool: WithPool, tmp_path: Path
):
    """Known parts go in, the answer comes out, progress is told while the process computes."""
    file = tmp_path / "told"

    async def ask(workers: ProcessWorkers) -> Any:
        loop, shares = asyncio.get_running_loop(), []

        def tell(share: float) -> None:
            shares.append((share, asyncio.get_running_loop() is loop))
            file.touch()

        question: Any = str(file)
        return await workers.simulate(question, tell, {"a": b"b"}), shares

    assert with_pool(ask) == ({"a": b"b"}, [(0.5, True)])


def test_workers_let_everything_else_go_first(with_pool: WithPool):
    """Of low priority in their session, and their session of low priority among the others."""
    found = with_pool(lambda workers: workers.compute(whereabouts, QUESTION, None))
    assert found["niceness"] >= NICENESS
    assert found["session"] == found["pid"]
    assert found["autogroup"] is None or found["autogroup"][-2:] == ["nice", str(NICENESS)]


def test_a_process_that_dies_costs_its_question_only(with_pool: WithPool):
    """The caller is told, and the next question finds a new process."""

    async def ask(workers: ProcessWorkers) -> Any:
        first = await workers.compute(whereabouts, QUESTION, None)
        with pytest.raises(WorkerLost, match="died"):
            await workers.compute(ending, QUESTION, signal.SIGKILL)
        return first["pid"], (await workers.compute(whereabouts, QUESTION, None))["pid"]

    before, after = with_pool(ask)
    assert before != after


def test_a_run_is_limited_in_cpu_time_of_its_own(with_pool: WithPool):
    """It is stopped in its process, which takes the next run without loading again."""

    async def ask(workers: ProcessWorkers) -> Any:
        first = await workers.compute(whereabouts, QUESTION, None)
        with pytest.raises(WorkerLost, match="of CPU time"):
            await workers.compute(computing, QUESTION, None)
        return first["pid"], (await workers.compute(whereabouts, QUESTION, None))["pid"]

    before, after = with_pool(ask, timeout_s=0.3)
    assert before == after


def test_waiting_is_not_limited(with_pool: WithPool, tmp_path: Path):
    """Runs that wait, for a free process or for anything else, are not stopped."""
    file = tmp_path / "go"

    async def ask(workers: ProcessWorkers) -> Any:
        runs = [
            asyncio.create_task(workers.compute(waiting, QUESTION, str(file))) for _ in range(3)
        ]
        await asyncio.sleep(0.6)
        file.touch()
        return await asyncio.gather(*runs)

    assert len(set(with_pool(ask, timeout_s=0.2))) == 1


def test_a_cancelled_run_ends_in_its_process(with_pool: WithPool):
    """The worker stops computing at once and is free for the next run; nothing is killed."""
    complaints: list[Any] = []

    async def ask(workers: ProcessWorkers) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        first = await workers.compute(whereabouts, QUESTION, None)
        run = asyncio.create_task(workers.compute(computing, QUESTION, None))
        await asyncio.sleep(0.2)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        async with asyncio.timeout(5):
            return first["pid"], (await workers.compute(whereabouts, QUESTION, None))["pid"]

    before, after = with_pool(ask)
    gc.collect()  # asyncio complains of exceptions nobody read when they are collected
    assert before == after
    assert not complaints


def test_a_cancelled_run_that_waits_never_begins(with_pool: WithPool, tmp_path: Path):
    """It leaves the queue; the run before it and the run after it are answered."""
    file = tmp_path / "go"

    async def ask(workers: ProcessWorkers) -> Any:
        first, second, third = (
            asyncio.create_task(workers.compute(waiting, QUESTION, str(file))) for _ in range(3)
        )
        await asyncio.sleep(0.1)
        second.cancel()
        file.touch()
        return await asyncio.gather(first, second, third, return_exceptions=True)

    first, second, third = with_pool(ask)
    assert first == third
    assert isinstance(second, asyncio.CancelledError)


def test_a_run_that_cannot_be_interrupted_loses_its_process(
    with_pool: WithPool, monkeypatch: pytest.MonkeyPatch
):
    """Native code does not listen; the run's process is killed, and the next run gets another."""
    monkeypatch.setattr("budsim.simulator.background.worker_processes.INTERRUPT_S", 0.2)

    async def ask(workers: ProcessWorkers) -> Any:
        first = await workers.compute(whereabouts, QUESTION, None)
        run = asyncio.create_task(workers.compute(deaf, QUESTION, None))
        await asyncio.sleep(0.2)
        run.cancel()
        return first["pid"], (await workers.compute(whereabouts, QUESTION, None))["pid"]

    before, after = with_pool(ask)
    assert wait_for(lambda: gone(before))
    assert after != before


def test_a_run_that_dies_disturbs_no_other(with_pool: WithPool, tmp_path: Path):
    """Of two runs side by side one loses its process; the other is answered by its own."""
    file = tmp_path / "go"

    async def ask(workers: ProcessWorkers) -> Any:
        other = asyncio.create_task(workers.compute(waiting, QUESTION, str(file)))
        for _ in range(3):
            with pytest.raises(WorkerLost):
                await workers.compute(ending, QUESTION, signal.SIGKILL)
        file.touch()
        return await other

    async def with_two() -> Any:
        workers = pool(processes=2)
        try:
            return await ask(workers)
        finally:
            workers.close()

    assert asyncio.run(with_two())


def test_readiness_takes_nothing_from_runs(with_pool: WithPool, tmp_path: Path):
    """The check is answered while every process is busy, and does not wait for them."""
    file = tmp_path / "go"

    async def ask(workers: ProcessWorkers) -> Any:
        run = asyncio.create_task(workers.compute(waiting, QUESTION, str(file)))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await workers.check()
        file.touch()
        return await run

    assert with_pool(ask)


def test_a_warm_worker_has_started_and_imported():
    """It exists before it is asked, and its first question imports nothing."""

    async def ask() -> tuple[int, bool]:
        workers = pool(modules=("colorsys",))
        await workers.warm()
        started = len(workers._started)
        try:
            return started, await workers.compute(knows_colorsys, None, None)
        finally:
            workers.close()

    assert asyncio.run(ask()) == (1, True)


def test_regressors_that_do_not_load_are_told():
    """Each check tells the reason, and no process is left behind."""

    async def ask() -> None:
        workers = pool(load=broken_load)
        for _ in range(2):
            with pytest.raises(CatalogError, match="no regressors"):
                await workers.check()
        workers.close()

    asyncio.run(ask())


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
