"""Downloads from the model hub are bounded in size, time and redirects."""

import gzip
import json
from collections.abc import Iterator

import httpx
import pytest

from budsim.commons import hub
from budsim.commons.errors import Unavailable
from budsim.commons.hub import LARGEST_BYTES, fetch_config

CONFIG = json.dumps({"model_type": "llama"}).encode()


def answering(*answers: httpx.Response) -> httpx.MockTransport:
    """Return a network that gives these answers, the last again and again."""
    left = list(answers)
    return httpx.MockTransport(lambda _request: left.pop(0) if len(left) > 1 else left[0])


def redirect(to: str) -> httpx.Response:
    """Return a redirect."""
    return httpx.Response(302, headers={"location": to})


def test_a_config_is_returned_as_it_is():
    """Bytes in, bytes out; a model the hub does not know is None."""
    assert (
        fetch_config("a/b", transport=answering(httpx.Response(200, content=iter([CONFIG]))))
        == CONFIG
    )
    assert fetch_config("a/b", transport=answering(httpx.Response(404))) is None


def test_a_redirect_within_the_hub_is_followed():
    """The hub serves files from its content network."""
    answers = redirect("https://cdn-lfs.hf.co/x"), httpx.Response(200, content=iter([CONFIG]))
    assert fetch_config("a/b", transport=answering(*answers)) == CONFIG


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://evil.example/huggingface.co",
        "https://nothuggingface.co/x",
        "http://huggingface.co/x",
    ],
)
def test_a_redirect_elsewhere_is_not_followed(to: str):
    """Neither to another site nor to plain HTTP."""
    answers = redirect(to), httpx.Response(200, content=iter([CONFIG]))
    with pytest.raises(Unavailable, match="another site"):
        fetch_config("a/b", transport=answering(*answers))


def test_redirects_end():
    """A loop is given up."""
    with pytest.raises(Unavailable, match="more than 3 times"):
        fetch_config("a/b", transport=answering(redirect("https://huggingface.co/again")))


def test_a_download_ends_at_its_largest_size():
    """The rest of an endless answer is not read."""
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 65_536
            yield bytes(65_536)

    with pytest.raises(Unavailable, match="more than"):
        fetch_config("a/b", transport=answering(httpx.Response(200, content=endless())))
    assert read <= LARGEST_BYTES + 2 * 65_536


def test_compressed_content_is_not_unpacked():
    """50 MB of zeros as 50 kB of gzip stay 50 kB, which is no JSON later on."""
    packed = gzip.compress(bytes(50_000_000))
    answer = httpx.Response(200, content=iter([packed]), headers={"content-encoding": "gzip"})
    assert fetch_config("a/b", transport=answering(answer)) == packed


def test_a_slow_download_ends(monkeypatch: pytest.MonkeyPatch):
    """The time limit is for the whole download, not for each byte."""
    times = iter([0.0, 1.0, hub.TIMEOUT_S + 1.0])
    monkeypatch.setattr(hub.time, "monotonic", lambda: next(times))
    slowly = httpx.Response(200, content=iter([b"{", b"}"]))
    with pytest.raises(Unavailable, match="longer than"):
        fetch_config("a/b", transport=answering(slowly))


@pytest.mark.parametrize("name", ["a", "../b", "a/b/c", "a/b?x", "https://x/y"])
def test_only_names_of_models_are_asked_for(name: str):
    """What is no `owner/name` reaches no network."""
    assert fetch_config(name, transport=answering(httpx.Response(500))) is None
