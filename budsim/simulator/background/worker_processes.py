"""Runs simulations outside the event loop, each in a worker process that computes nothing else.

Callers wait in a queue of this process until a worker is free, so waiting costs no time limit. A
run that is cancelled, takes too long or loses its process affects no other run.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from budsim.commons.errors import Unavailable
from budsim.performance.predictor import Predictor
from budsim.simulator.background import worker_main
from budsim.simulator.background.worker_main import Load, OutOfTime, Simulation
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question

if TYPE_CHECKING:  # the service's own process does not load the search
    from budsim.simulator.evolution import Progress

# A worker process is replaced after so many runs, so that no leak of a library adds up.
RUNS_PER_PROCESS = 1000
# A run that does not end so long after it was interrupted is in native code; its process goes.
INTERRUPT_S = 2.0
# A run is limited in CPU time. One that has taken so many times as long on the clock, and a minute
# more, waits for something that will not come.
HUNG_FACTOR, HUNG_S = 20.0, 60.0

Known = Mapping[str, bytes]
NOTHING: Known = MappingProxyType({})
Result = TypeVar("Result")
# What is computed about: a question, or whatever else the function takes first.
Topic = TypeVar("Topic")
Computation = Callable[[Topic, Predictor, Any], Result]


class WorkerLost(Unavailable):
    """The process that computed died (killed, out of memory), or the run took too long."""


class Workers(Protocol):
    """Something that answers questions elsewhere."""

    async def simulate(
        self, question: Question, progress: Progress, known: Known = NOTHING
    ) -> Outcome:
        """Answer ``question``; ``progress`` is called in the event loop with the share done, 0..1.

        ``known`` holds the results of parts that were searched before.
        """
        ...

    async def compute(
        self, work: Computation[Topic, Result], topic: Topic, detail: object
    ) -> Result:
        """Return ``work(topic, predictor, detail)``, computed elsewhere."""
        ...

    async def check(self) -> None:
        """Wait until a simulation can run; raises the reason when the artefacts do not load."""
        ...

    async def warm(self) -> None:
        """Start all workers, so that no question has to wait for that."""
        ...

    def close(self) -> None:
        """Stop taking questions."""
        ...


class ProcessWorkers:
    """A number of worker processes; each loads the regressors once.

    Parameters
    ----------
    simulation : Simulation
        The function that answers a question.
    load : callable
        Loads the predictor; importable by name in another process.
    processes : int
        Questions answered at a time.
    timeout_s : float
        CPU time that one question may take, s.
    modules : sequence of str
        What a new process imports before it is asked.
    """

    def __init__(
        self,
        simulation: Simulation,
        load: Load,
        *,
        processes: int,
        timeout_s: float,
        modules: Sequence[str] = (),
    ) -> None:
        self._simulation, self._load, self._timeout_s = simulation, load, timeout_s
        self._modules = modules
        self._tickets = itertools.count(1)
        self._free = asyncio.LifoQueue[WorkerProcess | None]()
        for _ in range(processes):
            self._free.put_nowait(None)  # a process is started when it is first needed
        self._started: set[WorkerProcess] = set()
        self._first: WorkerProcess | None = None
        self._has_loaded = False
        self._recovering: set[asyncio.Task[None]] = set()

    async def simulate(
        self, question: Question, progress: Progress, known: Known = NOTHING
    ) -> Outcome:
        """See `Workers.simulate`."""
        arguments = (worker_main.answer, self._simulation, question, dict(known))
        outcome: Outcome = await self._run(arguments, progress)
        return outcome

    async def compute(
        self, work: Computation[Topic, Result], topic: Topic, detail: object
    ) -> Result:
        """See `Workers.compute`."""
        arguments = (worker_main.compute, work, topic, detail)
        result: Result = await self._run(arguments, _ignore)
        return result

    async def check(self) -> None:
        """See `Workers.check`.

        It waits for the first process to load the regressors. It takes no process from a run, has
        no time limit and kills nothing, so it cannot do harm on a busy machine.
        """
        if self._has_loaded:
            return
        loaded = self._first_process().loaded
        done, _ = await asyncio.wait({asyncio.wrap_future(loaded)})
        if loaded.cancelled() or isinstance(loaded.exception(), BrokenProcessPool):
            self._first = None
            raise WorkerLost("the process that loads the regressors died")
        if loaded.exception():
            self._first = None
        done.pop().result()
        self._has_loaded = True

    async def warm(self) -> None:
        """See `Workers.warm`; one process after another, as there may be few cores."""
        while (process := self._start_another()) is not None:
            await asyncio.wait({asyncio.wrap_future(process.loaded)})

    def close(self) -> None:
        """See `Workers.close`."""
        for process in self._started:
            process.close()
        self._started.clear()

    def _start_another(self) -> WorkerProcess | None:
        """Start a process in a free place that has none; None where each has one or is busy."""
        places = [self._free.get_nowait() for _ in range(self._free.qsize())]
        started = None
        if None in places:
            started = self._start()
            places[places.index(None)] = started
        # The last place put back is taken first: that of a process that has run already.
        for place in reversed(places):
            self._free.put_nowait(place)
        return started

    def _first_process(self) -> WorkerProcess:
        if self._first is None:
            if not self._started:
                self._free.get_nowait()
                self._free.put_nowait(self._start())
            self._first = next(iter(self._started))
        return self._first

    def _start(self) -> WorkerProcess:
        process = WorkerProcess(self._load, self._modules)
        self._started.add(process)
        return process

    async def _run(self, arguments: tuple[Any, ...], progress: Progress) -> Any:
        """Run a function in the next free process, and return its result."""
        process = await self._free.get()
        try:
            process = self._renewed(process)
            ticket = next(self._tickets)
            future = process.submit(ticket, self._timeout_s, arguments, progress)
        except BaseException:
            self._free.put_nowait(None)
            raise
        return await self._result(process, ticket, asyncio.wrap_future(future))

    def _renewed(self, process: WorkerProcess | None) -> WorkerProcess:
        """Return a process that can run: another one where it is lost or has run often enough."""
        if process is None or process.is_lost or process.runs >= RUNS_PER_PROCESS:
            self._drop(process)
            return self._start()
        return process

    async def _result(self, process: WorkerProcess, ticket: int, run: asyncio.Future[Any]) -> Any:
        """Return the result of a run, and free its process."""
        try:
            async with asyncio.timeout(HUNG_FACTOR * self._timeout_s + HUNG_S):
                result = await asyncio.shield(run)
        except (asyncio.CancelledError, TimeoutError) as error:
            self._interrupt(process, ticket, run)
            if isinstance(error, TimeoutError):
                raise WorkerLost("the simulation hangs") from error
            raise
        except BrokenProcessPool as error:
            self._release(process)
            raise WorkerLost("the process that computed died") from error
        except OutOfTime as error:
            self._release(process)
            told = f"the simulation took longer than {self._timeout_s:g} s of CPU time"
            raise WorkerLost(told) from error
        except BaseException:
            self._release(process)
            raise
        self._release(process)
        return result

    def _interrupt(self, process: WorkerProcess, ticket: int, run: asyncio.Future[Any]) -> None:
        """End a run nobody waits for; its process is free again as soon as it has ended."""
        process.interrupt(ticket)

        async def recover() -> None:
            """Wait for the interrupted run to end, kill its process if it does not, and free it."""
            ended, _ = await asyncio.wait({run}, timeout=INTERRUPT_S)
            # asyncio logs exceptions that nobody reads, also those that come later.
            if ended:
                run.exception()
            else:
                process.kill()
                run.cancel()
            self._release(process)

        task = asyncio.create_task(recover())
        self._recovering.add(task)
        task.add_done_callback(self._recovering.discard)

    def _release(self, process: WorkerProcess) -> None:
        self._free.put_nowait(process)

    def _drop(self, process: WorkerProcess | None) -> None:
        if process is not None:
            self._started.discard(process)
            process.close()


class WorkerProcess:
    """One process that runs one function at a time, and the pipe on which it tells progress."""

    def __init__(self, load: Load, modules: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._interrupted = context.Value("q", 0, lock=False)
        # A pipe of its own: a process killed while it writes to a shared queue would keep the lock.
        self._reports, sender = context.Pipe(duplex=False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reports.fileno(), self._read_report)
        self._progress: Progress = _ignore
        self._ticket = 0
        self._is_killed = False
        self.runs = 0
        self._executor = ProcessPoolExecutor(
            1,
            mp_context=context,
            initializer=worker_main.prepare,
            initargs=(load, sender, self._interrupted),
        )
        self.loaded: Future[int] = self._executor.submit(worker_main.load_predictor)
        if modules:
            self._executor.submit(worker_main.import_modules, modules)
        sender.close()

    @property
    def is_lost(self) -> bool:
        """Whether the process has died or was killed."""
        return self._is_killed or bool(getattr(self._executor, "_broken", False))

    @property
    def pid(self) -> int | None:
        """Process id; None before it is started and after it was closed."""
        return next(iter(getattr(self._executor, "_processes", None) or {}), None)

    def submit(
        self, ticket: int, timeout_s: float, arguments: tuple[Any, ...], progress: Progress
    ) -> Future[Any]:
        """Begin to run ``arguments[0](*arguments[1:])`` under the number ``ticket``."""
        self.runs += 1
        self._ticket, self._progress = ticket, progress
        try:
            return self._executor.submit(worker_main.run, ticket, timeout_s, arguments)
        except BrokenProcessPool as error:  # it died between two runs
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def interrupt(self, ticket: int) -> None:
        """Raise an exception in the run ``ticket``, unless it has ended."""
        self._interrupted.value = ticket
        if pid := self.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, worker_main.INTERRUPT)

    def kill(self) -> None:
        """End the process at once."""
        self._is_killed = True
        for process in list((getattr(self._executor, "_processes", None) or {}).values()):
            process.kill()

    def close(self) -> None:
        """End the process and what belongs to it."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._reports.fileno())
        self.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._reports.close()

    def _read_report(self) -> None:
        try:
            ticket, share = self._reports.recv()
        except (EOFError, OSError):
            self._loop.remove_reader(self._reports.fileno())
            return
        if ticket == self._ticket:
            self._progress(share)


class ThreadWorkers:
    """Answers in threads of this process: for tests, and machines where processes are unwanted."""

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
            """Pass the progress from the worker thread to the event loop."""
            loop.call_soon_threadsafe(progress, share)

        return await loop.run_in_executor(self._pool, self._answer, question, known, report)

    async def compute(
        self, work: Computation[Topic, Result], topic: Topic, detail: object
    ) -> Result:
        """See `Workers.compute`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: work(topic, self._loaded(), detail))

    async def check(self) -> None:
        """See `Workers.check`."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._loaded)

    async def warm(self) -> None:
        """See `Workers.warm`; threads share what `check` has loaded."""

    def close(self) -> None:
        """See `Workers.close`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _loaded(self) -> Predictor:
        if self._predictor is None:
            self._predictor = self._load()
        return self._predictor

    def _answer(self, question: Question, known: Known, progress: Progress) -> Outcome:
        return self._simulation(question, self._loaded(), known=known, progress=progress)


def _ignore(_share: float) -> None:
    return None
