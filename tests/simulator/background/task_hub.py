"""A stand-in for a sidecar that keeps workflows: Dapr's gRPC protocol, histories in memory.

It keeps no clock: a timer fires as soon as it is created, so retries follow each other at once.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import dapr.ext.workflow._durabletask.internal.orchestrator_service_pb2_grpc as task_hub
import dapr.ext.workflow._durabletask.internal.protos as pb
import grpc
from dapr.proto import api_service_v1, api_v1
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

ENDED = ("COMPLETED", "FAILED", "TERMINATED")


@dataclass
class Instance:
    """A workflow: its past events, those its code has not seen yet, and its status."""

    name: str
    past: list[Any] = field(default_factory=list)
    coming: list[Any] = field(default_factory=list)
    status: str = "RUNNING"
    replaying: bool = False
    output: str = ""


class StandInTaskHub(task_hub.TaskHubSidecarServiceServicer, api_service_v1.DaprServicer):
    """Workflows of one app; work goes to the connected workers in turn.

    With ``delay`` activities are held back, and without it those named ``hold_back``. One that
    ``is_stuck`` starts and tells nothing, as a sidecar without its scheduler.
    """

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.activities: list[str] = []
        self.told: list[str] = []
        """Suspensions and resumptions that were asked for."""
        self.delay, self.hold_back, self.is_stuck = False, "", False
        self._delayed: list[Any] = []
        self._workers: list[asyncio.Queue[Any]] = []
        self._unsent: list[Any] = []
        self._turn = 0

    async def Hello(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's names
        return Empty()

    async def GetWorkItems(self, request: Any, context: Any) -> Any:  # noqa: N802
        worker: asyncio.Queue[Any] = asyncio.Queue()
        self._workers.append(worker)
        for item in self._unsent:
            worker.put_nowait(item)
        self._unsent.clear()
        try:
            while True:
                yield await worker.get()
        finally:
            self._workers.remove(worker)

    async def CompleteWorkflowTask(self, response: Any, context: Any) -> Any:  # noqa: N802
        instance = self.instances[response.instanceId]
        instance.replaying = False
        for action in response.actions:
            self._act(response.instanceId, instance, action)
        self._replay(response.instanceId)
        return pb.CompleteTaskResponse()

    CompleteOrchestratorTask = CompleteWorkflowTask  # the name older sidecars know

    async def CompleteActivityTask(self, response: Any, context: Any) -> Any:  # noqa: N802
        failed = response.HasField("failureDetails")
        event = (
            pb.HistoryEvent(
                taskFailed=pb.TaskFailedEvent(
                    taskScheduledId=response.taskId, failureDetails=response.failureDetails
                )
            )
            if failed
            else pb.HistoryEvent(
                taskCompleted=pb.TaskCompletedEvent(
                    taskScheduledId=response.taskId, result=response.result
                )
            )
        )
        self._happen(response.instanceId, event)
        return pb.CompleteTaskResponse()

    async def StartWorkflowBeta1(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._answer(context)
        known = self.instances.get(request.instance_id)
        if known and known.status not in ENDED:
            await context.abort(
                grpc.StatusCode.ALREADY_EXISTS, f"workflow {request.instance_id} already exists"
            )
        self.instances[request.instance_id] = Instance(name=request.workflow_name)
        started = pb.ExecutionStartedEvent(
            name=request.workflow_name,
            input=StringValue(value=request.input.decode()),
            workflowInstance=pb.WorkflowInstance(instanceId=request.instance_id),
        )
        self._happen(request.instance_id, pb.HistoryEvent(executionStarted=started))
        return api_v1.StartWorkflowResponse(instance_id=request.instance_id)

    async def GetWorkflowBeta1(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._answer(context)
        found = self.instances.get(request.instance_id)
        if found is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"no such instance exists: {request.instance_id}"
            )
        return api_v1.GetWorkflowResponse(
            instance_id=request.instance_id, runtime_status=found.status
        )

    async def PauseWorkflowBeta1(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.told.append("suspend")
        self.instances[request.instance_id].status = "SUSPENDED"
        self._happen(
            request.instance_id, pb.HistoryEvent(executionSuspended=pb.ExecutionSuspendedEvent())
        )
        return Empty()

    async def ResumeWorkflowBeta1(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.told.append("resume")
        self.instances[request.instance_id].status = "RUNNING"
        self._happen(
            request.instance_id, pb.HistoryEvent(executionResumed=pb.ExecutionResumedEvent())
        )
        return Empty()

    async def TerminateWorkflowBeta1(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.instances[request.instance_id].status = "TERMINATED"
        return Empty()

    async def _answer(self, context: Any) -> None:
        if self.is_stuck:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no scheduler")

    async def release(self, *, hold_back: str = "") -> None:
        """Send the activities that were held back, and from now on hold back only those named."""
        self.delay, self.hold_back = False, hold_back
        delayed, self._delayed = self._delayed, []
        for item in delayed:
            self._send(item)

    def forget(self) -> None:
        """Lose every workflow, as a state store without its volume does."""
        self.instances.clear()

    def _happen(self, instance_id: str, event: Any) -> None:
        if instance := self.instances.get(instance_id):
            event.timestamp.GetCurrentTime()
            instance.coming.append(event)
            self._replay(instance_id)

    def _replay(self, instance_id: str) -> None:
        instance = self.instances[instance_id]
        if instance.replaying or not instance.coming or instance.status in ENDED:
            return
        started = pb.HistoryEvent(eventId=-1, workflowStarted=pb.WorkflowStartedEvent())
        started.timestamp.GetCurrentTime()
        new = [started, *instance.coming]
        self._send(
            pb.WorkItem(
                workflowRequest=pb.WorkflowRequest(
                    instanceId=instance_id, pastEvents=instance.past, newEvents=new
                ),
                completionToken=instance_id,
            )
        )
        instance.past, instance.coming, instance.replaying = [*instance.past, *new], [], True

    def _act(self, instance_id: str, instance: Instance, action: Any) -> None:
        kind = action.WhichOneof("workflowActionType") if action.DESCRIPTOR.oneofs else None
        if kind == "scheduleTask":
            task = action.scheduleTask
            scheduled = pb.TaskScheduledEvent(name=task.name, input=task.input)
            instance.past.append(pb.HistoryEvent(eventId=action.id, taskScheduled=scheduled))
            self.activities.append(task.name)
            request = pb.ActivityRequest(
                name=task.name,
                input=task.input,
                taskId=action.id,
                workflowInstance=pb.WorkflowInstance(instanceId=instance_id),
            )
            self._send(pb.WorkItem(activityRequest=request, completionToken=instance_id))
        elif kind == "createTimer":
            at = action.createTimer.fireAt
            instance.past.append(
                pb.HistoryEvent(eventId=action.id, timerCreated=pb.TimerCreatedEvent(fireAt=at))
            )
            self._happen(
                instance_id,
                pb.HistoryEvent(timerFired=pb.TimerFiredEvent(fireAt=at, timerId=action.id)),
            )
        elif kind == "completeWorkflow":
            completed = action.completeWorkflow
            instance.output = completed.result.value
            failed = completed.HasField("failureDetails")
            instance.status = "FAILED" if failed else "COMPLETED"

    def _send(self, item: Any) -> None:
        if item.HasField("activityRequest") and (
            self.delay or item.activityRequest.name == self.hold_back
        ):
            self._delayed.append(item)
        elif self._workers:
            self._turn += 1
            self._workers[self._turn % len(self._workers)].put_nowait(item)
        else:
            self._unsent.append(item)


@contextlib.asynccontextmanager
async def serving(hub: StandInTaskHub) -> Any:
    """Serve a hub on loopback; yields its port."""
    server = grpc.aio.server()
    api_service_v1.add_DaprServicer_to_server(hub, server)
    task_hub.add_TaskHubSidecarServiceServicer_to_server(hub, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
