#!/usr/bin/env python
"""Generate a client from the service's OpenAPI document and call the running service with it.

    make client

The generator (openapi-python-client, versions locked in scripts/client.lock) is installed into an
environment of its own. The service runs on loopback with the demo inventory and a database that is
deleted afterwards. Exits with 1 when the document cannot be read without a warning, or when a call
of scripts/client_calls.py does not answer what it should.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

HERE = Path(__file__).parent
ROOT = HERE.parent
SLOWEST_START_S = 60.0


def main() -> int:
    """Install the generator, start the service, generate, call."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = installed(folder / "venv")
        with served(folder) as address:
            document = folder / "openapi.json"
            document.write_text(httpx.get(f"{address}/openapi.json").text)
            generate(python, document, folder / "budsim_client")
            environment = os.environ | {"PYTHONPATH": str(folder)}
            calls = [str(python), str(HERE / "client_calls.py"), address]
            return subprocess.run(calls, env=environment, check=False).returncode


def installed(venv: Path) -> Path:
    """Return the Python of a new environment that has the generator."""
    uv = Path(sys.executable).with_name("uv")
    python, lock = venv / "bin" / "python", HERE / "client.lock"
    subprocess.run([uv, "venv", "--quiet", venv], check=True)
    install = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", python, "-r", lock]
    subprocess.run(install, check=True)
    return python


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run the service on a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inventory = ROOT / "docs" / "examples" / "demo-cluster.yaml"
    asked = ["--host", "127.0.0.1", "--port", str(port), "--inventory", str(inventory)]
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{folder / 'runs.sqlite3'}"}
    command = [sys.executable, "-m", "budsim.cli", "serve", *asked]
    log = folder / "service.log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            command, env=environment, stdout=written, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_healthy(address)
            yield address
        except TimeoutError:
            print(log.read_text()[-2000:])
            raise
        finally:
            process.terminate()


def wait_until_healthy(address: str) -> None:
    """Return when the service answers.

    Raises
    ------
    TimeoutError
        It does not within a minute.
    """
    end = time.monotonic() + SLOWEST_START_S
    while time.monotonic() < end:
        try:
            if httpx.get(f"{address}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(f"{address} does not answer")


def generate(python: Path, document: Path, output: Path) -> None:
    """Write the client; a warning of the generator is an error."""
    settings = document.with_name("generator.yaml")
    settings.write_text("post_hooks: []\n")
    command = [python.with_name("openapi-python-client"), "generate", "--path", document]
    command += ["--output-path", output, "--config", settings, "--meta", "none"]
    subprocess.run([*command, "--fail-on-warning"], check=True)


if __name__ == "__main__":
    sys.exit(main())
