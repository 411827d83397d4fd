"""What the parts of the running application share, as one typed value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import FastAPI, Request

from budsim.commons.config import Settings
from budsim.commons.dapr import Sidecar
from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.database import Database
from budsim.commons.errors import Unavailable
from budsim.commons.telemetry import Metrics
from budsim.commons.tracing import Tracing
from budsim.simulator.services import Simulations

NOT_LOADED = "not loaded yet"

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class ApplicationState:
    """Everything a request or a probe needs; built when the application starts.

    Attributes
    ----------
    synchronous : Semaphore
        Requests that compute while their caller waits.
    models_error : str
        Why the trained regressors cannot be used; empty when they can.
    draining : bool
        The service has been told to stop: health answers 503.
    ending : bool
        Requests still under way have been told to end.
    requests : set of tasks
        Requests under way.
    probing : dict
        By name: what is being found out for all probes that ask for it at this moment.
    """

    settings: Settings
    database: Database
    sidecar: Sidecar | None
    hub: WorkflowHub | None
    simulations: Simulations
    metrics: Metrics
    tracing: Tracing
    synchronous: asyncio.Semaphore
    models_error: str = NOT_LOADED
    draining: bool = False
    ending: bool = False
    requests: set[asyncio.Task[None]] = field(default_factory=set)
    probing: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    @asynccontextmanager
    async def computing(self) -> AsyncIterator[None]:
        """Take one of the turns of requests that compute while their caller waits.

        Raises
        ------
        Unavailable
            There is no turn left; callers are told when to try again.
        """
        if self.synchronous.locked():
            raise Unavailable("too many requests compute while their caller waits; try again later")
        async with self.synchronous:
            yield

    async def shared(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what ``work`` finds, together with everyone who asks for it meanwhile.

        Probes carry no token: however many come, the database and the disk see one at a time.
        """
        task = self.probing.get(name)
        if task is None or task.done():
            task = self.probing[name] = asyncio.create_task(work())
        # One that leaves must not end it for the others.
        found: T = await asyncio.shield(task)
        return found

    def end_requests(self) -> None:
        """Cancel the requests under way; each is answered with 503."""
        self.ending = True
        for task in self.requests:
            task.cancel()


def set_application_state(app: FastAPI, state: ApplicationState) -> None:
    """Give an application its state."""
    app.state.budsim = state


def application_state_of(app: Any) -> ApplicationState:
    """Return the state of a started application."""
    state: ApplicationState = app.state.budsim
    return state


async def application_state(request: Request) -> ApplicationState:
    """Return the state, as a dependency (async: FastAPI runs plain functions in a thread)."""
    return application_state_of(request.app)
