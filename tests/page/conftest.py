"""Fixtures of the page's tests: a service in a process of its own, and a headless Chromium."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.simulator import conftest as of_service
from tests.waiting import wait_for

REPOSITORY = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# Longest wait for one thing to be shown, ms; test machines are shared.
PATIENCE_MS = 100_000
expect.set_options(timeout=PATIENCE_MS)

OpenPage = Callable[..., Page]

body, client, make_client = of_service.body, of_service.client, of_service.make_client


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running service, and the file its log is written to."""

    url: str
    log: Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium; without one the tests are skipped, where CI runs they fail.

    Playwright keeps an event loop running in this thread until it is closed, and asynchronous tests
    of other modules need their own: so a module closes it at its end.
    """
    program = os.environ.get("TEST_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), "")
    if not program:
        told = "no Chromium here: apt-get install chromium-headless-shell"
        if os.environ.get("TEST_CHROMIUM_REQUIRED"):
            pytest.fail(told)
        pytest.skip(told)
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root, which containers of CI do.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start the service with the demo cluster and a token, and wait until it can answer."""
    folder = tmp_path_factory.mktemp("service")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    settings = {
        "APP_API_TOKEN": TOKEN,
        "DATABASE_URL": f"sqlite:///{folder / 'runs.db'}",
        "DRAIN_S": "0",
        "PYTHONPATH": str(REPOSITORY),
    }
    demo = REPOSITORY / "docs" / "examples" / "demo-cluster.yaml"
    command = [sys.executable, "-m", "budsim.cli", "serve", "--host", "127.0.0.1"]
    with log.open("w") as written:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--inventory", str(demo)],
            env={**os.environ, **settings},
            cwd=folder,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: _answers(f"{url}/ready"), longest_s=110)
        yield Service(url=url, log=log)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def open_page(browser: Browser, service: Service) -> Iterator[OpenPage]:
    """Open pages, each a person of their own; at the end no page may have logged an error."""
    contexts, complaints = [], []

    def note(message: ConsoleMessage) -> None:
        # The browser itself logs every refusal; the page shows it to the person.
        if message.type == "error" and not re.search("status of 4[0-9][0-9]", message.text):
            complaints.append(message.text)

    def make(*, sign_in: bool = True, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(service.url)
        if sign_in:
            page.get_by_label("Token").fill(TOKEN)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="What should I deploy?").wait_for()
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def asked(open_page: OpenPage) -> Page:
    """Open a page and ask the question that the form holds at first."""
    page = open_page(viewport={"width": 1200, "height": 900})
    ask(page)
    return page


def ask(page: Page) -> None:
    """Send the form and wait for the plans."""
    page.get_by_role("button", name=re.compile("^Ask$")).click()
    page.locator("#plan-1").wait_for()


def _answers(url: str) -> bool:
    try:
        with urlopen(url) as answer:
            return bool(answer.status == 200)
    except URLError:
        return False
