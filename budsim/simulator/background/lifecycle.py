"""Starts the background loops of the service, and ends it within a bounded time.

After SIGTERM: health answers 503 for DRAIN_S, then the server takes no new connections, and after
another SHUTDOWN_S the requests still under way are answered 503.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache

import structlog

from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.errors import BudsimError
from budsim.simulator.background.event_relay import Relay
from budsim.simulator.background.loops import RunLoop, delete_old_runs, supervise
from budsim.simulator.background.workflow_dispatcher import WorkflowDispatcher
from budsim.simulator.http.application_state import ApplicationState
from budsim.simulator.services import Simulations

LOAD_AGAIN_S = 10.0
# Pause between the first worker and the others.
WARM_AFTER_S = 5.0
# Longest wait for each part that is closed.
CLOSING_S = 8.0
# A process that has not ended so long after its last request was answered ends itself.
LAST_RESORT_S = 20.0

KILLED_STATUS = 128 + signal.SIGTERM

Loop = Callable[[], Awaitable[None]]
log = structlog.get_logger()


def start_loops(state: ApplicationState) -> list[asyncio.Task[None]]:
    """Start the loops that carry out runs, send events and delete old runs."""
    service, settings = state.simulations, state.settings
    poll_s = settings.limits.poll_s
    relay = Relay(
        service.repository,
        state.sidecar,
        state.metrics,
        dead_letter=settings.dapr.dead_letter_topic,
        give_up_s=settings.dapr.event_give_up_s,
        clock=service.clock,
    )

    async def delete_old() -> None:
        """Delete the runs that are older than the retention period."""
        days = settings.database.retention_days
        await delete_old_runs(service.repository, retention_days=days, clock=service.clock)

    loops: list[Loop] = [
        _run_loop(service, state.hub, poll_s),
        lambda: relay.run(service.signals.events, poll_s),
        delete_old,
    ]
    return [
        asyncio.create_task(_load_models(state)),
        *(asyncio.create_task(supervise(loop)) for loop in loops),
    ]


def _run_loop(service: Simulations, hub: WorkflowHub | None, poll_s: float) -> Loop:
    """Return the loop that carries out runs: as workflows of the sidecar, or in this process."""
    if hub is None:
        return RunLoop(service, slots=2 * service.options.workers, poll_s=poll_s).run
    dispatcher = WorkflowDispatcher(service, hub, poll_s=poll_s)
    dispatcher.start_worker()
    return dispatcher.run


async def _load_models(state: ApplicationState) -> None:
    """Wait until the workers have loaded the regressors; readiness waits for that."""
    while True:
        try:
            await state.simulations.workers.check()
        except BudsimError as error:
            state.models_error = str(error)
            log.error("the trained regressors cannot be used", reason=str(error))
        except Exception:
            state.models_error = "the trained regressors cannot be loaded; see the log"
            log.exception("the trained regressors cannot be used")
        else:
            state.models_error = ""
            break
        await asyncio.sleep(LOAD_AGAIN_S)
    # Whoever asks first has the cores to themselves.
    await asyncio.sleep(WARM_AFTER_S)
    await state.simulations.workers.warm()


@cache
def freeze_garbage_collector() -> None:
    """Leave the objects made at start out of every full collection.

    There are a hundred thousand, and each full collection of them would stop requests for 0.1 s.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def draining_before_stop(state: ApplicationState) -> Iterator[None]:
    """Between SIGTERM and the server's own handling of it, answer health with 503.

    Nobody sends new work then, and requests under way have a limited time to end.
    """
    server = signal.getsignal(signal.SIGTERM)
    if not callable(server) or threading.current_thread() is not threading.main_thread():
        yield
        return
    # uvicorn stops listening as soon as its handler runs; Kubernetes and the sidecar go on sending
    # for a few seconds until their health checks have seen the 503.
    loop, app = asyncio.get_running_loop(), state.settings.app

    def drain(number: int, _frame: object) -> None:
        """Start to drain on SIGTERM and schedule the end of requests and of the process."""
        if state.draining:  # a second SIGTERM does not begin the times again
            return
        state.draining = True
        _exit_at_last(app.drain_s + app.shutdown_s + LAST_RESORT_S)
        loop.call_soon_threadsafe(loop.call_later, app.drain_s, server, number, None)
        loop.call_soon_threadsafe(loop.call_later, app.drain_s + app.shutdown_s, state.end_requests)

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, server)


def _exit_at_last(after_s: float) -> None:
    """End the process after so long, whatever its threads still wait for."""
    timer = threading.Timer(after_s, os._exit, (KILLED_STATUS,))
    timer.daemon = True  # it must not keep a process alive that ends in time
    timer.start()


async def shut_down(state: ApplicationState, loops: list[asyncio.Task[None]]) -> None:
    """Stop the loops, and close everything the state holds, each within a limited time."""
    state.draining = True
    # Loops first: they give their runs back, for which they need the database.
    for loop in loops:
        loop.cancel()
    if loops:
        _, running = await asyncio.wait(loops, timeout=CLOSING_S)
        if running:
            log.warning("background loops do not end", loops=len(running))
    if state.hub:
        await _within(state.hub.close(), "workflows")
    state.simulations.workers.close()
    if state.sidecar:
        await _within(state.sidecar.close(), "sidecar")
    await _within(asyncio.to_thread(state.tracing.close), "tracing")
    state.database.close()


async def _within(closing: Awaitable[None], name: str) -> None:
    try:
        async with asyncio.timeout(CLOSING_S):
            await closing
    except TimeoutError:
        log.warning("closing takes too long", part=name)
