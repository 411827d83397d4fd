"""Writes what arrives together in one transaction: while one is being committed, the requests that come share the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from budsim.commons.errors import BudsimError

Item = TypeVar("Item")
Stored = TypeVar("Stored")


class Intake(Generic[Item, Stored]):
    """Groups single writes without making anyone wait for company: an idle intake writes the first item at once.

    Parameters
    ----------
    write : callable
        Stores items in a thread; returns for each what became of it, or why it was refused.
    at_most : int
        Items of one transaction.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Stored | BudsimError]],
        *,
        at_most: int = 100,
    ) -> None:
        self._write, self._at_most = write, at_most
        self._waiting: list[tuple[Item, asyncio.Future[Stored]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Stored:
        """Return what storing ``item`` came to; raises what it was refused with, or what the whole transaction failed with."""
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return await future

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = (
                    self._waiting[: self._at_most],
                    self._waiting[self._at_most :],
                )
                await self._write_batch(batch)
        finally:
            self._writing = None

    async def _write_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Stored]]]) -> None:
        found: Sequence[Stored | BaseException]
        try:
            found = await asyncio.to_thread(self._write, [item for item, _ in batch])
        except Exception as error:
            found = [error] * len(batch)
        for (_, future), stored in zip(batch, found, strict=True):
            if future.done():  # its caller has gone
                continue
            if isinstance(stored, BaseException):
                future.set_exception(stored)
            else:
                future.set_result(stored)
