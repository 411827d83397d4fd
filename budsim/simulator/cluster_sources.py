"""Where clusters come from: a file on this machine, or the sidecar's state store; read again when they may have changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from budsim.commons.dapr import Sidecar
from budsim.commons.errors import InvalidInput, Unavailable
from budsim.hardware_ops.cluster import Cluster


class Inventory(Protocol):
    """A source of clusters."""

    async def clusters(self) -> tuple[Cluster, ...]:
        """Return all clusters.

        Raises
        ------
        Unavailable
            The source does not answer, or holds nothing.
        InvalidInput
            What it holds is not an inventory.
        """
        ...


class FixedInventory:
    """Clusters given once: tests, notebooks."""

    def __init__(self, clusters: tuple[Cluster, ...]) -> None:
        self._clusters = clusters

    async def clusters(self) -> tuple[Cluster, ...]:
        """Return the clusters given."""
        return self._clusters


class NoInventory:
    """Nobody said where clusters are listed."""

    async def clusters(self) -> tuple[Cluster, ...]:
        """Say so."""
        raise Unavailable(
            "no inventory: set INVENTORY_FILE, or the Dapr ports to read it from the state store"
        )


class FileInventory:
    """An inventory JSON or short YAML on this machine, read again when the file changes."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._seen: tuple[int, int] | None = None
        self._clusters: tuple[Cluster, ...] = ()

    async def clusters(self) -> tuple[Cluster, ...]:
        """See `Inventory.clusters`."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> tuple[Cluster, ...]:
        from budsim.hardware_ops.cluster_file import read_cluster_file

        try:
            stat = self._path.stat()
        except OSError as error:
            raise Unavailable("the inventory file cannot be read") from error
        if stat.st_size > self._max_bytes:
            raise Unavailable(
                f"the inventory file has {stat.st_size} bytes; at most {self._max_bytes} are read"
            )
        if self._seen != (stat.st_mtime_ns, stat.st_size):
            self._clusters = read_cluster_file(self._path)
            self._seen = (stat.st_mtime_ns, stat.st_size)
        return self._clusters


class StateInventory:
    """The inventory the cluster service keeps in the state store.

    ``ttl_s`` is how long one reading is used again; it is parsed again only when its ETag and its bytes changed.
    """

    def __init__(
        self,
        sidecar: Sidecar,
        key: str,
        *,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sidecar, self._key, self._max_bytes, self._ttl_s, self._clock = (
            sidecar,
            key,
            max_bytes,
            ttl_s,
            clock,
        )
        self._read_at: float | None = None
        self._digest, self._etag = b"", ""
        self._clusters: tuple[Cluster, ...] = ()
        self._turn = asyncio.Lock()

    async def clusters(self) -> tuple[Cluster, ...]:
        """See `Inventory.clusters`."""
        async with self._turn:
            if self._read_at is None or self._clock() - self._read_at >= self._ttl_s:
                await self._read()
                self._read_at = self._clock()
            return self._clusters

    async def _read(self) -> None:
        value = (await self._sidecar.states([self._key])).get(self._key)
        if value is None:
            raise Unavailable(f"the state store holds no inventory under {self._key!r}")
        if value.etag and value.etag == self._etag:
            return
        if len(value.body) > self._max_bytes:
            raise Unavailable(
                f"the inventory has {len(value.body)} bytes; at most {self._max_bytes} are read"
            )
        digest = sha256(value.body).digest()
        if digest != self._digest:
            self._clusters = await asyncio.to_thread(_parse, value.body)
            self._digest = digest
        self._etag = value.etag


def _parse(body: bytes) -> tuple[Cluster, ...]:
    from budsim.hardware_ops.inventory import read_inventory

    try:
        payload = json.loads(body)
        payload = json.loads(payload) if isinstance(payload, str) else payload
    except (ValueError, RecursionError) as error:
        raise InvalidInput("cluster_info", "not JSON", "a JSON list of clusters") from error
    return read_inventory(payload)
