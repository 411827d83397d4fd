"""Health, readiness and figures of the service itself."""

import errno
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.simulator.serving import MakeClient
from tests.waiting import wait_for


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready"])
def test_probes_may_ask_for_the_head_only(client: TestClient, path: str):
    """HEAD has the status of GET, and no body."""
    wait_for(lambda: client.get("/ready").status_code == 200)
    found = client.head(path)
    assert (found.status_code, found.content) == (200, b"")


def test_readiness_tells_a_full_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    """Reading from the database still works then; the reason stands beside it."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    wait_for(lambda: client.get("/ready").status_code == 200)
    monkeypatch.setattr("budsim.simulator.http.service_routes.os.fsync", full)
    found = client.get("/ready")
    assert found.status_code == 503
    checks: dict[str, Any] = found.json()["param"]
    assert checks["disk"] == {"up": False, "detail": "the disk is full"}
    assert checks["database"]["up"]


def test_readiness_tells_a_folder_that_cannot_be_written(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    """A volume mounted read-only is another fault than a full one."""

    def read_only(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    found = client.get("/ready").json()["param"]["disk"]
    assert found == {"up": False, "detail": "nothing can be written to the disk"}


def test_health_needs_no_token_and_the_rest_does(make_client: MakeClient):
    """Probes carry none."""
    from budsim.commons.config import AppSettings

    client = make_client(app=AppSettings(_env_file=None, app_api_token="of-our-own"))
    assert client.get("/health").status_code == 200
    assert client.get("/metrics").status_code == 200
    assert client.get("/").status_code == 401
    assert client.get("/", headers={"dapr-api-token": "of-our-own"}).status_code == 200
