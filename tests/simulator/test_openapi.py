"""The OpenAPI document is complete and true: examples fit their schemas, answers the document."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from pydantic import TypeAdapter

from budsim.commons.config import AppSettings, LimitSettings
from budsim.main import create_app
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.http import examples
from budsim.simulator.schemas import (
    BenchmarkRequest,
    CapacityRequest,
    ConfigurationsRequest,
    DayRequest,
    NodeConfigurationsRequest,
    RunRequest,
)
from tests.simulator.serving import CLUSTER_ID, h100_cluster, known_answer, service_settings
from tests.soak.fuzzing import CHECKS as HELD
from tests.waiting import wait_for

CASES = 3
TOKEN = "fuzzed"
REQUESTS = [
    (RunRequest, examples.RUN),
    (RunRequest, examples.CLOUD_EVENT),
    (ConfigurationsRequest, examples.CONFIGURATIONS),
    (CapacityRequest, examples.CAPACITY),
    (DayRequest, examples.DAY),
    (NodeConfigurationsRequest, examples.HOSTS),
    (BenchmarkRequest, examples.BENCHMARK),
]


@pytest.fixture
def application(sqlite_url: str) -> FastAPI:
    """Return the service with a known answer, a token, and no limit on how often one may ask."""
    limits = LimitSettings(_env_file=None, worker_processes=0, poll_s=0.05, max_requests_per_s=0)
    chosen = service_settings(
        sqlite_url, app=AppSettings(_env_file=None, app_api_token=TOKEN), limits=limits
    )
    inventory = FixedInventory((h100_cluster(CLUSTER_ID),))
    return create_app(
        chosen, inventory=inventory, workers=ThreadWorkers(known_answer, AnalyticPredictor)
    )


@pytest.fixture
def served(application: FastAPI) -> Iterator[str]:
    """Serve the application on a port of its own; its address."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(("kind", "example"), REQUESTS)
def test_example_requests_are_taken(kind: Any, example: dict[str, Any]):
    """What the document shows can be sent as it stands."""
    assert kind.model_validate(example)


def test_generated_clients_have_readable_names(application: FastAPI):
    """Operations are named once and plainly, and every body and answer is a schema with a name.

    Generators call a schema without a name after the place where it stands. `make client` generates
    one and calls the service with it.
    """
    document = application.openapi()
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and "__" not in name for name in names)
    assert {"run", "recommendations", "configurations", "status"} <= set(names)
    contents = [
        content
        for each in operations
        for part in (each.get("requestBody", {}), *each["responses"].values())
        for kind, content in part.get("content", {}).items()
        if kind != "text/plain"
    ]
    assert all({"$ref", "oneOf"} & content["schema"].keys() for content in contents)
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if _nameless_enums(schemas[name])] == []
    assert schemas["CloudEvent"]["properties"]["data"] == {
        "$ref": "#/components/schemas/RunRequest"
    }


def _nameless_enums(schema: dict[str, Any]) -> list[str]:
    """Return the fields of a schema whose values are listed in place."""
    return [
        name
        for name, field in schema.get("properties", {}).items()
        if any("enum" in each for each in (field, *field.get("anyOf", [])))
    ]


def test_every_operation_shows_an_answer_that_fits(application: FastAPI):
    """Each 200 has an example, and the example is what the operation returns."""
    models = {
        (route.path, min(route.methods)): route.response_model for route in _routes(application)
    }
    for path, operations in application.openapi()["paths"].items():
        for method, operation in operations.items():
            if path == "/metrics":
                continue
            example = operation["responses"]["200"]["content"]["application/json"]["example"]
            TypeAdapter(models[path, method.upper()]).validate_python(example, strict=False)


def test_every_operation_documents_what_can_go_wrong(client: TestClient):
    """All but the probes may answer 401, 413, 429 and 503 in the error envelope."""
    for path, operations in client.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        for operation in operations.values():
            wanted = (
                set() if path in {"/health", "/ready", "/metrics"} else {"401", "413", "429", "503"}
            )
            assert wanted <= set(operation["responses"]), path
            assert operation["summary"]


def test_the_service_keeps_its_document(served: str):
    """Right and wrong requests made from the document: no 5xx, no undocumented status."""
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS

    schema = schemathesis.openapi.from_url(
        f"{served}/openapi.json", headers={"dapr-api-token": TOKEN}
    )
    checks = [CHECKS.get_one(name) for name in HELD]
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=CASES,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            | operation.as_strategy()
        )
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(headers={"dapr-api-token": TOKEN}, checks=checks)

        ask()
    assert asked >= 40


def _routes(application: FastAPI) -> list[APIRoute]:
    from budsim.simulator.http import service_routes
    from budsim.simulator.routes import router

    every = (*application.routes, *router.routes, *service_routes.router.routes)
    return [route for route in every if isinstance(route, APIRoute) and route.include_in_schema]
