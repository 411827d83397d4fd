"""The inventory in the state store: replaced, deleted, emptied and restored at any moment."""

import json
from pathlib import Path

import pytest

from budsim.commons.dapr import StateValue
from budsim.commons.errors import InvalidInput, Unavailable
from budsim.hardware_ops.device import PriceBasis
from budsim.hardware_ops.inventory import read_inventory
from budsim.hardware_ops.pricing import Pricing
from budsim.simulator.cluster_sources import (
    FileInventory,
    FixedInventory,
    PricedInventory,
    StateInventory,
)
from tests.soak.stack import inventory

KEY = "cluster_info"


class State:
    """A state store whose versions restart at 1, as those of Redis do."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.version, self.reads = 0, 0

    def save(self, body: bytes) -> None:
        """Write a value."""
        self.body, self.version = body, self.version + 1

    def delete(self) -> None:
        """Delete it, and its version with it."""
        self.body, self.version = None, 0

    async def states(self, keys: list[str]) -> dict[str, StateValue]:
        """Return the value."""
        self.reads += 1
        if self.body is None:
            return {}
        return {keys[0]: StateValue(body=self.body, etag=str(self.version))}


def named(name: str) -> bytes:
    """Return an inventory of one cluster of this name."""
    (cluster,) = inventory()
    return json.dumps([cluster | {"name": name}]).encode()


def reading(state: State, **options: object) -> StateInventory:
    """Return the inventory that reads a store anew each time, unless told otherwise."""
    given = {"max_bytes": 64_000_000, "ttl_s": 0.0} | options
    return StateInventory(state, KEY, **given)  # type: ignore[arg-type]


async def names(source: StateInventory) -> list[str]:
    """Return the names of the clusters."""
    return [cluster.name for cluster in await source.clusters()]


async def test_a_value_written_after_a_deletion_is_seen():
    """Its ETag is the one of the value before."""
    state = State()
    source = reading(state)
    state.save(named("before"))
    assert await names(source) == ["before"]
    state.delete()
    state.save(named("after"))
    assert await names(source) == ["after"]


@pytest.mark.parametrize(
    "gap", [None, b"", b"[]", b"null", b"{", b'"x"', b"[" * 100_000, b"\xff", b'[{"id": 7}]']
)
async def test_a_gap_is_unavailable_and_ends(gap: bytes | None):
    """Missing, empty, cut off or nonsense: not now.

    The next inventory is used as soon as it comes.
    """
    state = State()
    source = reading(state)
    state.save(named("before"))
    await source.clusters()
    if gap is None:
        state.delete()
    else:
        state.save(gap)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await source.clusters()
    state.save(named("after"))
    assert await names(source) == ["after"]


async def test_a_reading_is_used_again_for_its_time_only():
    """One second: two questions at once are one reading, a second later it is read again."""
    state, now_s = State(), 100.0
    state.save(named("before"))
    source = reading(state, ttl_s=1.0, clock=lambda: now_s)
    await source.clusters()
    now_s += 0.9
    await source.clusters()
    assert state.reads == 1
    now_s += 0.2
    state.delete()
    with pytest.raises(Unavailable):
        await source.clusters()
    with pytest.raises(Unavailable):  # what was read before is too old now
        await source.clusters()


async def test_an_inventory_beyond_the_largest_size_is_not_parsed():
    """It is refused by name and number."""
    state = State()
    state.save(named("large"))
    with pytest.raises(Unavailable, match="at most 100"):
        await reading(state, max_bytes=100).clusters()


async def test_a_file_that_is_no_inventory_is_the_operator_s_mistake(tmp_path: Path):
    """Nobody replaces it within seconds."""
    file = tmp_path / "x.json"
    file.write_text("[]")
    with pytest.raises(InvalidInput):
        await FileInventory(file, max_bytes=1000).clusters()


async def test_prices_are_put_on_once_for_each_inventory() -> None:
    """Clusters of a source are priced on the basis asked for, again only when they change."""
    clusters = read_inventory(inventory())
    source = FixedInventory(clusters)
    owned = PricedInventory(source, Pricing(basis=PriceBasis.OWN))
    first = await owned.clusters()
    assert await owned.clusters() is first
    priced = [pool.device for each in first for _, pool in each.pools() if pool.device]
    assert priced
    assert all(device.price_origin.basis is PriceBasis.OWN for device in priced)
    assert await PricedInventory(source, Pricing()).clusters() == clusters
