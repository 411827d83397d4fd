"""The endpoints about the service itself: what it is, whether it lives, whether it is ready."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Request, Security
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from budsim.commons.errors import Unavailable
from budsim.simulator.http import examples
from budsim.simulator.http.application_state import ApplicationState, application_state
from budsim.simulator.http.error_envelopes import error_response
from budsim.simulator.http.examples import documented_answer
from budsim.simulator.routes import DOCUMENTED, TOKEN
from budsim.simulator.schemas import Info

Check = dict[str, object]
State = Annotated[ApplicationState, Depends(application_state)]
DISK_CHECK_BYTES = 4096
NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Info, "description": "Something is not up"}
}
log = structlog.get_logger()
router = APIRouter(tags=["service"])


def _documented(example: object, *statuses: int) -> dict[int | str, dict[str, Any]]:
    return documented_answer(example) | {status: DOCUMENTED[status] for status in statuses}


@router.get(
    "/",
    responses=_documented(examples.ABOUT, 401, 413, 429, 503),
    dependencies=[Security(TOKEN)],
)
async def about(request: Request) -> Info:
    """Say what this is."""
    return Info(
        message="budsim: what to deploy, how it will perform, what it will cost",
        param={"version": request.app.version},
    )


@router.get("/health", response_model=Info, responses=_documented(examples.ALIVE, 413, 503))
@router.head("/health", include_in_schema=False)
@router.get("/healthz", include_in_schema=False)
@router.head("/healthz", include_in_schema=False)
async def health(state: State) -> Response:
    """Say whether the process lives; 503 once it is shutting down."""
    if state.draining:
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "shutting down")
    return JSONResponse(Info(message="ok").model_dump())


@router.get("/ready", response_model=Info, responses=_documented(examples.READY, 413) | NOT_READY)
@router.head("/ready", include_in_schema=False)
async def ready(state: State) -> Response:
    """Say what is up and what is not."""
    checks = await state.shared("readiness", partial(_readiness, state))
    is_ready = all(check["up"] for check in checks.values())
    info = Info(message="ready" if is_ready else "not ready", param=checks)
    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(info.model_dump(), status)


@router.get("/metrics", response_class=PlainTextResponse, responses={413: DOCUMENTED[413]})
async def metrics(state: State) -> Response:
    """Return the Prometheus figures."""
    # Read when asked for: what waits is the same for all replicas, and changes without them.
    await state.shared("waiting", partial(_count_waiting, state))
    return PlainTextResponse(
        generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST
    )


async def _count_waiting(state: ApplicationState) -> None:
    """Update the figures of all replicas; they stay as they are while the database is away."""
    service, figures = state.simulations, state.metrics
    with suppress(Unavailable):
        figures.runs_waiting.set(await asyncio.to_thread(service.repository.waiting))
        count, oldest_s = await asyncio.to_thread(service.repository.outbox.unsent)
        figures.outbox_waiting.set(count)
        lag_s = service.clock() - oldest_s if oldest_s is not None else 0.0
        figures.outbox_lag.set(max(0.0, lag_s))


async def _readiness(state: ApplicationState) -> dict[str, Check]:
    database, disk = await asyncio.gather(
        asyncio.to_thread(_database_problem, state), asyncio.to_thread(_disk_problem, state)
    )
    sidecar, hub = state.sidecar, state.hub
    reached = sidecar is None or await sidecar.is_ready()
    serving = hub is None or await hub.is_serving()
    return {
        "database": _check(database),
        "disk": _check(disk),
        "sidecar": _check(
            "" if reached else "does not answer", "ok" if sidecar else "not configured"
        ),
        "workflows": _check(
            "" if serving else "no work comes in", "ok" if hub else "in this process"
        ),
        "models": _check(state.models_error),
    }


def _check(problem: str, detail: str = "ok") -> Check:
    return {"up": not problem, "detail": problem or detail}


def _database_problem(state: ApplicationState) -> str:
    """Return why the database cannot be used; empty when it can."""
    try:
        state.database.check()
    except Unavailable as error:
        return str(error)
    except Exception:
        log.exception("the database cannot be used")
        return "the database cannot be used; see the log"
    return ""


def _disk_problem(state: ApplicationState) -> str:
    """Return why nothing can be written where the service writes; empty when it can.

    That is the folder of a SQLite database, or the folder for temporary files: reading from a
    database works on a full disk, so only writing shows it.
    """
    path = state.database.file
    folder = path.parent if path else Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(DISK_CHECK_BYTES))
            file.flush()
            os.fsync(file.fileno())  # a full disk may show only when the data is written through
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return "the disk is full"
        return "nothing can be written to the disk"
    return ""
