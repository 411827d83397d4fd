"""`budsim calibrate --from-metrics` learns from a running server without a benchmark."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from budsim.cli import run
from tests.performance.measured.test_server_metrics import exported

SETUP = ["--device", "H100-SXM", "--tp", "1", "--engine", "vllm"]


@pytest.fixture
def server() -> Iterator[str]:
    """Return the URL of a server that ended 100 more requests at each reading."""
    readings = iter(range(100, 10_000, 100))

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with metrics."""
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(exported(next(readings)).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_is_read_twice(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The requests that end between two readings become one configuration."""
    stored = tmp_path / "site.json"
    command = ["calibrate", "--from-metrics", server, "--window-s", "0.2", "-o", str(stored)]
    assert run([*command, *SETUP]) == 0
    told = capsys.readouterr()
    assert "100 requests in" in told.err
    assert "Qwen/Qwen3-8B" in told.out
    assert json.loads(stored.read_text())["sources"] == ["vllm-metrics"]


def test_saved_texts_are_read_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The later one first is a server that started again."""
    files = [tmp_path / "later.txt", tmp_path / "earlier.txt"]
    for file, requests in zip(files, (200, 100), strict=True):
        file.write_text(exported(requests))
    command = [part for file in files for part in ("--from-metrics", str(file))]
    assert run(["calibrate", *command, "-o", str(tmp_path / "site.json"), *SETUP]) == 2
    assert "started again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [[], ["--with", "rows.csv", "--from-metrics", "m.txt"]], ids=["none", "both"]
)
def test_rows_or_metrics_are_needed(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One of the two, not both."""
    assert run(["calibrate", *given]) == 2
    assert "--from-metrics" in capsys.readouterr().err
