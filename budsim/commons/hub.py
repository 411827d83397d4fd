"""Asks the public model hub for a file; reached only from the composition roots, and only when the settings allow it."""

from __future__ import annotations

import re

import httpx

from budsim.commons.errors import Unavailable

HUB = "https://huggingface.co"
TIMEOUT_S = 10.0


def fetch_config(name: str) -> bytes | None:
    """Return the content of a model's config.json, or None when the hub has no such model.

    Raises
    ------
    Unavailable
        The hub does not answer.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        return None
    try:
        answer = httpx.get(
            f"{HUB}/{name}/resolve/main/config.json", timeout=TIMEOUT_S, follow_redirects=True
        )
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the model hub does not answer for {name}: {type(error).__name__}"
        ) from error
    return answer.content if answer.status_code == httpx.codes.OK else None
