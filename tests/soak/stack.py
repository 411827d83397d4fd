"""The stack of a soak: Postgres, Redis, a sidecar, replicas of the service."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis
import sqlalchemy as sa

from tests.soak.processes import Process, free_port
from tests.soak.real_dapr import RealDapr
from tests.soak.traffic import TOPIC

INVENTORY_KEY = "cluster_info"
CLUSTER_ID = "0b8f4f5e-8a5e-5b0c-9d61-6f6f2d3a7c10"
START_S = 300.0
POLL_S = 0.1


class Replica:
    """One process of the service and its workers."""

    def __init__(self, port: int, log: Path, environment: Mapping[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.dapr_http_port = int(environment["DAPR_HTTP_PORT"])
        self.sidecar: Process | None = None
        server = [
            "-m",
            "budsim.cli",
            "serve",
            "--port",
            str(port),
        ]
        self.process = Process([sys.executable, *server], log, environment)

    def start(self) -> None:
        """Start it and wait until it is ready, models included."""
        self.process.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until `/ready` says so."""
        wait_until(lambda: _status(self.url + "/ready") == 200, f"{self.url} is ready")

    def cpu_s(self) -> float:
        """Return the CPU time that the process and its descendants have used, s."""
        return sum(_cpu_s(pid) for pid in _family(self.process.pid))

    def resident_bytes(self) -> int:
        """Return the proportional memory of the process and all its descendants."""
        return sum(_proportional_bytes(pid) for pid in _family(self.process.pid))


class Stack:
    """A database, a Redis, a sidecar, and replicas of the service that use them.

    With ``real_dapr`` each replica has a sidecar of its own; otherwise all share the stand-in.
    """

    def __init__(self, folder: Path, server_url: str, *, real_dapr: bool) -> None:
        self.folder = folder
        name = f"soak_{uuid.uuid4().hex[:12]}"
        self._server = sa.create_engine(
            server_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        self.database_url = (
            sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
        )
        self._administer(f'CREATE DATABASE "{name}"')
        self._name = name
        port = free_port()
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        store = ["--appendonly", "yes", "--save", "", "--dir", str(folder)]
        self.redis = Process(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(port), *store],
            folder / "redis.log",
        )
        self._sidecar_port = free_port()
        serving = ["-m", "tests.soak.sidecar", str(self._sidecar_port), self.redis_url]
        self.sidecar = Process([sys.executable, *serving], folder / "sidecar.log")
        self.replicas: list[Replica] = []
        self.dapr = RealDapr(folder, self.redis_url, TOPIC) if real_dapr else None

    def start(self, replicas: int, **settings: str) -> None:
        """Start everything; ``settings`` are environment variables of the service."""
        self.redis.start()
        broker = redis.Redis.from_url(self.redis_url)
        wait_until(lambda: _pings(broker), "Redis answers")
        broker.hset(INVENTORY_KEY, mapping={"data": json.dumps(inventory()), "version": 1})
        if self.dapr:
            self.dapr.start()
        else:
            self.start_sidecar()
        self.replicas = [self._replica(index, settings) for index in range(replicas)]
        for replica in self.replicas:
            for process in (replica.process, replica.sidecar):
                if process:
                    process.start()
        for replica in self.replicas:
            replica.wait_until_ready()

    def _replica(self, index: int, settings: Mapping[str, str]) -> Replica:
        log, environment, port = (
            self.folder / f"replica-{index}.log",
            self._environment(),
            free_port(),
        )
        if self.dapr is None:
            return Replica(port, log, environment | settings)
        ports = {"DAPR_HTTP_PORT": str(free_port()), "DAPR_GRPC_PORT": str(free_port())}
        replica = Replica(port, log, environment | ports | settings)
        replica.sidecar = self.dapr.sidecar(port, ports | settings)
        return replica

    def start_sidecar(self) -> None:
        """Start the sidecar and wait until it answers."""
        self.sidecar.start()
        wait_until(
            lambda: _status(f"http://127.0.0.1:{self._sidecar_port}/v1.0/healthz/outbound") == 204,
            "the sidecar answers",
        )

    def restart_postgres(self) -> None:
        """Stop the database server as a crash would, and start it again with the same options."""
        store = Path(os.environ["TEST_SERVERS_FOLDER"]) / "postgres"
        pg_ctl = Path(os.environ["TEST_POSTGRES_BIN"]) / "pg_ctl"
        owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [
            *owner,
            str(pg_ctl),
            "-D",
            str(store / "cluster"),
            "-l",
            str(store / "log"),
            "-m",
            "immediate",
            "-w",
            "restart",
        ]
        subprocess.run(
            command, cwd=store, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        """End every process and drop the database."""
        for replica in self.replicas:
            replica.process.end()
            if replica.sidecar:
                replica.sidecar.end()
        if self.dapr:
            self.dapr.stop()
        self.sidecar.end()
        self.redis.end()
        self._administer(f'DROP DATABASE "{self._name}" WITH (FORCE)')
        self._server.dispose()

    def _environment(self) -> dict[str, str]:
        return {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self.database_url,
            "DAPR_HTTP_PORT": str(self._sidecar_port),
            "DAPR_TIMEOUT_S": "5",
            "WORKER_PROCESSES": "2",
        }

    def _administer(self, statement: str) -> None:
        with self._server.connect() as connection:
            connection.execute(sa.text(statement))


@contextmanager
def running(replicas: int = 1, *, real_dapr: bool = False, **settings: str) -> Iterator[Stack]:
    """Run a stack; its logs stay where the line printed says."""
    folder = Path(tempfile.mkdtemp(prefix="budsim-soak."))
    print(f"  logs of {replicas} replicas: {folder}", flush=True)
    stack = Stack(folder, os.environ["TEST_DATABASE_URL"], real_dapr=real_dapr)
    try:
        stack.start(replicas, **settings)
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(folder / "appendonlydir", ignore_errors=True)


def inventory() -> list[dict[str, object]]:
    """Return one cluster of three nodes: 8 H100, 8 A100, two Xeon sockets."""
    return [
        {
            "id": CLUSTER_ID,
            "name": "soak",
            "nodes": [
                _node("gpu-0", "H100-SXM", "cuda", "nvidia", 8, 80),
                _node("gpu-1", "A100-SXM-80GB", "cuda", "nvidia", 8, 80),
                _node("cpu-0", "Intel(R) Xeon(R) Platinum 8480+", "cpu_high", "intel", 2, 512),
            ],
        },
    ]


def wait_until(done: object, what: str, longest_s: float = START_S) -> None:
    """Wait until ``done()`` is true; fail with ``what`` when that takes too long."""
    ends_s = time.monotonic() + longest_s
    while not done():  # type: ignore[operator]
        if time.monotonic() > ends_s:
            raise TimeoutError(f"waited {longest_s:g} s in vain until {what}")
        time.sleep(POLL_S)


def _node(
    name: str, device: str, kind: str, vendor: str, count: int, memory_gb: int
) -> dict[str, object]:
    found = {
        "name": device,
        "raw_name": device,
        "device_model": device,
        "type": kind,
        "vendor": vendor,
    }
    counts = {
        "available_count": count,
        "total_count": count,
        "mem_per_GPU_in_GB": memory_gb,
        "memory_gb": memory_gb,
    }
    cores = (
        {"cores": 56, "physical_cores": 56, "instruction_sets": ["AMX"]}
        if kind == "cpu_high"
        else {}
    )
    return {
        "id": name,
        "name": name,
        "status": True,
        "is_master": False,
        "devices": [found | counts | cores],
    }


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _pings(broker: "redis.Redis") -> bool:
    try:
        return bool(broker.ping())
    except redis.RedisError:
        return False


def _family(pid: int) -> list[int]:
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found.extend(_family(int(child)))
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proportional_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
