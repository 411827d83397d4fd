"""A question whose tab goes away ends its search."""

import asyncio

import pytest

from budsim.page.answering import Answering
from budsim.page.fields import Asked
from budsim.page.questions import PosedQuestion
from budsim.page.remembered import RememberedAnswers

ASKED = Asked(model="m", concurrency=1, input_tokens=1, output_tokens=1)
POSED = PosedQuestion(question=None)


class EndlessWorkers:
    """Workers whose search ends only by being cancelled."""

    def __init__(self):
        self.cancelled = asyncio.Event()

    async def simulate(self, question, progress, known=None):
        """Tell half the search and wait for ever."""
        progress(0.5)
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class State:
    """The parts of the service's state that answering needs."""

    def __init__(self, workers):
        self.simulations = self
        self.workers = workers
        self.turns = asyncio.Semaphore(1)

    def computing(self):
        """Take a turn."""
        return self.turns


async def test_search_ends_when_nobody_reads_its_progress():
    """A reader that goes away in the middle cancels the search and gives its turn back."""
    workers = EndlessWorkers()
    state = State(workers)
    lines = Answering(state=state, answers=RememberedAnswers(1)).lines(ASKED, POSED)
    assert [await anext(lines), await anext(lines)] == ['{"share": 0.0}\n', '{"share": 0.5}\n']
    await lines.aclose()
    async with asyncio.timeout(5):
        await workers.cancelled.wait()
    assert not state.turns.locked()


async def test_search_ends_when_its_request_is_cancelled():
    """The middleware cancels the request of a client that left: its search ends too."""
    workers = EndlessWorkers()
    lines = Answering(state=State(workers), answers=RememberedAnswers(1)).lines(ASKED, POSED)

    searching = asyncio.Event()

    async def read():
        async for line in lines:
            if "0.5" in line:
                searching.set()

    reading = asyncio.create_task(read())
    await searching.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert workers.cancelled.is_set()
