"""Answers the page's questions in worker processes, and comes back to answers given before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from budsim.commons.errors import BudsimError
from budsim.page.fields import Asked, PlanChosen
from budsim.page.questions import PosedQuestion, question_of
from budsim.page.remembered import Answer, RememberedAnswers
from budsim.page.work import AnswerDetail, PlanDetail, answer_page
from budsim.performance.predictor import Predictor
from budsim.simulator.http.application_state import ApplicationState
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question

# A share of the search is told again where nothing else was told for so long, s. A proxy closes
# connections on which nothing is sent.
TOLD_AGAIN_S = 5.0

PlanWork = Callable[[Question, Predictor, PlanDetail], str]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """The service, and the answers this process remembers."""

    state: ApplicationState
    answers: RememberedAnswers

    async def lines(self, asked: Asked, posed: PosedQuestion) -> AsyncIterator[str]:
        """Yield lines of JSON: the share done, again and again, then the answer or an error.

        The search ends when nobody reads the lines any more.
        """
        try:
            async with self.state.computing():
                async for line in self._progress_and_answer(asked, posed):
                    yield line
        except BudsimError as error:
            yield _line(error=str(error), field=getattr(error, "field", None))
        except Exception:
            # The status was sent with the first line, so the error table cannot answer any more.
            log.exception("a question of the page failed")
            yield _line(error="internal error", field=None)

    async def about_plan(self, work: PlanWork, chosen: PlanChosen, **detail: Any) -> str:
        """Return what a function makes of a plan of an answer; errors as that function."""
        async with self.state.computing():
            answer = self.answers.get(chosen.answer) or await self._answered_again(chosen)
            given = PlanDetail(outcome=answer.outcome, number=chosen.number, **detail)
            return await self.state.simulations.workers.compute(work, answer.question, given)

    async def _progress_and_answer(self, asked: Asked, posed: PosedQuestion) -> AsyncIterator[str]:
        workers, shares = self.state.simulations.workers, asyncio.Queue[float]()
        question = posed.question
        search = asyncio.create_task(workers.simulate(question, shares.put_nowait))
        try:
            yield _line(share=0.0)
            async for share in _while_running(search, shares):
                yield _line(share=share)
            outcome = await search
        finally:
            search.cancel()
        name = self.answers.add(Answer(question=question, outcome=outcome))
        detail = AnswerDetail(
            outcome=outcome,
            name=name,
            model=asked.model,
            width=asked.drawn_width,
            note=posed.note,
        )
        yield _line(html=await workers.compute(answer_page, question, detail))

    async def _answered_again(self, chosen: PlanChosen) -> Answer:
        """Return the answer to the question once more; the same question has the same answer."""
        question = await question_of(chosen.asked, self.state.simulations)
        outcome = await self.state.simulations.workers.simulate(question, lambda _share: None)
        return Answer(question=question, outcome=outcome)


async def _while_running(
    search: asyncio.Task[Outcome], shares: asyncio.Queue[float]
) -> AsyncIterator[float]:
    """Yield each share that is told, and the last one again after a pause, until the end."""
    share = 0.0
    while not search.done():
        telling = asyncio.create_task(shares.get())
        try:
            await asyncio.wait(
                {search, telling}, timeout=TOLD_AGAIN_S, return_when=asyncio.FIRST_COMPLETED
            )
            if telling.done():
                share = telling.result()
        finally:
            telling.cancel()
        if not search.done():
            yield share


def _line(**values: object) -> str:
    return json.dumps(values) + "\n"
