"""Announcing how far a search has come."""

import asyncio
import gc

import pytest

from budsim.simulator.run_steps import SearchProgress
from budsim.simulator.storage.repository import LeaseLost


async def test_quarters_are_announced_in_order_and_once():
    """Shares of 10, 30, 30 and 80 %: the quarters reached, one after another."""
    written: list[float] = []

    async def write(share: float) -> None:
        written.append(share)

    quarters = SearchProgress(write)
    for share in (0.1, 0.3, 0.3, 0.8, 0.8):
        quarters.reached(share)
        await asyncio.sleep(0)
    await quarters.finish()
    assert written == [0.25, 0.5, 0.75]


async def test_a_search_that_reaches_nothing_announces_nothing():
    """`finish` has nothing to wait for."""

    async def write(share: float) -> None:
        raise AssertionError(share)

    quarters = SearchProgress(write)
    quarters.reached(0.2)
    await quarters.finish()


async def test_an_announcement_that_cannot_be_written_is_the_last_and_is_told():
    """After it no other is tried, and `finish` raises the reason."""
    written: list[float] = []

    async def lost(share: float) -> None:
        written.append(share)
        raise LeaseLost("gone")

    unnoticed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: unnoticed.append(context)
    )
    quarters = SearchProgress(lost)
    for share in (0.25, 0.5):
        quarters.reached(share)
        await asyncio.sleep(0)
    with pytest.raises(LeaseLost):
        await quarters.finish()
    del quarters
    gc.collect()
    assert (written, unnoticed) == ([0.25], [])
