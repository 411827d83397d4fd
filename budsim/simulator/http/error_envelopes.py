"""Turns every error into the error envelope: its status, its message, its field."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

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
from budsim.simulator.schemas import Error

# The HTTP status of each error of ours; the first class that matches counts.
STATUSES: tuple[tuple[type[BudsimError], HTTPStatus], ...] = (
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Unanswerable, HTTPStatus.BAD_REQUEST),
    (Conflict, HTTPStatus.CONFLICT),
    (Busy, HTTPStatus.TOO_MANY_REQUESTS),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (CatalogError, HTTPStatus.INTERNAL_SERVER_ERROR),
)

RETRY_AFTER_S = 5
# Problems of one body that its answer names.
MOST_PROBLEMS = 5
# Characters of a content type that are repeated in a message.
LONGEST_TYPE = 80
# Phrases that changed between Python versions; callers compare the error types made of them.
PHRASES = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}

UNREADABLE = "the body cannot be read; expected JSON in UTF-8 that is not nested too deeply"

log = structlog.get_logger()


def add_error_table(app: FastAPI) -> None:
    """Answer every error of the application with the envelope."""
    app.exception_handler(BudsimError)(_answer_ours)
    app.exception_handler(RequestValidationError)(_answer_invalid_body)
    app.exception_handler(HTTPException)(_answer_http_error)
    app.exception_handler(Exception)(_answer_unexpected)


async def _answer_ours(_request: Request, error: BudsimError) -> Response:
    """Answer an error of this package with the status of its kind."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    # The message names files of the installation, which are no business of callers.
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("a shipped file is broken", exc_info=error)
        return error_response(status, "internal error")
    return error_response(status, str(error), getattr(error, "field", None))


async def _answer_invalid_body(request: Request, error: RequestValidationError) -> Response:
    """Answer a body that is not JSON, has the wrong type, or breaks the schema."""
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return error_response(HTTPStatus.BAD_REQUEST, "the body is not JSON", "body")
    # A body of another type reaches the validation as text and would be called "no object".
    kind = request.headers.get("content-type", "")
    if (
        any(tuple(problem["loc"]) == ("body",) for problem in problems)
        and kind
        and not _is_json(kind)
    ):
        told = f"a body of type {kind[:LONGEST_TYPE]} is not read; send application/json"
        return error_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told, "content-type")
    told = "; ".join(
        f"{_location(problem)}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in problems[:MOST_PROBLEMS]
    )
    return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, told, _location(problems[0]))


async def _answer_http_error(_request: Request, error: HTTPException) -> Response:
    """Answer an error of the framework, such as an unknown path, with the envelope."""
    status, headers = HTTPStatus(error.status_code), dict(error.headers or {})
    if status == HTTPStatus.BAD_REQUEST:
        return error_response(status, UNREADABLE, "body", headers)
    return error_response(status, _phrase(status), headers=headers)


async def _answer_unexpected(_request: Request, error: Exception) -> Response:
    """Log an error that nothing else handles and answer 500 without details."""
    # Callers are told nothing of it: the text of an exception may hold a secret.
    log.error("unexpected error", exc_info=error)
    return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")


def error_response(
    status: HTTPStatus,
    message: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return the error envelope; 429 and 503 say when to try again."""
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


def _is_json(kind: str) -> bool:
    return (
        kind.split(";", maxsplit=1)[0]
        .strip()
        .lower()
        .removeprefix("application/")
        .rpartition("+")[2]
        == "json"
    )


def _location(problem: Any) -> str:
    if field := problem.get("ctx", {}).get("field"):
        return str(field)
    where = [str(part) for part in problem["loc"]]
    return ".".join(where[1:] if len(where) > 1 else where)
