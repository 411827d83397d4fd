"""Child processes that a soak starts, kills and starts again."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


class Process:
    """A child process that can be killed and started again with the same arguments."""

    def __init__(
        self, arguments: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._arguments, self._log = arguments, log
        self._environment = {**os.environ, **(environment or {})}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the child that runs."""
        assert self._child is not None
        return self._child.pid

    def start(self) -> None:
        """Start it; `is_listening` tells when it is there."""
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                self._arguments, cwd=REPOSITORY, env=self._environment, stdout=log, stderr=log
            )

    def end(self, how: signal.Signals = signal.SIGTERM, longest_s: float = 30.0) -> None:
        """Send a signal and wait until the process is gone."""
        if self._child is None:
            return
        self._child.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(longest_s)
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        self._child = None


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
