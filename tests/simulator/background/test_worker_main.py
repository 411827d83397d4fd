"""The code of a worker process: one run at a time, stopped by CPU time or by its number."""

import signal
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from budsim.simulator.background import worker_main
from budsim.simulator.background.worker_main import Interrupted, OutOfTime, _Worker, run


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make this process a worker for one test; returns the number it is told to interrupt."""
    told = SimpleNamespace(value=0)
    monkeypatch.setattr(_Worker, "interrupted", told, raising=False)
    handlers = {
        number: signal.signal(number, handler)
        for number, handler in (
            (worker_main.INTERRUPT, worker_main._on_interrupt),
            (worker_main.CPU_TIME_USED, worker_main._on_cpu_time_used),
        )
    }
    yield told
    for number, handler in handlers.items():
        signal.signal(number, handler)


def computing() -> None:
    """Use CPU time, and swallow every ordinary error."""
    while True:
        with suppress(Exception):
            sum(range(1000))


def test_a_run_returns_or_raises_as_its_function_does():
    """And leaves nothing behind that could stop the next one."""
    assert run(1, 10.0, (max, 3, 4)) == 4
    with pytest.raises(ZeroDivisionError):
        run(2, 10.0, (divmod, 1, 0))
    assert _Worker.ticket == 0
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


def test_cpu_time_is_limited():
    """Whatever the run catches."""
    with pytest.raises(OutOfTime):
        run(1, 0.05, (computing,))


def test_time_asleep_is_not():
    """A run that waits uses none."""
    assert run(1, 0.05, (time.sleep, 0.2)) is None


def test_only_the_run_with_the_number_is_interrupted(worker: Any):
    """A signal that comes late hits no other run."""

    def told_of(ticket: int) -> str:
        worker.value = ticket
        signal.raise_signal(worker_main.INTERRUPT)
        return "went on"

    assert run(7, 10.0, (told_of, 6)) == "went on"
    with pytest.raises(Interrupted):
        run(7, 10.0, (told_of, 7))
    signal.raise_signal(worker_main.INTERRUPT)  # between two runs


def test_a_run_that_was_cancelled_before_it_began_does_not_begin(worker: Any):
    """Its number is there already."""
    worker.value = 7
    with pytest.raises(Interrupted):
        run(7, 10.0, (pytest.fail, "began"))
