"""Builds the ASGI application: settings, ports, background loops, routes and the table that turns errors into answers."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache, partial
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Security
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from budsim import __version__
from budsim.commons.config import Settings, load_settings
from budsim.commons.dapr import GrpcSidecar, Sidecar, connect
from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.database import Database
from budsim.commons.errors import (
    BudsimError,
    Unavailable,
)
from budsim.commons.hub import fetch_config
from budsim.commons.stored_settings import stored_settings
from budsim.commons.telemetry import configure_logging, new_metrics
from budsim.commons.tracing import tracing
from budsim.performance.predictor import load_predictor
from budsim.simulator.background.loops import Relay, Runner, clear, supervise
from budsim.simulator.background.worker_processes import ProcessWorkers, ThreadWorkers, Workers
from budsim.simulator.background.workflows import Conductor
from budsim.simulator.cluster_sources import FileInventory, Inventory, NoInventory, StateInventory
from budsim.simulator.context import ServiceOptions
from budsim.simulator.http import examples
from budsim.simulator.http.error_envelopes import add_error_table, error_response
from budsim.simulator.http.examples import answer
from budsim.simulator.http.middleware import Guard
from budsim.simulator.questions import ModelSource
from budsim.simulator.routes import DOCUMENTED, TOKEN, router
from budsim.simulator.schemas import Info
from budsim.simulator.searching import simulate
from budsim.simulator.services import Simulations
from budsim.simulator.storage.repository import Repository

DATABASE_THREADS = 16
"""Threads that wait for the database; asyncio's own count follows the cores, and waiting needs none."""
WARM_UP_AGAIN_S = 10.0
ABOUT = "What to deploy for a model, traffic and targets on given machines; how it will perform, what it will cost, how sure that is."
log = structlog.get_logger()


def create_app(
    settings: Settings | None = None,
    *,
    inventory: Inventory | None = None,
    workers: Workers | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Return the application; nothing is opened before its lifespan begins.

    Parameters
    ----------
    settings : Settings, optional
        Read from the environment when left out.
    inventory, workers : optional
        Take the place of what the settings describe.
    clock : callable
        Seconds since the epoch.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or load_settings()
        threads = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="work")
        asyncio.get_running_loop().set_default_executor(threads)
        configure_logging(chosen.app.log_level)
        sidecar = connect(chosen.dapr)
        app.state.settings = chosen = await _complete(chosen, sidecar)
        database = Database(
            chosen.database.database_url, pool_size=chosen.database.database_pool_size
        )
        _assemble(app, chosen, database, sidecar, inventory, workers, clock)
        if chosen.database.migrate_at_start:
            await asyncio.to_thread(_migrate, database)
        loops = _start_loops(app, chosen, sidecar, clock)
        _spare_collector()
        try:
            with _draining_first(app, chosen.app.drain_s):
                yield
        finally:
            await _shut_down(app, loops, database, sidecar)

    app = FastAPI(
        title="budsim",
        version=__version__,
        lifespan=lifespan,
        description=ABOUT,
        strict_content_type=False,
    )
    app.include_router(router)
    _add_service_routes(app)
    add_error_table(app)
    app.state.metrics = new_metrics()
    app.add_middleware(Guard, state=app.state)
    return app


async def _complete(settings: Settings, sidecar: Sidecar | None) -> Settings:
    """Return the settings with what the sidecar's stores add to them; without them there is no start."""
    try:
        chosen = await stored_settings(settings, sidecar)
    except BudsimError:
        if sidecar:
            await sidecar.close()
        raise
    configure_logging(chosen.app.log_level)
    return chosen


def _assemble(
    app: FastAPI,
    settings: Settings,
    database: Database,
    sidecar: Sidecar | None,
    inventory: Inventory | None,
    workers: Workers | None,
    clock: Callable[[], float],
) -> None:
    options = ServiceOptions(
        own_topic=settings.dapr.pubsub_topic,
        lease_s=settings.limits.lease_s,
        plans_kept=settings.limits.plans_kept,
        max_pending=settings.limits.max_pending_runs,
        max_attempts=settings.limits.max_attempts,
        workers=max(1, settings.limits.worker_processes),
        source=ModelSource(
            registry_dir=settings.models.model_registry_dir,
            hub=fetch_config if settings.models.hugging_face_hub else None,
        ),
    )
    state = app.state
    state.database, state.sidecar, state.draining, state.models_error = (
        database,
        sidecar,
        False,
        "not loaded yet",
    )
    state.tracing = tracing(settings.telemetry.otel_exporter_otlp_endpoint)
    state.synchronous = asyncio.Semaphore(settings.limits.max_synchronous_runs)
    state.simulations = Simulations(
        Repository(database),
        inventory or _inventory(settings, sidecar),
        workers or _workers(settings),
        state.metrics,
        options,
        clock=clock,
        tracing=state.tracing,
    )


def _inventory(settings: Settings, sidecar: Sidecar | None) -> Inventory:
    chosen = settings.inventory
    if sidecar:
        return StateInventory(
            sidecar,
            chosen.cluster_info_state_key,
            max_bytes=chosen.inventory_max_bytes,
            ttl_s=chosen.inventory_ttl_s,
        )
    if chosen.inventory_file:
        return FileInventory(chosen.inventory_file, max_bytes=chosen.inventory_max_bytes)
    return NoInventory()


def _workers(settings: Settings) -> Workers:
    models, limits = settings.models, settings.limits
    load = partial(load_predictor, models.pretrained_models_dir, models.calibration_file)
    if limits.worker_processes:
        return ProcessWorkers(
            simulate, load, processes=limits.worker_processes, timeout_s=limits.simulation_timeout_s
        )
    return ThreadWorkers(simulate, load)


def _migrate(database: Database) -> None:
    try:
        database.migrate()
    except Unavailable as error:
        log.error("the schema was not brought up to date", reason=str(error))


def _start_loops(
    app: FastAPI,
    settings: Settings,
    sidecar: Sidecar | None,
    clock: Callable[[], float],
) -> list[asyncio.Task[None]]:
    service: Simulations = app.state.simulations
    poll_s = settings.limits.poll_s
    hub = _hub(settings, sidecar, slots=2 * service.options.workers)
    app.state.hub = hub
    relay = Relay(
        service.repository,
        sidecar,
        app.state.metrics,
        pubsub=settings.dapr.pubsub_name,
        clock=clock,
    )

    async def clearing() -> None:
        await clear(
            service.repository, retention_days=settings.database.retention_days, clock=clock
        )

    loops: list[Callable[[], Awaitable[None]]] = [
        _runs(service, hub, poll_s),
        lambda: relay.run(service.signals.events, poll_s),
        clearing,
    ]
    return [
        asyncio.create_task(_warm_up(app)),
        *(asyncio.create_task(supervise(loop)) for loop in loops),
    ]


def _hub(settings: Settings, sidecar: Sidecar | None, *, slots: int) -> WorkflowHub | None:
    if settings.dapr.has_workflows and isinstance(sidecar, GrpcSidecar):
        return WorkflowHub(settings.dapr, sidecar, slots=slots)
    return None


def _runs(
    service: Simulations, hub: WorkflowHub | None, poll_s: float
) -> Callable[[], Awaitable[None]]:
    """Return the loop that gets runs done: as workflows of the sidecar, or in this process."""
    if hub is None:
        return Runner(service, slots=2 * service.options.workers, poll_s=poll_s).run
    conductor = Conductor(service, hub, poll_s=poll_s)
    conductor.begin()
    return conductor.run


async def _warm_up(app: FastAPI) -> None:
    while True:
        try:
            await app.state.simulations.workers.check()
        except BudsimError as error:
            app.state.models_error = str(error)
            log.error("the trained regressors cannot be used", reason=str(error))
        except Exception:
            app.state.models_error = "the trained regressors cannot be loaded; see the log"
            log.exception("the trained regressors cannot be used")
        else:
            app.state.models_error = ""
            return
        await asyncio.sleep(WARM_UP_AGAIN_S)


@cache
def _spare_collector() -> None:
    """Leave the hundred thousand objects loaded at start out of every full collection: each would stop requests for 0.1 s."""
    gc.collect()
    gc.freeze()


@contextmanager
def _draining_first(app: FastAPI, drain_s: float) -> Iterator[None]:
    """Between SIGTERM and the server's own handling of it, answer health with 503 so that nobody sends new work."""
    server = signal.getsignal(signal.SIGTERM)
    if not callable(server) or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def drain(number: int, _frame: object) -> None:
        app.state.draining = True
        loop.call_soon_threadsafe(loop.call_later, drain_s, server, number, None)

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, server)


async def _shut_down(
    app: FastAPI, loops: list[asyncio.Task[None]], database: Database, sidecar: Sidecar | None
) -> None:
    app.state.draining = True
    running = set(loops)
    while running:
        for loop in running:
            loop.cancel()
        _, running = await asyncio.wait(running, timeout=1.0)
    if app.state.hub:
        await app.state.hub.close()
    app.state.simulations.workers.close()
    if sidecar:
        await sidecar.close()
    await asyncio.to_thread(app.state.tracing.close)
    database.close()


def _add_service_routes(app: FastAPI) -> None:
    @app.get(
        "/",
        tags=["service"],
        responses=_documented(examples.ABOUT, 401, 413, 429, 503),
        dependencies=[Security(TOKEN)],
    )
    async def about() -> Info:
        """Say what this is."""
        return Info(
            message="budsim: what to deploy, how it will perform, what it will cost",
            param={"version": __version__},
        )

    @app.get(
        "/health",
        tags=["service"],
        response_model=Info,
        responses=_documented(examples.ALIVE, 413, 503),
    )
    @app.get("/healthz", include_in_schema=False)
    async def health(request: Request) -> Response:
        """Say whether the process lives; 503 once it is shutting down."""
        if request.app.state.draining:
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "shutting down")
        return JSONResponse(Info(message="ok").model_dump())

    unready: dict[int | str, dict[str, Any]] = {
        503: {"model": Info, "description": "Something is not up"}
    }

    @app.get(
        "/ready",
        tags=["service"],
        response_model=Info,
        responses=_documented(examples.READY, 413) | unready,
    )
    async def ready(request: Request) -> Response:
        """Say what is up and what is not."""
        checks = await _readiness(request.app)
        status = (
            HTTPStatus.OK
            if all(check["up"] for check in checks.values())
            else HTTPStatus.SERVICE_UNAVAILABLE
        )
        text = "ready" if status == HTTPStatus.OK else "not ready"
        return JSONResponse(Info(message=text, param=checks).model_dump(), status)

    @app.get(
        "/metrics",
        tags=["service"],
        response_class=PlainTextResponse,
        responses={413: DOCUMENTED[413]},
    )
    async def metrics(request: Request) -> Response:
        """Return the Prometheus figures."""
        await _count_waiting(request.app)
        return PlainTextResponse(
            generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST
        )


def _documented(example: object, *statuses: int) -> dict[int | str, dict[str, Any]]:
    return answer(example) | {status: DOCUMENTED[status] for status in statuses}


async def _count_waiting(app: FastAPI) -> None:
    """Bring the figures of all replicas up to date; they stay as they were while the database is away."""
    service, metrics = app.state.simulations, app.state.metrics
    with suppress(Unavailable):
        metrics.runs_waiting.set(await asyncio.to_thread(service.repository.waiting))
        count, oldest_s = await asyncio.to_thread(service.repository.unsent)
        metrics.outbox_waiting.set(count)
        metrics.outbox_lag.set(
            max(0.0, service.clock() - oldest_s) if oldest_s is not None else 0.0
        )


async def _readiness(app: FastAPI) -> dict[str, dict[str, object]]:
    state = app.state
    try:
        await asyncio.to_thread(state.database.check)
        database = ""
    except Exception as error:
        database = (
            str(error)
            if isinstance(error, Unavailable)
            else "the database cannot be used; see the log"
        )
    sidecar, hub = state.sidecar, state.hub
    reached = sidecar is None or await sidecar.is_ready()
    served = hub is None or await hub.is_serving()
    return {
        "database": {"up": not database, "detail": database or "ok"},
        "sidecar": {
            "up": reached,
            "detail": "not configured"
            if sidecar is None
            else "ok"
            if reached
            else "does not answer",
        },
        "workflows": {
            "up": served,
            "detail": "in this process" if hub is None else "ok" if served else "no work comes in",
        },
        "models": {"up": not state.models_error, "detail": state.models_error or "ok"},
    }


app = create_app()
