"""Adds the page to the application: its files, its routes, and what it remembers."""

from __future__ import annotations

from fastapi import FastAPI

from budsim.page.remembered import RememberedAnswers
from budsim.page.routes import router
from budsim.page.shell import PageFiles

# An answer takes about 25 kB, with a cluster of 1,000 nodes about 1 MB.
ANSWERS_KEPT = 64


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/`` to browsers, and what it asks for below ``/page``.

    Nothing that only the page needs is loaded before somebody opens it.
    """
    app.state.page_answers = RememberedAnswers(ANSWERS_KEPT)
    app.include_router(router)
    # Outside of the token check: these files are the same for everybody and hold no data.
    app.add_middleware(PageFiles)
