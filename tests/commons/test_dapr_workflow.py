"""The SDK's own worker code under two suspensions in a row, with and without our guard."""

import subprocess
import sys

import pytest

HISTORY = """
import logging, resource, time
import dapr.ext.workflow._durabletask.internal.protos as pb
from dapr.ext.workflow._durabletask import worker
from google.protobuf.wrappers_pb2 import StringValue

most_s = int(time.process_time()) + 2  # a replay takes milliseconds
resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s))
resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))


def event(**kind):
    found = pb.HistoryEvent(**kind)
    found.timestamp.GetCurrentTime()
    return found


def workflow(context, given):
    first = yield context.call_activity("first")
    return first


registry = worker._Registry()
registry.add_named_orchestrator("workflow", workflow)
started = pb.ExecutionStartedEvent(
    name="workflow", workflowInstance=pb.WorkflowInstance(instanceId="i")
)
past = [
    event(eventId=-1, workflowStarted=pb.WorkflowStartedEvent()),
    event(executionStarted=started),
    event(eventId=1, taskScheduled=pb.TaskScheduledEvent(name="first")),
]
done = pb.TaskCompletedEvent(taskScheduledId=1, result=StringValue(value='"done"'))
suspended, resumed = pb.ExecutionSuspendedEvent(), pb.ExecutionResumedEvent()
new = [
    event(executionSuspended=suspended),
    event(executionResumed=resumed),
    event(executionSuspended=suspended),
    event(executionSuspended=suspended),
    event(taskCompleted=done),
    event(executionResumed=resumed),
]
"""
RUN = """
found = worker._OrchestrationExecutor(registry, logging.getLogger()).execute("i", past, new)
print(found.actions[0].completeWorkflow.result.value)
"""
OURS = """
from budsim.commons.dapr_workflow import ignore_repeated_suspensions
ignore_repeated_suspensions()
ignore_repeated_suspensions()
"""


def replay(*parts: str) -> subprocess.CompletedProcess[str]:
    """Replay the history in a process whose CPU time and memory are bounded."""
    command = [sys.executable, "-c", "".join(parts)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_sdk_does_not_survive_two_suspensions_in_a_row():
    """Why budsim never suspends a workflow: the worker loops without end and takes all memory.

    When this test fails, the SDK is mended and `ignore_repeated_suspensions` can go.
    """
    assert replay(HISTORY, RUN).returncode != 0


def test_suspensions_in_a_row_do_no_harm_to_our_worker():
    """Whoever sends them: the workflow goes on after the resume and ends."""
    found = replay(HISTORY, OURS, RUN)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == '"done"'


@pytest.mark.parametrize("extra", ["del new[3]\n"])
def test_one_suspension_is_as_before(extra: str):
    """Suspended once, resumed once."""
    found = replay(HISTORY, extra, OURS, RUN)
    assert (found.returncode, found.stdout.strip()) == (0, '"done"'), found.stderr
