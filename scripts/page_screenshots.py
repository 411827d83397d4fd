"""Take the pictures of the page in docs/images: light, dark and narrow.

Starts the service with the demo cluster, asks the question of the form in a headless Chromium, and
writes PNG files. Run it as `.venv/bin/python scripts/page_screenshots.py`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 180
# Name of a picture, its colours, and the size of its window in pixels.
PICTURES = (("page-light", "light", 1100, 1300), ("page-dark", "dark", 1100, 1300))
NARROW = ("page-narrow", "light", 360, 1000)


def main() -> int:
    """Write the pictures; return 1 where there is no Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        print("no Chromium here: apt-get install chromium-headless-shell", file=sys.stderr)
        return 1
    with service() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, colours, width, height in (*PICTURES, NARROW):
            page = asked(browser, url, colours, width, height)
            # From the answer on: the form above it is the same in all pictures.
            page.locator("#answer").evaluate("element => element.scrollIntoView()")
            page.screenshot(path=IMAGES / f"{name}.png")
            page.context.close()
        browser.close()
    return 0


def asked(browser: Browser, url: str, colours: str, width: int, height: int) -> Page:
    """Return a page that shows an answer, with the load curve of its first plan."""
    page = opened(browser, url, colours, width, height)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#plan-1").wait_for()
    page.locator("#plan-1").get_by_text("Load against latency").click()
    page.locator("#plan-1 .load svg.chart").wait_for()
    return page


def opened(browser: Browser, url: str, colours: str, width: int, height: int) -> Page:
    """Return a page whose form can be filled in."""
    scheme = "dark" if colours == "dark" else "light"
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    page.goto(url)
    page.locator("#question").wait_for()
    return page


@contextmanager
def service() -> Iterator[str]:
    """Run the service on a free port and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    demo = ROOT / "docs" / "examples" / "demo-cluster.yaml"
    command = [sys.executable, "-m", "budsim.cli", "serve", "--host", "127.0.0.1"]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"DATABASE_URL": f"sqlite:///{folder}/runs.db", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [*command, "--port", str(port), "--inventory", str(demo)],
            env={**os.environ, **settings},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(f"{url}/ready")
            yield url
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(url: str) -> None:
    """Wait until the service has loaded its regressors."""
    ends_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_s:
        try:
            with urlopen(url):
                return
        except URLError:
            time.sleep(0.2)
    raise TimeoutError("the service does not become ready")


if __name__ == "__main__":
    raise SystemExit(main())
