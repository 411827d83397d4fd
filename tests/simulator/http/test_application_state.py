"""What requests and probes share: turns to compute, and the end of requests under way."""

import asyncio

import pytest

from budsim.commons.errors import Unavailable
from tests.simulator.http.test_middleware import state_with


async def test_a_turn_is_given_back_however_the_request_ends():
    """One turn: a second request is refused meanwhile, also after the first one failed."""
    state = state_with()

    async def failing() -> None:
        async with state.computing():
            with pytest.raises(Unavailable, match="try again later"):
                await state.computing().__aenter__()
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            await failing()


async def test_probes_of_one_moment_share_a_check():
    """A thousand cost what one costs; one that leaves ends nothing; the next one checks anew."""
    state, opened = state_with(), asyncio.Event()
    counted: list[int] = []

    async def check() -> int:
        counted.append(1)
        await opened.wait()
        return len(counted)

    asking = [asyncio.create_task(state.shared("it", check)) for _ in range(1000)]
    await asyncio.sleep(0)
    asking[0].cancel()
    opened.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert set(found[1:]) == {1}
    assert await state.shared("it", check) == 2


async def test_ending_cancels_every_request():
    """And is noted, so that they are answered with the reason."""
    state = state_with()
    requests = [asyncio.create_task(asyncio.Event().wait()) for _ in range(3)]
    state.requests = set(requests)  # type: ignore[arg-type]
    state.end_requests()
    await asyncio.wait(requests)
    assert all(request.cancelled() for request in requests)
    assert state.ending
