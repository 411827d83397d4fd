"""A real Dapr for a soak: placement, scheduler, and a sidecar for each replica.

Its three programs are found on the PATH; the components are those of `deploy/components`.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.soak.processes import REPOSITORY, Process, free_port

PROGRAMS = ("daprd", "placement", "scheduler")
APP_ID = "budsim"
SHUTDOWN_S = 20
"""So long a sidecar waits for its replica to end; a soak drains faster than production."""


def missing_programs() -> list[str]:
    """Return the programs of Dapr that are not on the PATH."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class RealDapr:
    """The control plane, and the sidecars that use it."""

    def __init__(self, folder: Path, redis_url: str, *topics: str) -> None:
        self._folder = folder
        self._placement_port, self._scheduler_port = free_port(), free_port()
        self._components(redis_url, topics)
        self.placement = self._process(
            "placement", f"--port={self._placement_port}", f"--initial-cluster={_raft_peer()}"
        )
        peer, client = free_port(), free_port()
        self.scheduler = self._process(
            "scheduler",
            f"--port={self._scheduler_port}",
            f"--etcd-data-dir={folder / 'scheduler'}",
            f"--etcd-client-port={client}",
            f"--etcd-initial-cluster=dapr-scheduler-server-0=http://localhost:{peer}",
            # Sidecars on this machine cannot look up the name that it would tell by itself.
            f"--override-broadcast-host-port=127.0.0.1:{self._scheduler_port}",
        )

    def start(self) -> None:
        """Start the control plane; sidecars wait for it."""
        self.placement.start()
        self.scheduler.start()

    def sidecar(self, app_port: int, environment: Mapping[str, str]) -> Process:
        """Return a sidecar of the replica on ``app_port``, with its ports and tokens."""
        return self._process(
            "daprd",
            f"--app-id={APP_ID}",
            f"--app-port={app_port}",
            f"--dapr-http-port={environment['DAPR_HTTP_PORT']}",
            f"--dapr-grpc-port={environment['DAPR_GRPC_PORT']}",
            f"--dapr-internal-grpc-port={free_port()}",
            "--dapr-listen-addresses=127.0.0.1",
            f"--placement-host-address=127.0.0.1:{self._placement_port}",
            f"--scheduler-host-address=127.0.0.1:{self._scheduler_port}",
            f"--resources-path={self._folder / 'components'}",
            f"--config={self._folder / 'components' / 'config.yaml'}",
            "--max-body-size=64Mi",
            f"--dapr-block-shutdown-duration={SHUTDOWN_S}s",
            environment=environment,
        )

    def stop(self) -> None:
        """End the control plane."""
        self.placement.end()
        self.scheduler.end()

    def _process(
        self, program: str, *options: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        command = [program, *options, "--enable-metrics=false", "--log-level=warn"]
        if program != "daprd":
            command += [f"--healthz-port={free_port()}", "--listen-address=127.0.0.1"]
        return Process(command, self._folder / f"{program}.log", environment)

    def _components(self, redis_url: str, topics: tuple[str, ...]) -> None:
        """Write the shipped components for this Redis, with further topics to publish on."""
        address = redis_url.removeprefix("redis://").partition("/")[0]
        here = self._folder / "components"
        here.mkdir()
        for file in (REPOSITORY / "deploy" / "components").glob("*.yaml"):
            text = file.read_text().replace("redis:6379", address)
            named = ",".join(("pipelineMessages", *topics))
            (here / file.name).write_text(text.replace("pipelineMessages", named))


def _raft_peer() -> str:
    return f"dapr-placement-0=127.0.0.1:{free_port()}"
