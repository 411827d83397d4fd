"""Fixtures of the service's tests: a small real service, a stand-in sidecar, example bodies."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.main import create_app
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers, Workers
from budsim.simulator.cluster_sources import FixedInventory
from tests.simulator.serving import (
    CLUSTER_ID,
    MODEL,
    OTHER_CLUSTER_ID,
    MakeClient,
    StandInSidecar,
    h100_cluster,
    known_answer,
    service_settings,
)


@pytest.fixture
def body() -> dict[str, Any]:
    """Return a plain `/simulator/run` request every field of which is right."""
    return {
        "pretrained_model_uri": MODEL,
        "is_proprietary_model": False,
        "input_tokens": 1024,
        "output_tokens": 256,
        "concurrency": 64,
        "target_ttft": 1500,
        "target_throughput_per_user": 20,
        "target_e2e_latency": 20,
    }


@pytest.fixture
def make_client(sqlite_url: str) -> Iterator[MakeClient]:
    """Start services on one SQLite file and stop them when the test ends."""
    with starting(sqlite_url) as make:
        yield make


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return the service as it starts without a sidecar; the tests of a file share it."""
    with starting(f"sqlite:///{tmp_path_factory.mktemp('service') / 'runs.db'}") as make:
        yield make()


@contextmanager
def starting(url: str) -> Iterator[MakeClient]:
    """Yield a starter of services on one database, which are stopped at the end."""
    with ExitStack() as started:

        def make(
            *, inventory: Any = None, workers: Workers | None = None, **groups: Any
        ) -> TestClient:
            settings = service_settings(url, **groups)
            known = inventory or FixedInventory(
                (h100_cluster(CLUSTER_ID), h100_cluster(OTHER_CLUSTER_ID))
            )
            if settings.dapr.has_sidecar and inventory is None:
                known = None
            workers = workers or ThreadWorkers(known_answer, AnalyticPredictor)
            app = create_app(settings, inventory=known, workers=workers)
            return started.enter_context(TestClient(app, raise_server_exceptions=False))

        yield make


@pytest.fixture
def sidecar() -> Iterator[StandInSidecar]:
    """Return a small server that speaks Dapr's HTTP: state, publish and health."""
    server = StandInSidecar()
    yield server
    server.close()


@pytest.fixture
def example() -> Callable[[str], Any]:
    """Return a reader of the callers' example bodies; the test is skipped where they are not."""

    def read(name: str) -> Any:
        file = Path(__file__).parents[3] / "shared" / "examples" / name
        if not file.is_file():
            pytest.skip(f"needs {file}")
        return json.loads(file.read_text())

    return read
