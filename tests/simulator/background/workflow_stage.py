"""Replicas of the service on one database and one sidecar that runs workflows."""

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Callable
from typing import Any

from budsim.commons.config import DaprSettings
from budsim.commons.dapr import GrpcSidecar, connect
from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.telemetry import new_metrics
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.background.workflow_dispatcher import (
    WorkflowDispatcher,
)
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.context import ServiceOptions
from budsim.simulator.planning.question import Question
from budsim.simulator.schemas import RunRequest
from budsim.simulator.searching import search_part
from budsim.simulator.services import Simulations
from budsim.simulator.storage.records import Run
from budsim.simulator.storage.repository import Repository
from tests.simulator.background.task_hub import StandInTaskHub
from tests.simulator.background.test_loops import Clock
from tests.simulator.serving import CLUSTER_ID, OTHER_CLUSTER_ID, h100_cluster, known_answer


class Stage:
    """Replicas of the service on one database and one sidecar."""

    def __init__(self, repository: Repository, hub: StandInTaskHub, port: int) -> None:
        self.repository, self.hub, self._port = repository, hub, port
        self.clock = Clock()
        self.simulations: list[Simulations] = []
        self.dispatchers: list[WorkflowDispatcher] = []
        self._closing = contextlib.AsyncExitStack()

    async def add(
        self, simulation: Any = known_answer, *, inventory: Any = None, workers: Any = None
    ) -> Simulations:
        """Start one more replica; its dispatcher hands runs over when told."""
        settings = DaprSettings(_env_file=None, dapr_grpc_port=self._port, dapr_timeout_s=2.0)
        sidecar = connect(settings)
        assert isinstance(sidecar, GrpcSidecar)
        inventory = inventory or FixedInventory(
            (h100_cluster(CLUSTER_ID), h100_cluster(OTHER_CLUSTER_ID))
        )
        workers = workers or ThreadWorkers(simulation, AnalyticPredictor)
        options = ServiceOptions(max_attempts=4)
        service = Simulations(
            self.repository, inventory, workers, new_metrics(), options, clock=self.clock
        )
        hub = WorkflowHub(settings, sidecar, slots=2)
        dispatcher = WorkflowDispatcher(service, hub, poll_s=0.05)
        dispatcher.start_worker()
        self._closing.push_async_callback(sidecar.close)
        self._closing.push_async_callback(hub.close)
        self.simulations.append(service)
        self.dispatchers.append(dispatcher)
        await until(hub.is_serving)
        return service

    async def ended(self, run: Run) -> Run:
        """Hand over what is due, and return the run once it and its workflow have ended."""

        async def both() -> Run | None:
            await self.dispatchers[0].dispatch_due()
            now = self.repository.get(run.run_id)
            workflow = self.hub.instances.get(now.instance_id)
            return (
                now
                if now.step == "done" and (workflow is None or workflow.status != "RUNNING")
                else None
            )

        found: Run = await until(both)
        return found

    async def hold(self, body: dict[str, Any]) -> Run:
        """Accept a request, hand its run over, and hold back the first activity of its workflow."""
        self.hub.delay = True
        run = await self.simulations[0].accept(RunRequest.model_validate(body))
        await self.dispatchers[0].dispatch_due()
        await until(lambda: known(bool(self.hub.activities)))
        return run

    async def close(self) -> None:
        """Stop every replica, and collect the event loops that the SDK does not close."""
        await self._closing.aclose()
        self.simulations.clear()
        self.dispatchers.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def log_of(self, run: Run) -> list[tuple[str, str]]:
        """Return the event log of a run."""
        return [(event.event, event.status) for event in self.repository.outbox.events(run.run_id)]


class Counting(ThreadWorkers):
    """Counts the parts it searched."""

    def __init__(self, simulation: Any) -> None:
        super().__init__(simulation, AnalyticPredictor)
        self.searched = 0

    async def compute(self, work: Any, question: Question, detail: object) -> Any:
        """Compute, and count."""
        self.searched += work is search_part
        return await super().compute(work, question, detail)


class Replaceable:
    """An inventory that can be replaced."""

    def __init__(self, clusters: tuple[Cluster, ...]) -> None:
        self.now = clusters

    async def clusters(self) -> tuple[Cluster, ...]:
        """Return what it holds now."""
        return self.now


async def until(found: Callable[[], Any]) -> Any:
    """Return what ``found`` finds once it is true; fail when that takes too long."""
    async with asyncio.timeout(40):
        while not (answer := await found()):  # noqa: ASYNC110 - the other side tells nobody
            await asyncio.sleep(0.02)
        return answer


async def known(fact: bool) -> bool:
    """Return a fact, for `until`."""
    return fact
