"""Sources of clusters: a file on this machine, or the sidecar's state store."""

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
from budsim.hardware_ops.cluster_file import read_cluster_file
from budsim.hardware_ops.inventory import read_inventory
from budsim.hardware_ops.pricing import Pricing


class Inventory(Protocol):
    """A source of clusters."""

    async def clusters(self) -> tuple[Cluster, ...]:
        """Return all clusters.

        Raises
        ------
        Unavailable
            The source does not answer, or holds no inventory that can be used.
        InvalidInput
            A file is not an inventory.
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
    """No source of clusters is configured."""

    async def clusters(self) -> tuple[Cluster, ...]:
        """Raise `Unavailable`."""
        raise Unavailable(
            "no inventory: set INVENTORY_FILE, or the Dapr ports to read it from the state store"
        )


class PricedInventory:
    """The clusters of another source, their devices priced on one basis."""

    def __init__(self, source: Inventory, pricing: Pricing) -> None:
        self.source, self.pricing = source, pricing
        self._seen: tuple[Cluster, ...] = ()
        self._priced: tuple[Cluster, ...] = ()

    async def clusters(self) -> tuple[Cluster, ...]:
        """See `Inventory.clusters`."""
        found = await self.source.clusters()
        # Sources return the same clusters until they change.
        if found is not self._seen:
            self._priced = await asyncio.to_thread(self.pricing.priced_clusters, found)
            self._seen = found
        return self._priced


class FileInventory:
    """An inventory in JSON or short YAML on this machine, read again when the file changes."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._seen: tuple[int, int] | None = None
        self._clusters: tuple[Cluster, ...] = ()

    async def clusters(self) -> tuple[Cluster, ...]:
        """See `Inventory.clusters`."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> tuple[Cluster, ...]:
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

    ``ttl_s`` is how long one reading is used again; it is parsed again only when its bytes changed.
    The ETag does not tell: a Redis key that is deleted and written again gets the same one, 1.
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
        self._sidecar, self._key, self._max_bytes = sidecar, key, max_bytes
        self._ttl_s, self._clock = ttl_s, clock
        self._read_at_s: float | None = None
        self._digest = b""
        self._clusters: tuple[Cluster, ...] = ()
        self._turn = asyncio.Lock()

    async def clusters(self) -> tuple[Cluster, ...]:
        """See `Inventory.clusters`."""
        async with self._turn:
            if self._read_at_s is None or self._clock() - self._read_at_s >= self._ttl_s:
                self._read_at_s = None  # what was read before is not used when this fails
                await self._read()
                self._read_at_s = self._clock()
            return self._clusters

    async def _read(self) -> None:
        value = (await self._sidecar.states([self._key])).get(self._key)
        if value is None:
            raise Unavailable(f"the state store holds no inventory under {self._key!r}")
        if len(value.body) > self._max_bytes:
            raise Unavailable(
                f"the inventory has {len(value.body)} bytes; at most {self._max_bytes} are read"
            )
        digest = await asyncio.to_thread(lambda: sha256(value.body).digest())
        if digest != self._digest:
            self._clusters = await asyncio.to_thread(_parse, value.body)
            self._digest = digest


def _parse(body: bytes) -> tuple[Cluster, ...]:
    """Return the clusters of an inventory.

    One that is empty or cannot be read is like one that is missing. Its writer replaces it within
    seconds, and a run that waits is better than a run that fails for good.

    Raises
    ------
    Unavailable
        Nothing in it can be read as a cluster.
    """
    try:
        payload = json.loads(body)
        payload = json.loads(payload) if isinstance(payload, str) else payload
        return read_inventory(payload)
    except (ValueError, RecursionError) as error:
        raise Unavailable("the inventory in the state store is not JSON") from error
    except InvalidInput as error:
        raise Unavailable(f"the inventory in the state store cannot be used: {error}") from error
