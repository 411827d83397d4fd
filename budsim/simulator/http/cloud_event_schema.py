"""The CloudEvent around a request, as a named schema of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from budsim.simulator.http import examples
from budsim.simulator.schemas import MAX_TEXT

NAME = "CloudEvent"
CLOUD_EVENT_SCHEMA = {"$ref": f"#/components/schemas/{NAME}"}

_CLOUD_EVENT: dict[str, Any] = {
    "title": NAME,
    "description": "A message of Dapr's pub/sub: `data` is the request.",
    "type": "object",
    "required": ["topic", "pubsubname", "data"],
    "properties": {
        **{
            name: {"type": "string", "maxLength": MAX_TEXT}
            for name in ("specversion", "id", "type", "source", "topic", "pubsubname")
        },
        "data": {"$ref": "#/components/schemas/RunRequest"},
    },
    "example": examples.CLOUD_EVENT,
}


def add_cloud_event(app: FastAPI) -> None:
    """Let the document of an application name the schema of CloudEvents.

    FastAPI names only the models of its parameters; a schema written in place would be a class with
    a made-up name in every generated client.
    """
    written = app.openapi

    def with_cloud_event() -> dict[str, Any]:
        """Return the document with the schema among its components."""
        document = written()
        document["components"]["schemas"].setdefault(NAME, _CLOUD_EVENT)
        return document

    app.openapi = with_cloud_event  # type: ignore[method-assign]
