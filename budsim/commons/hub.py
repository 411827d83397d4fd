"""Downloads a model's config.json from the public model hub, with bounds on size and time.

Reached only from the composition roots, and only when the settings allow it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import httpx

from budsim.commons.errors import Unavailable

HUB = "https://huggingface.co"
# Hosts a download may be redirected to, and the hosts below them (the hub's content network).
TRUSTED_HOSTS = ("huggingface.co", "hf.co")
# For the whole download: a server that sends a byte now and then never meets a read timeout.
TIMEOUT_S = 10.0
# A config.json has some thousand bytes; the largest known, with 300,000 label names, has 3 MB.
LARGEST_BYTES = 4_000_000

MOST_REDIRECTS = 3


def fetch_config(name: str, *, transport: httpx.BaseTransport | None = None) -> bytes | None:
    """Return the content of a model's config.json, or None when the hub has no such model.

    ``transport`` takes the place of the network, for tests.

    Raises
    ------
    Unavailable
        The hub does not answer in time, or answers with more than a config.json can be.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        return None
    ends_s = time.monotonic() + TIMEOUT_S
    # Uncompressed: a megabyte of gzip can hold a gigabyte of zeros.
    headers = {"accept-encoding": "identity"}
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT_S, headers=headers) as client:
            return _download(client, f"{HUB}/{name}/resolve/main/config.json", name, ends_s)
    except httpx.HTTPError as error:
        reason = type(error).__name__
        raise Unavailable(f"the model hub does not answer for {name}: {reason}") from error


def _download(client: httpx.Client, url: str, name: str, ends_s: float) -> bytes | None:
    for _ in range(1 + MOST_REDIRECTS):
        with client.stream("GET", url) as answer:
            if answer.next_request is None:
                if answer.status_code != httpx.codes.OK:
                    return None
                return _bounded(answer.iter_raw(), name, ends_s)
            target = answer.next_request.url
        if target.scheme != "https" or not _is_trusted(target.host):
            raise Unavailable(f"the model hub redirects {name} to another site: {target.host}")
        url = str(target)
    raise Unavailable(f"the model hub redirects {name} more than {MOST_REDIRECTS} times")


def _is_trusted(host: str) -> bool:
    return any(host == known or host.endswith("." + known) for known in TRUSTED_HOSTS)


def _bounded(chunks: Iterable[bytes], name: str, ends_s: float) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > LARGEST_BYTES:
            raise Unavailable(f"the config.json of {name} has more than {LARGEST_BYTES} bytes")
        if time.monotonic() > ends_s:
            raise Unavailable(f"the config.json of {name} took longer than {TIMEOUT_S:g} s")
    return bytes(content)
