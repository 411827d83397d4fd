"""The service as a process: it starts with every form of its settings, and ends in bounded time."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from budsim.cli import run
from tests.soak.stack import free_port, inventory
from tests.waiting import wait_for

SERVE = ["-m", "budsim.cli", "serve"]
UVICORN = ["-m", "uvicorn", "budsim.main:app", "--log-level", "warning"]
BODY = {
    "pretrained_model_uri": "meta-llama/Llama-3.1-8B-Instruct",
    "is_proprietary_model": False,
    "input_tokens": 1024,
    "output_tokens": 256,
    "concurrency": 64,
    "target_ttft": 1500,
    "target_throughput_per_user": 20,
    "target_e2e_latency": 20,
    "debug": True,
}


class Service:
    """The service in a process of its own."""

    def __init__(self, command: list[str], folder: Path, **settings: str) -> None:
        self.port, self.folder = free_port(), folder
        (folder / "inventory.json").write_text(json.dumps(inventory()))
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "APP_PORT": str(self.port),
            "INVENTORY_FILE": str(folder / "inventory.json"),
            "WORKER_PROCESSES": "0",
            "DRAIN_S": "0.3",
            "SHUTDOWN_S": "1",
        }
        if "uvicorn" in command:
            command = [*command, "--port", str(self.port)]
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=given | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._said = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                self._said += line

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._said.decode()

    def status(self, path: str, body: dict[str, Any] | None = None) -> int:
        """Return the status of an answer; 0 without one."""
        content = json.dumps(body).encode() if body else None
        headers = {"content-type": "application/json"}
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, content, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        wait_for(lambda: self.status("/health") == 200 or self._process.poll() is not None, 60)
        assert self._process.poll() is None, self.said

    def ended(self, longest_s: float) -> int:
        """Return the status it ends with."""
        return self._process.wait(longest_s)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> float:
        """Send SIGTERM; return how long it takes to end, s."""
        started_s = time.monotonic()
        self.terminate()
        self.ended(60)
        return time.monotonic() - started_s

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._listener.join(30)


@contextlib.contextmanager
def service(command: list[str], folder: Path, **settings: str) -> Iterator[Service]:
    """Run the service."""
    running = Service(command, folder, **settings)
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the service with two workers and eight places for debug runs."""
    given = {"WORKER_PROCESSES": "2", "MAX_SYNCHRONOUS_RUNS": "8"}
    folder = tmp_path_factory.mktemp("service")
    with service(SERVE, folder, DATABASE_URL="sqlite:///here.db", **given) as started:
        started.wait_until_up()
        wait_for(lambda: started.status("/ready") == 200, 60)
        yield started


def test_it_listens_on_app_port(running: Service):
    """`budsim serve` without --port; the database is the file DATABASE_URL names."""
    assert running.status("/ready") == 200
    assert (running.folder / "here.db").is_file()


def test_it_starts_with_a_postgres_url_as_documented(tmp_path: Path, postgres_url: str):
    """Without naming the driver."""
    url = postgres_url.replace("postgresql+psycopg2", "postgresql")
    with service(SERVE, tmp_path, DATABASE_URL=url) as running:
        running.wait_until_up()
        assert wait_for(lambda: running.status("/ready") == 200, 60)
    assert not list(tmp_path.glob("*.db"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [("DATABASE_URL", "postgresql+psycopg://u:S3cretWord@db/n"), ("LEASE_S", "soon")],
)
def test_a_wrong_setting_is_one_line(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """It names the variable, without a traceback and without the value."""
    monkeypatch.setenv(variable, value)
    assert run(["serve"]) != 0
    (line,) = capfd.readouterr().err.splitlines()
    assert variable in line
    assert "S3cretWord" not in line


def test_a_wrong_setting_is_one_line_under_uvicorn(tmp_path: Path):
    """It ends without a traceback."""
    with service(UVICORN, tmp_path, ENVIRONMENT="production") as running:
        assert running.ended(100) != 0
        wait_for(lambda: running.said)
        assert "Traceback" not in running.said, running.said
        (_,) = [line for line in running.said.splitlines() if "APP_API_TOKEN" in line]


def test_a_wrong_setting_is_one_line_for_migrations_too(tmp_path: Path):
    """`alembic upgrade head` from the terminal."""
    repository = Path(__file__).parents[3]
    environment = os.environ | {"DATABASE_URL": "mysql://x", "PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    ran = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0
    assert "DATABASE_URL" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_headers_are_bounded_however_it_is_started(tmp_path: Path):
    """Also by uvicorn: a header of 1 MB is refused at once; the next request is answered."""
    with service(UVICORN, tmp_path) as running:
        running.wait_until_up()
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as peer:
            with contextlib.suppress(OSError):
                peer.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 1_000_000)
            with contextlib.suppress(ConnectionResetError):
                assert b" 431 " in peer.recv(100)
        assert running.status("/health") == 200


def test_nothing_under_way_holds_up_its_end(tmp_path: Path):
    """Fifty bodies that never arrive and sixteen debug runs: 503 after the grace, and no 500."""
    limits = {"ARRIVAL_S": "2", "WORKER_PROCESSES": "1", "SIMULATION_TIMEOUT_S": "600"}
    with service(SERVE, tmp_path, **limits) as running:
        running.wait_until_up()
        wait_for(lambda: running.status("/ready") == 200, 60)
        found: list[int] = []

        def ask(number: int) -> None:
            found.append(running.status("/simulator/run", BODY | {"concurrency": 64 + number}))

        callers = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for caller in callers:
            caller.start()
        head = b"POST /simulator/run HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
        peers = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(50)]
        for peer in peers:
            peer.sendall(head)
        time.sleep(0.5)
        assert running.stop() < 20
        for caller in callers:
            caller.join()
        for peer in peers:
            peer.close()
    assert set(found) <= {0, 200, 503}  # 0: the server had closed its port before the call
    assert 503 in found


def test_an_orderly_end_says_so_first(tmp_path: Path):
    """After SIGTERM health is 503 while the server still answers; then it exits by itself."""
    with service(UVICORN, tmp_path, DRAIN_S="1") as running:
        running.wait_until_up()
        running.terminate()
        wait_for(lambda: running.status("/health") == 503)
        assert running.ended(30) in {0, -signal.SIGTERM}


def test_sixteen_debug_callers_are_answered_or_told_to_come_again(running: Service):
    """Two workers, sixteen callers: no 500, whatever the time they wait."""
    found: list[int] = []

    def ask(number: int) -> None:
        asked = BODY | {"concurrency": 64 + number, "simulation_method": "heuristic"}
        found.append(running.status("/simulator/run", asked))

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert set(found) <= {200, 503}
    assert found.count(200) >= 8
