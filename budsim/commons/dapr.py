"""The sidecar behind one small interface, over gRPC or HTTP.

It reads state, secrets and configuration, and publishes. Building a client does not wait for the
sidecar (the SDK's own client waits up to a minute), and every call has a time limit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from budsim.commons.config import DaprSettings
from budsim.commons.errors import Unavailable

if TYPE_CHECKING:
    from aiohttp import ClientSession

CLOUD_EVENT_TYPE = "application/cloudevents+json"
JSON_TYPE = "application/json"
HEALTH_TIMEOUT_S = 1.0
DEFAULT_LARGEST_BYTES = 64_000_000
# Room for the rest of a gRPC message beside the value it carries.
MESSAGE_OVERHEAD_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StateValue:
    """The value of a key in a state store.

    The ETag is not enough to see a change: a Redis key that is deleted and written again gets the
    same version, 1.
    """

    body: bytes
    etag: str


class Sidecar(Protocol):
    """The calls budsim makes to Dapr.

    Every method raises `Unavailable` when the sidecar or the component does not answer.
    """

    async def states(self, keys: Sequence[str]) -> dict[str, StateValue]:
        """Return the values of those ``keys`` that the configured state store has, read in bulk."""
        ...

    async def secret(self, store: str, name: str) -> dict[str, str]:
        """Return the values of one secret of a secret store, by their keys."""
        ...

    async def configuration(self, store: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the values of those ``keys`` that a configuration store has."""
        ...

    async def publish(self, topic: str, envelope: Mapping[str, object]) -> None:
        """Publish a complete CloudEvent on ``topic`` of the configured pub/sub component."""
        ...

    async def is_ready(self) -> bool:
        """Return whether the sidecar can be spoken to."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def connect(
    settings: DaprSettings, *, largest_bytes: int = DEFAULT_LARGEST_BYTES
) -> Sidecar | None:
    """Return a client for the configured sidecar without contacting it; None without ports.

    ``largest_bytes`` is the size of the largest value that has to be read.
    """
    if settings.dapr_grpc_port:
        return GrpcSidecar(settings, largest_bytes=largest_bytes)
    return HttpSidecar(settings) if settings.dapr_http_port else None


class HttpSidecar:
    """Dapr's HTTP API, version 1.0."""

    def __init__(self, settings: DaprSettings) -> None:
        self._settings = settings
        self._http = _Http(settings)

    async def states(self, keys: Sequence[str]) -> dict[str, StateValue]:
        """See `Sidecar.states`."""
        path, body = (
            f"/v1.0/state/{_escaped(self._settings.state_store_name)}/bulk",
            json.dumps({"keys": list(keys)}),
        )
        found = (
            await self._send("POST", path, content=body, headers={"content-type": JSON_TYPE}) or []
        )
        failed = next((item["error"] for item in found if item.get("error")), None)
        if failed:
            raise Unavailable("the Dapr sidecar cannot read the state store")
        return {
            item["key"]: StateValue(
                body=json.dumps(item["data"]).encode(), etag=item.get("etag") or ""
            )
            for item in found
            if item.get("data") is not None
        }

    async def secret(self, store: str, name: str) -> dict[str, str]:
        """See `Sidecar.secret`."""
        return dict(
            await self._send("GET", f"/v1.0/secrets/{_escaped(store)}/{_escaped(name)}") or {}
        )

    async def configuration(self, store: str, keys: Sequence[str]) -> dict[str, str]:
        """See `Sidecar.configuration`."""
        wanted = "&".join(f"key={_escaped(key)}" for key in keys)
        found = await self._send("GET", f"/v1.0/configuration/{_escaped(store)}?{wanted}") or {}
        return {key: item["value"] for key, item in found.items()}

    async def publish(self, topic: str, envelope: Mapping[str, object]) -> None:
        """See `Sidecar.publish`."""
        path = f"/v1.0/publish/{_escaped(self._settings.pubsub_name)}/{_escaped(topic)}"
        body = json.dumps(envelope, allow_nan=False)
        await self._send("POST", path, content=body, headers={"content-type": CLOUD_EVENT_TYPE})

    async def is_ready(self) -> bool:
        """See `Sidecar.is_ready`."""
        return await self._http.is_healthy()

    async def close(self) -> None:
        """See `Sidecar.close`."""
        await self._http.close()

    async def _send(self, method: str, path: str, **content: Any) -> Any:
        """Return the JSON of the answer, or None where it is empty."""
        status, body = await self._http.call(method, path, **content)
        if status >= HTTPStatus.BAD_REQUEST:
            raise Unavailable(
                f"the Dapr sidecar answered {status} to {method} {path.partition('?')[0]}"
            )
        try:
            return await asyncio.to_thread(json.loads, body) if body else None
        except ValueError as error:
            raise Unavailable(
                f"the Dapr sidecar's answer to {method} {path.partition('?')[0]} is not JSON"
            ) from error


class _Http:
    """Calls to the sidecar's HTTP port; connects when first used.

    On aiohttp, a dependency of Dapr's SDK: a call costs a fifth of the CPU time that httpx takes,
    and every event is a call.
    """

    def __init__(self, settings: DaprSettings) -> None:
        self._settings = settings
        self._session: ClientSession | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        content: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body of one call; raises `Unavailable` when nobody answers in time."""
        from aiohttp import ClientError, ClientTimeout
        from yarl import URL

        url = URL(
            f"http://{self._settings.dapr_runtime_host}:{self._settings.dapr_http_port}{path}",
            encoded=True,
        )
        limit = ClientTimeout(total=timeout_s or self._settings.dapr_timeout_s)
        try:
            async with self._open().request(
                method, url, data=content, headers=headers, timeout=limit
            ) as answer:
                return answer.status, await answer.read()
        except (ClientError, TimeoutError, OSError) as error:
            raise Unavailable("the Dapr sidecar does not answer") from error

    async def is_healthy(self) -> bool:
        """Return whether the sidecar says it can reach out."""
        try:
            status, _ = await self.call("GET", "/v1.0/healthz/outbound", timeout_s=HEALTH_TIMEOUT_S)
        except Unavailable:
            return False
        return status < HTTPStatus.BAD_REQUEST

    async def close(self) -> None:
        """Close connections."""
        if self._session:
            await self._session.close()

    def _open(self) -> ClientSession:
        from aiohttp import ClientSession, DummyCookieJar

        if self._session is None:
            token = self._settings.dapr_api_token
            headers = {"dapr-api-token": token.get_secret_value()} if token else {}
            # Without a cookie jar: a sidecar sets none, and keeping one costs time for every call.
            self._session = ClientSession(headers=headers, cookie_jar=DummyCookieJar())
        return self._session


class GrpcSidecar:
    """Dapr's gRPC API on the SDK's generated stubs; the channel connects when it is first used."""

    def __init__(
        self, settings: DaprSettings, *, largest_bytes: int = DEFAULT_LARGEST_BYTES
    ) -> None:
        self._settings = settings
        self._largest_bytes = largest_bytes
        self._http = _Http(settings) if settings.dapr_http_port else None
        self._channel: Any = None
        token = settings.dapr_api_token
        self._metadata = (("dapr-api-token", token.get_secret_value()),) if token else ()

    async def states(self, keys: Sequence[str]) -> dict[str, StateValue]:
        """See `Sidecar.states`."""
        from dapr.proto import api_v1

        request = api_v1.GetBulkStateRequest(store_name=self._settings.state_store_name, keys=keys)
        items = (await self.call("GetBulkState", request)).items
        if any(item.error for item in items):
            raise Unavailable("the Dapr sidecar cannot read the state store")
        return {
            item.key: StateValue(body=bytes(item.data), etag=str(item.etag))
            for item in items
            if item.data
        }

    async def secret(self, store: str, name: str) -> dict[str, str]:
        """See `Sidecar.secret`."""
        from dapr.proto import api_v1

        return dict(
            (await self.call("GetSecret", api_v1.GetSecretRequest(store_name=store, key=name))).data
        )

    async def configuration(self, store: str, keys: Sequence[str]) -> dict[str, str]:
        """See `Sidecar.configuration`."""
        from dapr.proto import api_v1

        request = api_v1.GetConfigurationRequest(store_name=store, keys=keys)
        return {
            key: item.value
            for key, item in (await self.call("GetConfiguration", request)).items.items()
        }

    async def publish(self, topic: str, envelope: Mapping[str, object]) -> None:
        """See `Sidecar.publish`."""
        from dapr.proto import api_v1

        request = api_v1.PublishEventRequest(
            pubsub_name=self._settings.pubsub_name,
            topic=topic,
            data=json.dumps(envelope, allow_nan=False).encode(),
            data_content_type=CLOUD_EVENT_TYPE,
        )
        await self.call("PublishEvent", request)

    async def is_ready(self) -> bool:
        """See `Sidecar.is_ready`.

        With an HTTP port its health endpoint is asked, otherwise the channel has to connect.
        """
        if self._http:
            return await self._http.is_healthy()
        try:
            await asyncio.wait_for(
                self._open().channel_ready(), timeout=self._settings.dapr_timeout_s
            )
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """See `Sidecar.close`."""
        if self._http:
            await self._http.close()
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> Any:
        if self._channel is None:
            import grpc.aio

            # gRPC's own limit is 4 MiB, less than the inventory of a large site.
            largest = self._largest_bytes + MESSAGE_OVERHEAD_BYTES
            self._channel = grpc.aio.insecure_channel(
                f"{self._settings.dapr_runtime_host}:{self._settings.dapr_grpc_port}",
                options=[
                    ("grpc.max_receive_message_length", largest),
                    ("grpc.max_send_message_length", largest),
                ],
            )
        return self._channel

    async def call(self, method: str, request: Any) -> Any:
        """Return the answer to any call of the sidecar's API.

        Raises
        ------
        Unavailable
            The call failed; the cause is gRPC's error.
        """
        import grpc
        from dapr.proto import api_service_v1

        stub = api_service_v1.DaprStub(self._open())  # type: ignore[no-untyped-call]
        try:
            return await getattr(stub, method)(
                request, timeout=self._settings.dapr_timeout_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            # The code alone: its text may name hosts, and PERMISSION_DENIED says enough.
            code = getattr(error, "code", lambda: None)()
            told = f" ({code.name})" if isinstance(code, grpc.StatusCode) else ""
            raise Unavailable(f"the Dapr sidecar does not answer {method}{told}") from error


def _escaped(part: str) -> str:
    return quote(part, safe="")
