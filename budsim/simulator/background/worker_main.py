"""The code of a worker process: load the regressors, run one function at a time, stop when told.

A run ends with an exception when it has used its CPU time or is interrupted. The process lives on,
so the next run need not load the regressors again.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from budsim.performance.predictor import Predictor
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question

# Niceness of a worker that computes: where cores are few, requests are answered first. On Linux it
# gets about a third of the CPU time of a process of niceness 0 (sched(7)). With 15, a thirtieth,
# runs stood still for minutes on a machine that other programs kept busy.
NICENESS = 5

AUTOGROUP = Path("/proc/self/autogroup")
AUTOGROUP_TRIES = 20
# Linux lets unprivileged processes write to autogroup files only so often, all together.
AUTOGROUP_PAUSE_S = 0.1

INTERRUPT = signal.SIGUSR1
# Sent by ITIMER_PROF, which counts the CPU time of all threads of the process (setitimer(2)).
CPU_TIME_USED = signal.SIGPROF

Load = Callable[[], Predictor]


class Simulation(Protocol):
    """The function that answers a question, importable by name in another process."""

    def __call__(
        self,
        question: Question,
        predictor: Predictor,
        *,
        known: Mapping[str, bytes],
        progress: Callable[[float], None],
    ) -> Outcome:
        """Answer ``question``; the parts in ``known`` need not be searched."""
        ...


class OutOfTime(Exception):
    """The run used all the CPU time it was allowed."""


class Interrupted(Exception):
    """Nobody waits for the run any more."""


class _Stop(BaseException):
    """Raised inside a run; no `except Exception` of the run may catch it."""


class _Worker:
    """What one worker process keeps between runs."""

    load: Load
    reports: Connection
    interrupted: Any
    predictor: Predictor | None = None
    ticket = 0
    """Number of the run under way; 0 between runs."""
    is_out_of_time = False


def prepare(load: Load, reports: Connection, interrupted: Any) -> None:
    """Set up a worker process: signals, and an end together with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(INTERRUPT, _on_interrupt)
    signal.signal(CPU_TIME_USED, _on_cpu_time_used)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _Worker.load = staticmethod(load)
    _Worker.reports, _Worker.interrupted = reports, interrupted


def load_predictor() -> int:
    """Load the regressors at normal priority, lower it, and return the process id.

    A lowered priority while loading would keep a service on a busy machine unready for minutes.
    """
    try:
        _loaded()
    finally:
        _lower_priority()
    return os.getpid()


def import_modules(names: Sequence[str]) -> None:
    """Import what the first run would import: it would take about half a second longer."""
    for name in names:
        importlib.import_module(name)


def run(ticket: int, timeout_s: float, arguments: tuple[Any, ...]) -> Any:
    """Return ``arguments[0](*arguments[1:])``, stopped after ``timeout_s`` of CPU time.

    Raises
    ------
    OutOfTime
        The CPU time is used up.
    Interrupted
        The parent has written ``ticket`` to the shared number.
    """
    function, *others = arguments
    _Worker.is_out_of_time = False
    try:
        _Worker.ticket = ticket
        signal.setitimer(signal.ITIMER_PROF, timeout_s)
        if _Worker.interrupted.value == ticket:  # told before the run began
            raise _Stop
        return function(*others)
    except _Stop:
        raise (OutOfTime if _Worker.is_out_of_time else Interrupted) from None
    finally:
        _Worker.ticket = 0
        signal.setitimer(signal.ITIMER_PROF, 0)


def answer(simulation: Simulation, question: Question, known: Mapping[str, bytes]) -> Outcome:
    """Answer a question, telling the parent the progress."""
    ticket = _Worker.ticket
    return simulation(
        question,
        _loaded(),
        known=known,
        progress=lambda share: _Worker.reports.send((ticket, share)),
    )


def compute(work: Callable[[Any, Predictor, Any], Any], topic: object, detail: object) -> Any:
    """Return ``work(topic, predictor, detail)``."""
    return work(topic, _loaded(), detail)


def _on_interrupt(_number: int, _frame: object) -> None:
    if _Worker.ticket and _Worker.ticket == _Worker.interrupted.value:
        raise _Stop


def _on_cpu_time_used(_number: int, _frame: object) -> None:
    if _Worker.ticket:
        _Worker.is_out_of_time = True
        raise _Stop


def _loaded() -> Predictor:
    if _Worker.predictor is None:
        _Worker.predictor = _Worker.load()
    return _Worker.predictor


def _lower_priority() -> None:
    """Let everything else on this machine go first: the service, the database, the sidecar.

    Where Linux groups processes by session (autogroup, sched(7)), niceness counts within the
    session only: two busy workers would keep a database in another session waiting for a core. So
    a worker begins a session of its own, and lowers the priority of that session too.
    """
    os.nice(NICENESS)
    os.setsid()
    retry = Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_attempt(AUTOGROUP_TRIES),
        wait=wait_fixed(AUTOGROUP_PAUSE_S),
        reraise=True,
    )
    with suppress(OSError):  # there is no such file here, or others keep writing theirs
        retry(AUTOGROUP.write_text, str(NICENESS))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
