"""Reads a running server's metrics, from its URL or from saved texts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from budsim.cli.progress import progress
from budsim.commons.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from budsim.performance.measured.server_metrics import Scrape

TIMEOUT_S = 10.0
# Steps in which the wait between two readings is shown.
TICKS = 20


def read_metrics(places: Sequence[str], window_s: float) -> Iterator[tuple[str, object]]:
    """Yield what a URL, or one or two files, tell, with the place it is from.

    Raises
    ------
    InvalidInput
        When there are more than two places, or a file cannot be read.
    Unavailable
        When a server does not answer.
    """
    from budsim.performance.measured.server_metrics import Window

    if len(places) > 2:
        raise InvalidInput("--from-metrics", f"is given {len(places)} times", "once or twice")
    scrapes = [_of_place(place) for place in places]
    if len(places) == 1 and _is_url(places[0]) and window_s > 0:
        _wait(window_s)
        scrapes.append(_of_place(places[0]))
    before = scrapes[0] if len(scrapes) > 1 else None
    yield places[-1], Window(after=scrapes[-1], before=before)


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _of_place(place: str) -> Scrape:
    from budsim.performance.measured.server_metrics import read_scrape

    if _is_url(place):
        return read_scrape(_fetched(place), at_s=time.time())
    try:
        path = Path(place)
        return read_scrape(path.read_text(encoding="utf-8"), at_s=path.stat().st_mtime)
    except (OSError, UnicodeDecodeError) as error:
        expected = "a URL (http://HOST:8000) or a saved text of /metrics"
        raise InvalidInput("--from-metrics", f"{place} cannot be read", expected) from error


def _fetched(url: str) -> str:
    import httpx

    whole = url if url.rstrip("/").endswith("/metrics") else f"{url.rstrip('/')}/metrics"
    try:
        answer = httpx.get(whole, timeout=TIMEOUT_S, follow_redirects=True)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{whole} does not answer: {error}") from error
    return answer.text


def _wait(window_s: float) -> None:
    with progress("waiting for requests to end") as report:
        for tick in range(TICKS):
            time.sleep(window_s / TICKS)
            report((tick + 1) / TICKS)
