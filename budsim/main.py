"""Builds the ASGI application: settings, ports, background loops, routes and the table that turns errors into answers."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from budsim import __version__
from budsim.commons.config import Settings, load_settings
from budsim.commons.dapr import Sidecar, connect
from budsim.commons.database import Database
from budsim.commons.errors import (
    BudsimError,
    Busy,
    CatalogError,
    Conflict,
    InvalidInput,
    NotFound,
    Unanswerable,
    Unavailable,
)
from budsim.commons.hub import fetch_config
from budsim.commons.telemetry import Metrics, configure_logging, new_metrics
from budsim.performance.predictor import load_predictor
from budsim.simulator.inventory import FileInventory, Inventory, NoInventory, StateInventory
from budsim.simulator.repository import Repository
from budsim.simulator.routes import router
from budsim.simulator.schemas import Error, Info
from budsim.simulator.services import ModelSource, Rules, Simulations, simulate
from budsim.simulator.workers import ProcessWorkers, ThreadWorkers, Workers
from budsim.simulator.workflows import Relay, Runner, clear, supervise

STATUSES: tuple[tuple[type[BudsimError], HTTPStatus], ...] = (
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Unanswerable, HTTPStatus.BAD_REQUEST),
    (Conflict, HTTPStatus.CONFLICT),
    (Busy, HTTPStatus.TOO_MANY_REQUESTS),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (CatalogError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
"""Which HTTP status each error of ours is answered with; the first that matches counts."""

RETRY_AFTER_S = 5
DATABASE_THREADS = 16
"""Threads that wait for the database; asyncio's own count follows the cores, and waiting needs none."""
WARM_UP_AGAIN_S = 10.0
OPEN_PATHS = frozenset({"/health", "/healthz", "/ready", "/metrics"})
TOKEN_HEADER = b"dapr-api-token"
ERRORS_TOLD = 5
PHRASES = {422: "Unprocessable Entity", 413: "Request Entity Too Large"}
"""Phrases that changed between Python versions; callers compare the error types made of them."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
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
        app.state.settings = chosen
        database = Database(chosen.database.database_url, pool_size=chosen.database.database_pool_size)
        sidecar = connect(chosen.dapr)
        _assemble(app, chosen, database, sidecar, inventory, workers, clock)
        if chosen.database.migrate_at_start:
            await asyncio.to_thread(_migrate, database)
        loops = _start_loops(app, chosen, sidecar, clock)
        try:
            yield
        finally:
            await _shut_down(app, loops, database, sidecar)

    app = FastAPI(title="budsim", version=__version__, lifespan=lifespan, description=__doc__)
    app.include_router(router)
    _add_service_routes(app)
    _add_error_table(app)
    app.state.metrics = new_metrics()
    app.add_middleware(_Guard, state=app.state)
    return app


def _assemble(
    app: FastAPI,
    settings: Settings,
    database: Database,
    sidecar: Sidecar | None,
    inventory: Inventory | None,
    workers: Workers | None,
    clock: Callable[[], float],
) -> None:
    rules = Rules(
        own_topic=settings.dapr.pubsub_topic,
        lease_s=settings.limits.lease_s,
        plans_kept=settings.limits.plans_kept,
        max_pending=settings.limits.max_pending_runs,
        max_attempts=settings.limits.max_attempts,
        workers=max(1, settings.limits.worker_processes),
        source=ModelSource(
            registry_dir=settings.models.model_registry_dir, hub=fetch_config if settings.models.hugging_face_hub else None
        ),
    )
    state = app.state
    state.database, state.sidecar, state.draining, state.models_error = database, sidecar, False, "not loaded yet"
    state.synchronous = asyncio.Semaphore(settings.limits.max_synchronous_runs)
    state.simulations = Simulations(
        Repository(database),
        inventory or _inventory(settings, sidecar),
        workers or _workers(settings),
        state.metrics,
        rules,
        clock=clock,
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
        return ProcessWorkers(simulate, load, processes=limits.worker_processes, timeout_s=limits.simulation_timeout_s)
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
    runner = Runner(service, slots=2 * service.rules.workers, poll_s=poll_s)
    relay = Relay(service.repository, sidecar, app.state.metrics, pubsub=settings.dapr.pubsub_name, clock=clock)

    async def clearing() -> None:
        await clear(service.repository, retention_days=settings.database.retention_days, clock=clock)

    loops: list[Callable[[], Awaitable[None]]] = [
        runner.run,
        lambda: relay.run(service.signals.events, poll_s),
        clearing,
    ]
    return [asyncio.create_task(_warm_up(app)), *(asyncio.create_task(supervise(loop)) for loop in loops)]


async def _warm_up(app: FastAPI) -> None:
    while True:
        try:
            await app.state.simulations.workers.check()
        except Unavailable as error:
            app.state.models_error = str(error)
            log.error("the trained regressors cannot be used", reason=str(error))
        except Exception:
            app.state.models_error = "the trained regressors cannot be loaded; see the log"
            log.exception("the trained regressors cannot be used")
        else:
            app.state.models_error = ""
            return
        await asyncio.sleep(WARM_UP_AGAIN_S)


async def _shut_down(app: FastAPI, loops: list[asyncio.Task[None]], database: Database, sidecar: Sidecar | None) -> None:
    app.state.draining = True
    running = set(loops)
    while running:
        for loop in running:
            loop.cancel()
        _, running = await asyncio.wait(running, timeout=1.0)
    app.state.simulations.workers.close()
    if sidecar:
        await sidecar.close()
    database.close()


def _add_service_routes(app: FastAPI) -> None:
    @app.get("/", tags=["service"])
    async def about() -> Info:
        """Say what this is."""
        return Info(message="budsim: what to deploy, how it will perform, what it will cost", param={"version": __version__})

    @app.get("/health", tags=["service"])
    @app.get("/healthz", include_in_schema=False)
    async def health(request: Request) -> Response:
        """Say whether the process lives; 503 once it is shutting down."""
        if request.app.state.draining:
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "shutting down")
        return JSONResponse(Info(message="ok").model_dump())

    @app.get("/ready", tags=["service"])
    async def ready(request: Request) -> Response:
        """Say what is up and what is not."""
        checks = await _readiness(request.app)
        status = HTTPStatus.OK if all(check["up"] for check in checks.values()) else HTTPStatus.SERVICE_UNAVAILABLE
        text = "ready" if status == HTTPStatus.OK else "not ready"
        return JSONResponse(Info(message=text, param=checks).model_dump(), status)

    @app.get("/metrics", tags=["service"])
    async def metrics(request: Request) -> Response:
        """Return the Prometheus figures."""
        return PlainTextResponse(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _readiness(app: FastAPI) -> dict[str, dict[str, object]]:
    state = app.state
    try:
        await asyncio.to_thread(state.database.check)
        database = ""
    except Exception as error:
        database = str(error) if isinstance(error, Unavailable) else "the database cannot be used; see the log"
    sidecar = state.sidecar
    reached = sidecar is None or await sidecar.is_ready()
    return {
        "database": {"up": not database, "detail": database or "ok"},
        "sidecar": {"up": reached, "detail": "not configured" if sidecar is None else "ok" if reached else "does not answer"},
        "models": {"up": not state.models_error, "detail": state.models_error or "ok"},
    }


def _add_error_table(app: FastAPI) -> None:
    @app.exception_handler(BudsimError)
    async def ours(_request: Request, error: BudsimError) -> Response:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("a shipped file is broken", exc_info=error)
            return error_response(status, "internal error")
        return error_response(status, str(error), getattr(error, "field", None))

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> Response:
        problems = [(_location(problem), str(problem["msg"])) for problem in error.errors()]
        if any(problem["type"] == "json_invalid" for problem in error.errors()):
            return error_response(HTTPStatus.BAD_REQUEST, "the body is not JSON", "body")
        told = "; ".join(f"{where}: {what}" for where, what in problems[:ERRORS_TOLD])
        return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, told, problems[0][0])

    @app.exception_handler(HTTPException)
    async def plain(_request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        return error_response(status, _phrase(status), headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, error: Exception) -> Response:
        log.error("unexpected error", exc_info=error)
        return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")


def error_response(
    status: HTTPStatus,
    message: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return the error envelope; 429 and 503 say when to come again."""
    headers = headers or {}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    body = Error(message=message, type=_error_type(status), param=param, code=status)
    return JSONResponse(body.model_dump(), status, headers=headers)


def _error_type(status: HTTPStatus) -> str:
    name = "".join(word.capitalize() for word in re.findall(r"[A-Za-z]+", _phrase(status)))
    return name if name.endswith("Error") else name + "Error"


def _phrase(status: HTTPStatus) -> str:
    return PHRASES.get(status, status.phrase)


def _location(problem: Any) -> str:
    where = [str(part) for part in problem["loc"]]
    return ".".join(where[1:] if len(where) > 1 else where)


class _Guard:
    """Checks the token, bounds the body, binds trace ids and counts requests, before anything is parsed."""

    def __init__(self, app: Asgi, state: Any) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        structlog.contextvars.clear_contextvars()
        if traceparent := headers.get(b"traceparent"):
            structlog.contextvars.bind_contextvars(traceparent=traceparent.decode("latin-1")[:64])
        refusal = self._refusal(scope["path"], headers)
        if refusal:
            await refusal(scope, receive, send)
            return
        await self._measured(scope, _Bounded(receive, self._state.settings.limits.max_body_bytes), send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> Response | None:
        settings: Settings = self._state.settings
        token = settings.app.app_api_token
        if token and path not in OPEN_PATHS:
            given = headers.get(TOKEN_HEADER, b"")
            if not hmac.compare_digest(given, token.get_secret_value().encode()):
                return error_response(HTTPStatus.UNAUTHORIZED, "the header dapr-api-token is missing or wrong", "dapr-api-token")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > settings.limits.max_body_bytes:
            return _too_large(settings)
        return None

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        seen = {"status": 500}

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            metrics: Metrics = self._state.metrics
            route = getattr(scope.get("route"), "path", "unknown")
            metrics.requests.labels(scope["method"], route, seen["status"]).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - started_s)


class _BodyTooLarge(HTTPException):
    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class _Bounded:
    """Receives a body and stops when it grows beyond a limit, whatever its headers said."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left = receive, limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _BodyTooLarge
        return message


def _too_large(settings: Settings) -> Response:
    limit = settings.limits.max_body_bytes
    return error_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limit} bytes", "body")


app = create_app()
