"""The sidecar over gRPC and HTTP: state, publish, tokens, and no waiting for an absent one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from dapr.proto import api_service_v1, api_v1, common_v1
from google.protobuf.empty_pb2 import Empty

from budsim.commons.config import DaprSettings
from budsim.commons.dapr import Sidecar, StateValue, connect
from budsim.commons.errors import Unavailable
from tests.simulator.serving import StandInSidecar


class GrpcStandIn(api_service_v1.DaprServicer):
    """State and publish over gRPC, on the SDK's own stubs."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.tokens: list[str | None] = []

    # The protocol chose the name.
    async def GetBulkState(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer a state query."""
        self.tokens.append(dict(context.invocation_metadata()).get("dapr-api-token"))
        items = [
            api_v1.BulkStateItem(key=key, data=self.states.get(key, b""), etag="7")
            for key in request.keys
        ]
        return api_v1.GetBulkStateResponse(items=items)

    async def GetSecret(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer with the one secret there is."""
        if (request.store_name, request.key) != ("vault", "budsim"):
            await context.abort(grpc.StatusCode.INTERNAL, "no such secret")
        return api_v1.GetSecretResponse(data={"APP_API_TOKEN": "s3cret"})

    async def GetConfiguration(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer with one value, whatever is asked for."""
        return api_v1.GetConfigurationResponse(
            items={"PLANS_KEPT": common_v1.ConfigurationItem(value="7")}
        )

    async def PublishEvent(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take an event; a topic named `forbidden` is refused."""
        if request.topic == "forbidden":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        self.published.append((request.topic, json.loads(request.data)))
        return Empty()


@pytest.fixture
async def served() -> AsyncIterator[tuple[GrpcStandIn, Sidecar]]:
    """Yield a gRPC stand-in and a client for it."""
    stand_in = GrpcStandIn()
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    api_service_v1.add_DaprServicer_to_server(stand_in, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = connect(DaprSettings(_env_file=None, dapr_grpc_port=port, dapr_api_token="t"))
    assert client is not None
    yield stand_in, client
    await client.close()
    await server.stop(None)


@pytest.fixture
def http() -> Iterator[StandInSidecar]:
    """Yield a stand-in over HTTP."""
    server = StandInSidecar()
    yield server
    server.close()


async def test_state_over_grpc(served: tuple[GrpcStandIn, Sidecar]):
    """Bytes and ETag with our token, in bulk; a key nobody wrote is not among them."""
    stand_in, client = served
    stand_in.states["cluster_info"] = b"[]"
    assert await client.states(["cluster_info", "nothing"]) == {
        "cluster_info": StateValue(body=b"[]", etag="7")
    }
    assert set(stand_in.tokens) == {"t"}


async def test_secrets_and_configuration_over_grpc(served: tuple[GrpcStandIn, Sidecar]):
    """Values of secrets by key, of configurations by name; a missing secret is `Unavailable`."""
    _, client = served
    assert await client.secret("vault", "budsim") == {"APP_API_TOKEN": "s3cret"}
    assert await client.configuration("settings", ["PLANS_KEPT"]) == {"PLANS_KEPT": "7"}
    with pytest.raises(Unavailable):
        await client.secret("vault", "other")


async def test_publish_over_grpc(served: tuple[GrpcStandIn, Sidecar]):
    """The whole envelope is the data; a refusal is `Unavailable` and says which."""
    stand_in, client = served
    await client.publish("t1", {"id": "1"})
    assert stand_in.published == [("t1", {"id": "1"})]
    with pytest.raises(Unavailable, match="PublishEvent \\(PERMISSION_DENIED\\)"):
        await client.publish("forbidden", {"id": "2"})
    assert await client.is_ready()


async def test_the_same_over_http(http: StandInSidecar):
    """State, secrets, configuration and publish with the token; 401 is `Unavailable`."""
    http.token, http.states["cluster_info"] = "t", b"[1]"
    http.secrets["budsim"], http.configuration = {"APP_API_TOKEN": "s3cret"}, {"PLANS_KEPT": "7"}
    client = connect(http.settings)
    assert client is not None
    found = await client.states(["cluster_info", "nothing"])
    assert {key: value.body for key, value in found.items()} == {"cluster_info": b"[1]"}
    assert found["cluster_info"].etag
    assert await client.secret("vault", "budsim") == {"APP_API_TOKEN": "s3cret"}
    assert await client.configuration("settings", ["PLANS_KEPT"]) == {"PLANS_KEPT": "7"}
    await client.publish("t1", {"id": "1"})
    assert http.published == [("t1", {"id": "1"})]
    assert await client.is_ready()
    http.token = "other"
    with pytest.raises(Unavailable):
        await client.states(["cluster_info"])
    await client.close()


@pytest.mark.parametrize("port", ["dapr_http_port", "dapr_grpc_port"])
async def test_an_absent_sidecar_never_blocks(port: str):
    """Building the client takes no time; a call fails within its limit; readiness is False."""
    started_s = time.perf_counter()
    client = connect(DaprSettings(_env_file=None, dapr_timeout_s=0.5, **{port: 9}))
    assert client is not None
    assert time.perf_counter() - started_s < 0.5
    with pytest.raises(Unavailable):
        await client.states(["cluster_info"])
    assert not await client.is_ready()
    await client.close()
    assert time.perf_counter() - started_s < 5.0
    await asyncio.sleep(0)


def test_without_ports_there_is_no_client():
    """Nothing is guessed."""
    assert connect(DaprSettings(_env_file=None)) is None


async def test_a_large_value_is_read_over_grpc(served: tuple[GrpcStandIn, Sidecar]):
    """64 MB, where gRPC's own limit is 4 MiB."""
    stand_in, client = served
    stand_in.states["cluster_info"] = b"x" * 64_000_000
    found = await client.states(["cluster_info"])
    assert len(found["cluster_info"].body) == 64_000_000
