"""Runs simulations outside the event loop: in a bounded pool of worker processes, or in threads of this one for tests."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from budsim.commons.errors import Unavailable
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question

Progress = Callable[[float], None]
Known = Mapping[str, bytes]
NOTHING: Known = MappingProxyType({})


class Simulation(Protocol):
    """The function that answers a question (`budsim.simulator.searching.simulate`), importable by name in another process."""

    def __call__(
        self, question: Question, predictor: Predictor, *, known: Known, progress: Progress
    ) -> Outcome:
        """Answer ``question``; what is ``known`` of it need not be searched."""
        ...


RUNS_PER_WORKER = 1000
"""A worker process is replaced after so many runs, so that nothing a library leaks adds up."""


GENTLENESS = 15
"""Niceness of worker processes: where cores are few, requests are answered before simulations go on."""
AUTOGROUP = Path("/proc/self/autogroup")
AUTOGROUP_TRIES = 20
AUTOGROUP_PAUSE_S = 0.1
"""Linux lets unprivileged processes change these once in so long, all together (sched(7))."""


class WorkerLost(Unavailable):
    """The process that computed died (killed, out of memory) or took too long."""


Result = TypeVar("Result")
Load = Callable[[], Predictor]
Computation = Callable[[Question, Predictor, Any], Result]


class Workers(Protocol):
    """Something that answers questions elsewhere."""

    async def simulate(
        self, question: Question, progress: Progress, known: Known = NOTHING
    ) -> Outcome:
        """Answer ``question``; ``progress`` is called in the event loop with the share done, 0..1.

        What is ``known`` of it was found by computing parts of it before.
        """
        ...

    async def compute(
        self, work: Computation[Result], question: Question, detail: object
    ) -> Result:
        """Return ``work(question, predictor, detail)``, computed elsewhere."""
        ...

    async def check(self) -> None:
        """Raise `Unavailable` unless simulations can run (artefacts load)."""
        ...

    def close(self) -> None:
        """Stop taking questions."""
        ...


class ProcessWorkers:
    """A pool of processes that load the regressors once each.

    Parameters
    ----------
    simulation : Simulation
        What answers a question.
    processes : int
        How many questions are answered at a time.
    load : callable
        Loads the predictor; importable by name in another process.
    timeout_s : float
        Longest time one question may take; the pool is replaced when it takes longer.
    """

    def __init__(
        self, simulation: Simulation, load: Load, *, processes: int, timeout_s: float
    ) -> None:
        self._simulation = simulation
        self._load, self._processes, self._timeout_s = load, processes, timeout_s
        self._context = multiprocessing.get_context("spawn")
        self._reports: SimpleQueue[tuple[int, float]] = self._context.SimpleQueue()
        self._listeners: dict[int, Progress] = {}
        self._tickets = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: Executor | None = None

    async def simulate(
        self, question: Question, progress: Progress, known: Known = NOTHING
    ) -> Outcome:
        """See `Workers.simulate`."""
        self._tickets += 1
        ticket = self._tickets
        self._listeners[ticket] = progress
        pool = self._open()
        try:
            return await self._wait(
                pool, pool.submit(_answer, self._simulation, question, dict(known), ticket)
            )
        finally:
            del self._listeners[ticket]

    async def compute(
        self, work: Computation[Result], question: Question, detail: object
    ) -> Result:
        """See `Workers.compute`."""
        pool = self._open()
        return await self._wait(pool, pool.submit(_compute, work, question, detail))

    async def check(self) -> None:
        """See `Workers.check`."""
        pool = self._open()
        await self._wait(pool, pool.submit(_ready))

    def close(self) -> None:
        """See `Workers.close`."""
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._reports.put((0, 0.0))
            self._pool = None

    async def _wait(self, pool: Executor, future: Future[Result]) -> Result:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(future)
        except BrokenProcessPool as error:
            self._replace(pool)
            raise WorkerLost("the process that computed died") from error
        except TimeoutError as error:
            self._replace(pool)
            raise WorkerLost(f"the simulation took longer than {self._timeout_s:g} s") from error

    def _open(self) -> Executor:
        if self._pool is None:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
                threading.Thread(target=self._listen, daemon=True, name="progress").start()
            self._pool = ProcessPoolExecutor(
                self._processes,
                mp_context=self._context,
                initializer=_prepare,
                initargs=(self._reports, self._load),
                max_tasks_per_child=RUNS_PER_WORKER,
            )
        return self._pool

    def _replace(self, pool: Executor) -> None:
        if self._pool is pool:
            self._pool = None
            processes = list((getattr(pool, "_processes", None) or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()

    def _listen(self) -> None:
        while True:
            ticket, share = self._reports.get()
            if not ticket or self._loop is None or self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(self._report, ticket, share)

    def _report(self, ticket: int, share: float) -> None:
        if listener := self._listeners.get(ticket):
            listener(share)


class ThreadWorkers:
    """Answers in threads of this process with a predictor given: tests, and machines where processes are not wanted."""

    def __init__(self, simulation: Simulation, load: Load, threads: int = 1) -> None:
        self._simulation = simulation
        self._load = load
        self._predictor: Predictor | None = None
        self._pool = ThreadPoolExecutor(threads)

    async def simulate(
        self, question: Question, progress: Progress, known: Known = NOTHING
    ) -> Outcome:
        """See `Workers.simulate`."""
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(progress, share)

        return await loop.run_in_executor(self._pool, self._answer, question, known, report)

    async def compute(
        self, work: Computation[Result], question: Question, detail: object
    ) -> Result:
        """See `Workers.compute`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._pool, lambda: work(question, self._loaded(), detail)
        )

    async def check(self) -> None:
        """See `Workers.check`."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._loaded)

    def close(self) -> None:
        """See `Workers.close`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _loaded(self) -> Predictor:
        if self._predictor is None:
            self._predictor = self._load()
        return self._predictor

    def _answer(self, question: Question, known: Known, progress: Progress) -> Outcome:
        return self._simulation(question, self._loaded(), known=known, progress=progress)


class _Worker:
    """What one worker process keeps between questions."""

    load: Load
    predictor: Predictor | None = None
    reports: SimpleQueue[tuple[int, float]]


def _prepare(reports: SimpleQueue[tuple[int, float]], load: Load) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _step_back()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _Worker.reports = reports
    _Worker.load = staticmethod(load)


def _step_back() -> None:
    """Let everything else on this machine go first: the service, and the database and the sidecar beside it.

    Where Linux groups processes by session (autogroup, sched(7)), niceness counts within the session only: two busy workers would
    keep a database in another session waiting for a core. So a worker begins a session of its own and makes that gentle too.
    """
    os.nice(GENTLENESS)
    os.setsid()
    again = Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_attempt(AUTOGROUP_TRIES),
        wait=wait_fixed(AUTOGROUP_PAUSE_S),
        reraise=True,
    )
    with suppress(OSError):  # no such grouping here, or others kept changing theirs
        again(AUTOGROUP.write_text, str(GENTLENESS))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(simulation: Simulation, question: Question, known: Known, ticket: int) -> Outcome:
    return simulation(
        question,
        _loaded(),
        known=known,
        progress=lambda share: _Worker.reports.put((ticket, share)),
    )


def _compute(work: Computation[Result], question: Question, detail: object) -> Result:
    return work(question, _loaded(), detail)


def _ready() -> bool:
    return bool(_loaded())


def _loaded() -> Predictor:
    if _Worker.predictor is None:
        _Worker.predictor = _Worker.load()
    return _Worker.predictor
