"""Wakes the loops that work on runs and send events."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Signals:
    """Set when there are runs to work on or events to send, so that loops need not poll."""

    work: asyncio.Event = field(default_factory=asyncio.Event)
    events: asyncio.Event = field(default_factory=asyncio.Event)


async def wait(wake: asyncio.Event, longest_s: float) -> None:
    """Wait until woken, but not for longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(longest_s):  # wait_for of Python 3.11 may swallow a cancellation
            await wake.wait()
    wake.clear()
