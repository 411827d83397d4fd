"""What the page asks the service for: fragments of HTML, streams of progress, files of a plan."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from budsim.commons.errors import BudsimError
from budsim.page import work
from budsim.page.answering import Answering
from budsim.page.fields import Asked, Changes, FileChosen, Measured, PlanChosen
from budsim.page.questions import posed_question
from budsim.page.runs import run_page, runs_page
from budsim.page.start import start_page
from budsim.simulator.http.application_state import ApplicationState, application_state
from budsim.simulator.storage.records import EVERY_PLAN

RUNS_SHOWN = 30
# What the page shows is as fresh as the request; nothing of it may be kept by a proxy.
UNSTORED = {"cache-control": "no-store"}

# Not part of the documented API: these answers change with the page.
router = APIRouter(prefix="/page", include_in_schema=False)
State = Annotated[ApplicationState, Depends(application_state)]


async def answering(request: Request, state: State) -> Answering:
    """Return what answers questions; async because plain functions would run in a thread."""
    return Answering(state=state, answers=request.app.state.page_answers)


Answers = Annotated[Answering, Depends(answering)]


@router.get("/start")
async def start(state: State) -> HTMLResponse:
    """Return the forms, with the models, devices and clusters to choose from."""
    try:
        clusters = await state.simulations.inventory.clusters()
    except BudsimError:
        # The page also answers for devices and uploads, which need no inventory.
        clusters = ()
    largest_bytes = state.settings.limits.max_body_bytes
    engines = state.simulations.options.engines
    return _html(await asyncio.to_thread(start_page, clusters, engines, largest_bytes))


@router.post("/ask")
async def ask(asked: Asked, answers: Answers) -> StreamingResponse:
    """Answer a question: lines of JSON with the share done, then one with the answer as HTML."""
    posed = await posed_question(asked, answers.state.simulations)
    lines = answers.lines(asked, posed)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=UNSTORED)


@router.post("/what-if")
async def what_if(chosen: Changes, answers: Answers) -> HTMLResponse:
    """Return what changed knobs do to a plan."""
    changes = tuple(chosen.changes.items())
    return _html(await answers.about_plan(work.changed_page, chosen, changes=changes))


@router.post("/offer")
async def offer(chosen: PlanChosen, answers: Answers) -> HTMLResponse:
    """Return which quantized checkpoint would do for much less; empty where none would."""
    return _html(await answers.about_plan(work.offer_page, chosen))


@router.post("/load")
async def load(chosen: PlanChosen, answers: Answers) -> HTMLResponse:
    """Return how the latency of a plan grows with the load."""
    width = chosen.asked.drawn_width
    return _html(await answers.about_plan(work.load_page, chosen, width=width))


@router.post("/file")
async def file(chosen: FileChosen, answers: Answers) -> PlainTextResponse:
    """Return a file that starts a plan."""
    text = await answers.about_plan(work.plan_file, chosen, form=chosen.form)
    return PlainTextResponse(text, headers=UNSTORED)


@router.post("/measured")
async def measured(body: Measured, state: State) -> HTMLResponse:
    """Compare uploaded benchmarks with what is predicted for them."""
    async with state.computing():
        return _html(await state.simulations.workers.compute(work.measured_page, body, None))


@router.get("/runs")
def runs(state: State) -> HTMLResponse:
    """Return the newest runs of the service and their state."""
    found = state.simulations.repository.latest(RUNS_SHOWN)
    return _html(runs_page(found, now_s=state.simulations.clock()))


@router.get("/runs/{workflow_id}")
def run(workflow_id: UUID, state: State) -> HTMLResponse:
    """Return one run with what it recommends."""
    found = state.simulations.find(str(workflow_id))
    return _html(run_page(found, state.simulations.repository.plans(found.run_id, EVERY_PLAN)))


def _html(text: str) -> HTMLResponse:
    return HTMLResponse(text, headers=UNSTORED)
