"""Dapr Workflow behind one small interface: a worker, and calls that start and end workflows.

Nothing is imported or connected before it is used. The worker connects, and reconnects, in threads
of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from budsim.commons.config import DaprSettings
from budsim.commons.dapr import GrpcSidecar
from budsim.commons.errors import Unavailable

COMPONENT = "dapr"
READY_S = 0.05
HISTORY_KEPT_S = 300.0
# Longest wait for the SDK's worker when it is shut down; its threads are daemons.
CLOSING_S = 10.0

NOT_FOUND = "no such instance"
NAME_TAKEN = "already exists"


class WorkflowHub:
    """The workflows of this app, as its sidecar keeps them.

    Parameters
    ----------
    sidecar : GrpcSidecar
        Who is asked.
    slots : int
        Activities carried out at a time by this process.
    """

    def __init__(self, settings: DaprSettings, sidecar: GrpcSidecar, *, slots: int) -> None:
        self._settings, self._sidecar, self._slots = settings, sidecar, slots
        self._runtime: Any = None
        self._starting: threading.Thread | None = None

    def serve(
        self, workflow: Callable[..., Any], activities: Mapping[str, Callable[..., Any]]
    ) -> None:
        """Begin to carry out the work the sidecar sends; returns at once, even without one."""
        from dapr.conf import settings as sdk
        from dapr.ext.workflow import WorkflowRuntime
        from dapr.ext.workflow.logger import LoggerOptions

        ignore_repeated_suspensions()
        if token := self._settings.dapr_api_token:  # the SDK takes its token from nowhere else
            setattr(sdk, "DAPR_API_TOKEN", token.get_secret_value())  # noqa: B010 - has no types
        self._runtime = WorkflowRuntime(
            host=self._settings.dapr_runtime_host,
            port=str(self._settings.dapr_grpc_port),
            maximum_concurrent_activity_work_items=self._slots,
            history_cache_ttl=HISTORY_KEPT_S,
            logger_options=LoggerOptions(log_level="WARNING", log_handler=_StructuredLog()),
        )
        for name in ("WorkflowRuntime", "durabletask-worker"):
            logging.getLogger(name).propagate = False
        self._runtime.register_workflow(workflow)
        for name, activity in activities.items():
            self._runtime.register_activity(activity, name=name)
        self._starting = threading.Thread(
            target=_start, args=(self._runtime,), daemon=True, name="workflow-start"
        )
        self._starting.start()

    async def is_serving(self) -> bool:
        """Return whether the sidecar can send us work."""
        return self._runtime is not None and await asyncio.to_thread(
            self._runtime.wait_for_worker_ready, READY_S
        )

    async def start(self, workflow: str, instance_id: str, order: Mapping[str, object]) -> bool:
        """Start a workflow under our name for it; False while one of this name is unfinished."""
        from dapr.proto import api_v1

        request = api_v1.StartWorkflowRequest(
            instance_id=instance_id,
            workflow_component=COMPONENT,
            workflow_name=workflow,
            input=json.dumps(order).encode(),
        )
        try:
            await self._sidecar.call("StartWorkflowBeta1", request)
        except Unavailable as error:
            if NAME_TAKEN in _detail(error):
                return False
            raise
        return True

    async def status(self, instance_id: str) -> str | None:
        """Return the state of a workflow in Dapr's words (RUNNING, ...); None without one."""
        from dapr.proto import api_v1

        request = api_v1.GetWorkflowRequest(instance_id=instance_id, workflow_component=COMPONENT)
        try:
            answer = await self._sidecar.call("GetWorkflowBeta1", request)
        except Unavailable as error:
            if NOT_FOUND in _detail(error):
                return None
            raise
        return str(answer.runtime_status) or None

    async def resume(self, instance_id: str) -> None:
        """Resume a workflow that somebody suspended through the sidecar; budsim suspends none."""
        from dapr.proto import api_v1

        await self._sidecar.call(
            "ResumeWorkflowBeta1", api_v1.ResumeWorkflowRequest(**_name(instance_id))
        )

    async def terminate(self, instance_id: str) -> None:
        """End a workflow."""
        from dapr.proto import api_v1

        await self._sidecar.call(
            "TerminateWorkflowBeta1", api_v1.TerminateWorkflowRequest(**_name(instance_id))
        )

    async def close(self) -> None:
        """Take no more work, and deliver what is done."""
        if self._runtime is not None:
            await _in_daemon(self._runtime.shutdown)
        if self._starting is not None:
            await _in_daemon(self._starting.join)


def ignore_repeated_suspensions() -> None:
    """Make the SDK's worker ignore the suspension of a workflow that is suspended already.

    SDK 1.19 keeps the second of two suspensions in a list of events to process after the resume.
    Processing it suspends the workflow again, and each event after it is then appended to the list
    that is being walked: a loop without end that takes 10 MB of memory a second. budsim sends no
    suspensions, but anybody who may call the sidecar can.
    """
    from dapr.ext.workflow._durabletask import worker

    executor: Any = worker._OrchestrationExecutor
    process = executor.process_event
    if getattr(process, "ignores_repeated_suspensions", False):
        return

    def process_event(self: Any, context: Any, event: Any) -> None:
        """Process the event unless it suspends a workflow that is suspended already."""
        if not (self._is_suspended and event.HasField("executionSuspended")):
            process(self, context, event)

    process_event.ignores_repeated_suspensions = True  # type: ignore[attr-defined]
    executor.process_event = process_event


async def _in_daemon(work: Callable[[], object]) -> None:
    """Run ``work`` in a thread that neither we nor the interpreter's exit wait for too long."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def run() -> None:
        """Do the work, then wake the waiting coroutine if its loop is still open."""
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, daemon=True, name="workflow-stop").start()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSING_S):
            await done.wait()


class _StructuredLog(logging.Handler):
    """Writes the SDK's log as lines of ours, without its remark on every readiness check."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        text = record.getMessage()
        if "readiness check" not in text:
            structlog.get_logger().log(
                record.levelno, text, logger=record.name, exc_info=record.exc_info
            )


def _name(instance_id: str) -> dict[str, str]:
    return {"instance_id": instance_id, "workflow_component": COMPONENT}


def _detail(error: Unavailable) -> str:
    return str(getattr(error.__cause__, "details", str)() or "").lower()


def _start(runtime: Any) -> None:
    """Connect; the SDK raises here when it is shut down before it ever connected."""
    try:
        runtime.start()
    except RuntimeError as error:
        structlog.get_logger().warning("no work is taken from the sidecar", reason=str(error))
