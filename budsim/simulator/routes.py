"""The HTTP endpoints: they parse a request, ask the service and answer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from pydantic import Field, ValidationError

from budsim.commons.errors import BudsimError, Busy, Unavailable
from budsim.commons.tracing import trace_id
from budsim.simulator.events import published_body
from budsim.simulator.http import examples
from budsim.simulator.http.application_state import application_state_of
from budsim.simulator.http.cloud_event_schema import CLOUD_EVENT_SCHEMA
from budsim.simulator.http.examples import documented_answer
from budsim.simulator.schemas import (
    BenchmarkConfiguration,
    BenchmarkRequest,
    CapacitiesAnswer,
    CapacityRequest,
    ClusterMetrics,
    ConfigurationsRequest,
    DayOfReplicasAnswer,
    DayRequest,
    Delivery,
    DeliveryStatus,
    DeploymentConfiguration,
    Error,
    EventPage,
    Info,
    NodeConfigurations,
    NodeConfigurationsRequest,
    RecommendationPage,
    Recommendations,
    RunRequest,
    WorkflowMetadata,
    plan_filter,
)
from budsim.simulator.services import Simulations
from budsim.simulator.storage.records import Run

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": text}
    for status, text in {
        400: "Nothing answers the request",
        401: "Token missing or wrong",
        404: "Not known",
        409: "The state forbids it",
        413: "Body too large",
        415: "The body is not JSON",
        422: "A field is wrong",
        429: "Too many runs wait, or the caller asks too often",
        503: "Something the service depends on is not there",
    }.items()
}

TOKEN = APIKeyHeader(
    name="dapr-api-token",
    auto_error=False,
    description="APP_API_TOKEN, where the service demands one",
)
LONGEST_ID = 255
EVENT_TYPE = "application/cloudevents+json"
AS_EVENT = {"requestBody": {"content": {EVENT_TYPE: {"schema": CLOUD_EVENT_SCHEMA}}}}

router = APIRouter(responses=DOCUMENTED, dependencies=[Security(TOKEN)])
log = structlog.get_logger()


async def simulations(request: Request) -> Simulations:
    """Return the service; async because FastAPI would run a plain function in a thread."""
    return application_state_of(request.app).simulations


MAX_EVENTS_SHOWN = 100
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
Service = Annotated[Simulations, Depends(simulations)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]


@router.post(
    "/simulator/run",
    responses=documented_answer(examples.WORKFLOW),
    openapi_extra=AS_EVENT,
    tags=["simulator"],
)
async def run(
    body: RunRequest,
    service: Service,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Annotated[WorkflowMetadata | Recommendations, Field(discriminator="object")]:
    """Start a simulation and return its workflow; with `debug` wait for its recommendations."""
    key = f"key:{idempotency_key}" if idempotency_key else _sent_as(body)
    body = _in_trace(body, request)
    if not body.debug:
        return WorkflowMetadata.of(await service.accept(body, request_key=key))
    async with application_state_of(request.app).computing():
        return await service.run_now(body, request_key=key)


@router.get(
    "/simulator/recommendations", responses=documented_answer(examples.PAGE), tags=["simulator"]
)
def recommendations(
    service: Service,
    workflow_id: UUID,
    cluster_id: UUID | None = None,
    concurrency: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    error_rate_threshold: Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)] = 0.5,
    page: PageNumber = 1,
    limit: Annotated[int, Query(ge=1, le=100)] = 1,
) -> RecommendationPage:
    """Return one page of a workflow's deployments, best first; empty for an unknown workflow.

    With `cluster_id` the page has all deployments on that cluster, without it the best of each.
    """
    wanted = plan_filter(cluster_id, concurrency, error_rate_threshold)
    wanted = replace(wanted, best_of_cluster=cluster_id is None)
    run_id = str(workflow_id)
    total = service.repository.count_plans(run_id, wanted)
    plans = service.repository.plans(run_id, wanted, offset=(page - 1) * limit, limit=limit)
    return RecommendationPage(
        page=page,
        limit=limit,
        total_items=total,
        total_pages=math.ceil(total / limit),
        items=[ClusterMetrics.of(plan) for plan in plans],
    )


@router.post(
    "/simulator/configurations",
    responses=documented_answer(examples.DEPLOYMENT),
    tags=["simulator"],
)
def configurations(body: ConfigurationsRequest, service: Service) -> DeploymentConfiguration:
    """Note feedback, then return the best remaining deployment, ready to launch."""
    feedback = [item.value() for item in body.feedback or []]
    return DeploymentConfiguration.of(
        service.configuration(str(body.workflow_id), body.wanted(), feedback)
    )


@router.post(
    "/simulator/node-configurations",
    responses=documented_answer(examples.LAYOUTS),
    tags=["simulator"],
)
async def node_configurations(
    body: NodeConfigurationsRequest, service: Service, request: Request
) -> NodeConfigurations:
    """Return the parallel layouts of a model that fit on the named hosts."""
    async with application_state_of(request.app).computing():
        return await service.layouts(body)


@router.post(
    "/simulator/benchmark-config",
    responses=documented_answer(examples.BENCHMARK_ANSWER),
    tags=["simulator"],
)
async def benchmark_config(
    body: BenchmarkRequest, service: Service, request: Request
) -> BenchmarkConfiguration:
    """Return node groups for a layout the caller chose."""
    async with application_state_of(request.app).computing():
        return await service.benchmark(body)


@router.post(
    "/simulator/capacity", responses=documented_answer(examples.CAPACITIES), tags=["simulator"]
)
async def capacity(body: CapacityRequest, service: Service, request: Request) -> CapacitiesAnswer:
    """Return how many requests each cluster serves within the targets."""
    async with application_state_of(request.app).computing():
        return await service.capacity(body)


@router.post("/simulator/day", responses=documented_answer(examples.DAY_ANSWER), tags=["simulator"])
async def day(body: DayRequest, service: Service, request: Request) -> DayOfReplicasAnswer:
    """Return how many replicas each hour of a day needs within the targets, and their cost."""
    async with application_state_of(request.app).computing():
        return await service.day(body)


@router.get(
    "/workflow/{workflow_id}/status",
    responses=documented_answer(examples.WORKFLOW),
    tags=["workflow"],
)
def status(workflow_id: UUID, service: Service) -> WorkflowMetadata:
    """Return how far a workflow has come."""
    return WorkflowMetadata.of(service.find(str(workflow_id)))


@router.get(
    "/workflow/{workflow_id}/events",
    responses=documented_answer(examples.EVENTS),
    tags=["workflow"],
)
def events(
    workflow_id: UUID,
    service: Service,
    page: PageNumber = 1,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS_SHOWN)] = MAX_EVENTS_SHOWN,
) -> EventPage:
    """Return one page of a workflow's events as they are published, in the order they happened."""
    run_id = service.find(str(workflow_id)).run_id
    outbox = service.repository.outbox
    total = outbox.count(run_id)
    return EventPage(
        page=page,
        limit=limit,
        total_items=total,
        total_pages=math.ceil(total / limit),
        items=[
            published_body(event)
            for event in outbox.events(run_id, offset=(page - 1) * limit, limit=limit)
        ],
    )


@router.delete(
    "/workflow/{workflow_id}/stop", responses=documented_answer(examples.MOVED), tags=["workflow"]
)
def stop(workflow_id: UUID, service: Service) -> Info:
    """End a workflow for good."""
    return _moved(service.stop(str(workflow_id)))


@router.post(
    "/workflow/{workflow_id}/pause", responses=documented_answer(examples.MOVED), tags=["workflow"]
)
def pause(workflow_id: UUID, service: Service) -> Info:
    """Suspend a workflow; what it reached is kept."""
    return _moved(service.pause(str(workflow_id)))


@router.post(
    "/workflow/{workflow_id}/resume", responses=documented_answer(examples.MOVED), tags=["workflow"]
)
def resume(workflow_id: UUID, service: Service) -> Info:
    """Let a suspended workflow go on."""
    return _moved(service.resume(str(workflow_id)))


@router.post(
    "/workflow/{workflow_id}/restart",
    responses=documented_answer(examples.MOVED),
    tags=["workflow"],
)
def restart(workflow_id: UUID, service: Service) -> Info:
    """Let a workflow begin anew."""
    return _moved(service.restart(str(workflow_id)))


@router.post(
    "/notifications",
    responses=documented_answer(examples.TAKEN),
    openapi_extra=AS_EVENT,
    tags=["dapr"],
)
async def notifications(request: Request, service: Service) -> Delivery:
    """Take a request from the broker.

    SUCCESS: it is stored. RETRY: it could not be stored for now. DROP: it can never be answered.
    """
    try:
        body = RunRequest.model_validate(json.loads(await request.body()))
        # The broker does not read the answer, so that `debug` would only hold up the delivery.
        body = _in_trace(body.model_copy(update={"debug": False}), request)
        accepted = await service.accept(body, request_key=_sent_as(body), check=False)
    except (Unavailable, Busy) as error:
        # Both conditions end by themselves; the broker delivers the message again.
        log.warning("message put back", reason=str(error))
        return Delivery(status=DeliveryStatus.RETRY)
    except ValidationError as error:
        log.warning(
            "message dropped",
            # Without the values: they belong to the caller and may be long.
            problems=error.errors(include_input=False, include_url=False, include_context=False),
        )
        return Delivery(status=DeliveryStatus.DROP)
    except (BudsimError, ValueError, RecursionError) as error:
        log.warning("message dropped", reason=str(error))
        return Delivery(status=DeliveryStatus.DROP)
    log.info("message accepted", workflow_id=accepted.run_id)
    return Delivery(status=DeliveryStatus.SUCCESS)


@router.get("/dapr/subscribe", tags=["dapr"], include_in_schema=False)
def subscribe(request: Request) -> JSONResponse:
    """Tell the sidecar which topic we listen on."""
    dapr = application_state_of(request.app).settings.dapr
    return JSONResponse(
        [
            {
                "pubsubname": dapr.pubsub_name,
                "topic": dapr.pubsub_topic,
                "route": "/notifications",
                "deadLetterTopic": dapr.dead_letter_topic,
            },
        ],
    )


def _event_key(body: RunRequest) -> str | None:
    # Only a CloudEvent of the broker has all three; a plain request has no key of its own.
    if not (body.id and body.topic and body.pubsubname):
        return None
    return (
        f"event:{body.id if len(body.id) <= LONGEST_ID else sha256(body.id.encode()).hexdigest()}"
    )


def _moved(run: Run) -> Info:
    return Info(
        message=f"The workflow is {run.status}",
        param={"workflow_id": run.run_id, "status": run.status},
    )


def _sent_as(body: RunRequest) -> str | None:
    """Return the key of a CloudEvent: its id and its source (CloudEvents 1.0, section 3.1.1)."""
    key = _event_key(body)
    return f"{key} {sha256(body.source.encode()).hexdigest()}" if key and body.source else key


def _in_trace(body: RunRequest, request: Request) -> RunRequest:
    """Return the request in the trace it names, else in that of the HTTP request."""
    if trace_id(body.traceparent):
        return body
    return body.model_copy(update={"traceparent": request.state.traceparent})
