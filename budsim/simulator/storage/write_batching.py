"""Stores requests that arrive together in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from budsim.commons.errors import BudsimError, Unavailable

Item = TypeVar("Item")
Stored = TypeVar("Stored")
Written = Sequence[Stored | BaseException]


class WriteBatcher(Generic[Item, Stored]):
    """Groups single writes; an idle batcher writes the first item at once.

    Parameters
    ----------
    write : callable
        Stores items in a thread; returns for each its result, or why it was refused.
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
        """Store ``item`` and return the result; raises the reason when it was not stored."""
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
                written = await asyncio.to_thread(self._write_batch, [item for item, _ in batch])
                for (_, future), result in zip(batch, written, strict=True):
                    _settle(future, result)
        finally:
            self._writing = None

    def _write_batch(self, items: Sequence[Item]) -> Written[Stored]:
        """Write items together; where that fails, one by one, so that only the culprit fails.

        A database that does not answer fails them all: writing one by one would only take longer.
        """
        try:
            return self._write(items)
        except Unavailable as error:
            return [error] * len(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [result for item in items for result in self._write_batch([item])]


def _settle(future: asyncio.Future[Stored], result: Stored | BaseException) -> None:
    if future.done():  # its caller has gone
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
