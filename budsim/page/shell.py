"""Serves the page's own files: one HTML document, one style sheet, one script.

They are the same for everybody and hold no data, so they need no token. The script asks for a token
when the service demands one, and sends it with every request for data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fastapi.responses import PlainTextResponse, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

ASSETS: Final = Path(__file__).parent / "assets"
# The files by their path, and their media type.
FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page/assets/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page/assets/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
MISSING: Final = "The page needs one more package: pip install 'budsim[ui]'\n"

SAFETY: Final = {
    # No script, style or address but the page's own: text that got in as HTML could do nothing.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "vary": "accept",
}


class PageFiles:
    """Answers browsers that open ``/``, and the requests for the files of the page.

    Parameters
    ----------
    app : ASGI application
        Answers everything else, programs that ask for ``/`` included.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        answer = _file(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)


def _file(scope: Scope) -> Response | None:
    """Return the file a request asks for; None where it asks for something else."""
    path = scope["path"]
    if path not in FILES or scope["method"] not in {"GET", "HEAD"}:
        return None
    if path == "/" and not _wants_html(scope):
        return None
    if find_spec("jinja2") is None:
        return PlainTextResponse(MISSING, HTTPStatus.NOT_IMPLEMENTED)
    name, media_type = FILES[path]
    return Response(_content(name), media_type=media_type, headers=SAFETY)


def _wants_html(scope: Scope) -> bool:
    """Say whether a browser asks: programs that read the service's name and version do not."""
    accepted = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    return b"text/html" in accepted


@cache
def _content(name: str) -> bytes:
    return (ASSETS / name).read_bytes()
