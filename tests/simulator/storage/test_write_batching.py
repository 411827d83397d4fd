"""Writes that arrive together share a transaction, and only the culprit of a failure fails."""

import asyncio
from collections.abc import Sequence

import pytest

from budsim.commons.errors import Busy, Unavailable
from budsim.simulator.storage.write_batching import WriteBatcher


class Store:
    """Stores numbers; odd ones break the transaction they are in, negative ones are refused."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_away = False

    def write(self, items: Sequence[int]) -> list[int | Busy]:
        """Store a batch."""
        self.batches.append(list(items))
        if self.is_away:
            raise Unavailable("the database does not answer")
        if any(item % 2 for item in items):
            raise ValueError(f"cannot store {[item for item in items if item % 2]}")
        return [Busy("no") if item < 0 else 10 * item for item in items]


async def put_all(batcher: WriteBatcher[int, int], items: Sequence[int]) -> list[object]:
    """Return the result of each item, put at the same time."""
    return await asyncio.gather(*map(batcher.put, items), return_exceptions=True)


async def test_items_put_together_are_written_together():
    """The first at once, the others in one transaction while it is written."""
    store = Store()
    assert await put_all(WriteBatcher(store.write), range(0, 20, 2)) == list(range(0, 200, 20))
    assert len(store.batches) <= 2


async def test_only_the_culprit_of_a_failed_transaction_fails():
    """The others are stored one by one; a refusal is only its item's as well."""
    store = Store()
    found = await put_all(WriteBatcher(store.write), [2, 4, 5, -6, 8])
    assert (found[0], found[1], found[4]) == (20, 40, 80)
    assert isinstance(found[2], ValueError)
    assert "[5]" in str(found[2])
    assert isinstance(found[3], Busy)


async def test_a_database_that_is_away_is_asked_once():
    """All wait for the same answer; one by one would only take longer."""
    store = Store()
    store.is_away = True
    found = await put_all(WriteBatcher(store.write), [2, 4, 6])
    assert all(isinstance(error, Unavailable) for error in found)
    assert len(store.batches) <= 2


async def test_a_caller_that_has_gone_keeps_nobody_waiting():
    """Its item is stored; the next is too."""
    batcher = WriteBatcher(Store().write)
    gone = asyncio.create_task(batcher.put(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await batcher.put(4) == 40
    with pytest.raises(asyncio.CancelledError):
        await gone
