"""What callers may ask of the service: the routes, the loops and the tests use this one class."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from uuid import uuid4

from budsim.commons.errors import Conflict, NotFound, Unanswerable
from budsim.commons.telemetry import Metrics
from budsim.commons.tracing import NoTracing, Tracing
from budsim.hardware_ops.cluster import Cluster
from budsim.simulator.admission import Admission
from budsim.simulator.background.worker_processes import Workers
from budsim.simulator.backlog import Backlog
from budsim.simulator.cluster_sources import Inventory
from budsim.simulator.context import ServiceContext, ServiceOptions
from budsim.simulator.planning.question import FixedKnobs, Question
from budsim.simulator.questions import ModelSource, hosts_question_of, question_of
from budsim.simulator.run_steps import RunSteps
from budsim.simulator.schemas import (
    BenchmarkConfiguration,
    BenchmarkRequest,
    CapacitiesAnswer,
    CapacityRequest,
    DayOfReplicasAnswer,
    DayRequest,
    HostsRequest,
    LaunchOverrides,
    NodeConfigurations,
    NodeConfigurationsRequest,
    Recommendations,
    RunRequest,
    SearchRequest,
    benchmark_configuration,
    node_configurations,
    recommendations_of,
)
from budsim.simulator.searching import capacities_of, replicas_of_day
from budsim.simulator.signals import Signals
from budsim.simulator.site_costs import SiteCosts
from budsim.simulator.storage.records import (
    EVERY_PLAN,
    FINISHED,
    UNFINISHED,
    Feedback,
    PlanFilter,
    Run,
    Status,
    StoredPlan,
)
from budsim.simulator.storage.repository import Repository

Site = tuple[tuple[Cluster, ...], ModelSource, frozenset[str], FixedKnobs, SiteCosts]


class Simulations:
    """Accepts requests, takes runs through their steps, and answers what callers ask about them.

    Parameters
    ----------
    repository, inventory, workers, metrics
        Where things are kept, looked up, computed and counted.
    options : ServiceOptions
        Limits.
    clock : callable
        Seconds since the epoch.
    tracing : Tracing, optional
        Where the time of each step is sent; nowhere when left out.

    Attributes
    ----------
    steps : RunSteps
        Takes runs through their steps.
    on_move : callable
        Called in any thread with every run that callers stop, pause, resume or restart.
    """

    def __init__(
        self,
        repository: Repository,
        inventory: Inventory,
        workers: Workers,
        metrics: Metrics,
        options: ServiceOptions,
        *,
        clock: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
    ) -> None:
        self.repository, self.inventory, self.workers = repository, inventory, workers
        self.options, self.clock = options, clock
        self.signals, self.owner = Signals(), uuid4().hex
        self.on_move: Callable[[Run], None] = lambda _run: None
        context = ServiceContext(
            repository=repository,
            inventory=inventory,
            workers=workers,
            metrics=metrics,
            options=options,
            tracing=tracing or NoTracing(),
            signals=self.signals,
            backlog=Backlog(repository.waiting, workers=options.workers),
            owner=self.owner,
            clock=clock,
        )
        self.steps = RunSteps(context)
        self._admission = Admission(context)

    async def accept(
        self, request: RunRequest, *, request_key: str | None = None, check: bool = True
    ) -> Run:
        """Store a request as a run that begins soon, announce it, and return it.

        A repeated request returns the run it made before. With ``check`` a request that cannot
        succeed is refused here; without, its validation event says why.

        Raises
        ------
        InvalidInput, NotFound
            The request names something that is not there.
        Busy
            Too many runs are waiting.
        Conflict
            The request key was used for another request.
        """
        return await self._admission.accept(request, request_key, check=check)

    async def run_now(
        self, request: RunRequest, *, request_key: str | None = None
    ) -> Recommendations:
        """Take a request through all its steps while the caller waits.

        Raises
        ------
        InvalidInput, NotFound
            The request names something that is not there.
        Unavailable
            Something the simulation depends on is not there.
        Conflict
            The request is known already and has not been answered yet.
        """
        run = await self._admission.known(request, request_key)
        if run is None:
            await self._admission.check(request)
            run = await self._admission.accept_here(request, request_key)
            run = await self.steps.carry_out_awaited(run)
        elif run.status is not Status.COMPLETED:
            known = f"this request is already known as workflow {run.run_id}"
            raise Conflict(f"{known}, which is {run.status}")
        return await asyncio.to_thread(self.answered, run)

    def answered(self, run: Run) -> Recommendations:
        """Return what a completed run recommends."""
        return recommendations_of(run, self.repository.plans(run.run_id, EVERY_PLAN))

    def configuration(
        self, run_id: str, wanted: PlanFilter, feedback: Sequence[Feedback]
    ) -> StoredPlan:
        """Note feedback, then return the best remaining plan.

        Raises
        ------
        NotFound
            No such run, or none of its configurations has an id that feedback names.
        Unanswerable
            No plan is left.
        """
        self.find(run_id)
        unknown = self.repository.record_feedback(run_id, feedback) if feedback else ()
        if unknown:
            raise NotFound("feedback.config_id", min(unknown), "it is none of this workflow's")
        plans = self.repository.plans(run_id, wanted, limit=1)
        if not plans:
            raise Unanswerable(
                "no configuration is left for this workflow, cluster, concurrency and error rate"
            )
        return plans[0]

    async def layouts(self, request: NodeConfigurationsRequest) -> NodeConfigurations:
        """Return the parallel layouts of a model that fit on the named hosts.

        Errors as `questions.hosts_question_of`, `layouts.fitting_layouts`, `node_configurations`.
        """
        from budsim.simulator.planning.layouts import fitting_layouts

        question = await self._hosts_question(request)
        found = await asyncio.to_thread(fitting_layouts, question)
        return node_configurations(request, question, found)

    async def benchmark(self, request: BenchmarkRequest) -> BenchmarkConfiguration:
        """Return node groups for a layout the caller chose; errors as `layouts.chosen_group`."""
        from budsim.simulator.planning.layouts import ChosenLayout, chosen_group

        question = await self._hosts_question(request)
        chosen = ChosenLayout(
            device=request.device_type,
            tp=request.tp_size,
            pp=request.pp_size,
            replicas=request.replicas,
        )
        group = await self.workers.compute(chosen_group, question, chosen)
        overrides = self.options.overrides(request.model_uri or request.model_id)
        return benchmark_configuration(request, question, group, overrides)

    async def capacity(self, request: CapacityRequest) -> CapacitiesAnswer:
        """Return how many requests each cluster serves; errors as `questions.question_of`."""
        question = await self._question(request)
        found = await self.workers.compute(capacities_of, question, None)
        overrides = self._overrides(request)
        return await asyncio.to_thread(CapacitiesAnswer.of, question, found, overrides)

    async def day(self, request: DayRequest) -> DayOfReplicasAnswer:
        """Return the replicas that each hour of a day needs; errors as `questions.question_of`."""
        question = await self._question(request)
        found = await self.workers.compute(replicas_of_day, question, request.day)
        overrides = self._overrides(request)
        return await asyncio.to_thread(DayOfReplicasAnswer.of, question, found, overrides)

    def find(self, run_id: str) -> Run:
        """Return a run.

        Raises
        ------
        NotFound
            No such run.
        """
        run = self.repository.get(run_id)
        if run is None:
            raise NotFound("workflow_id", run_id)
        return run

    def stop(self, run_id: str) -> Run:
        """End a run for good; see `_move` for errors."""
        return self._move(run_id, UNFINISHED | {Status.SUSPENDED}, Status.TERMINATED)

    def pause(self, run_id: str) -> Run:
        """Take a run from whoever works on it; what it reached is kept."""
        return self._move(run_id, UNFINISHED, Status.SUSPENDED)

    def resume(self, run_id: str) -> Run:
        """Let a paused run go on from the step it had reached."""
        return self._move(run_id, frozenset({Status.SUSPENDED}), Status.PENDING)

    def restart(self, run_id: str) -> Run:
        """Let an ended or paused run begin again as its next attempt."""
        return self._move(run_id, FINISHED | {Status.SUSPENDED}, Status.PENDING, restart=True)

    async def _question(self, request: SearchRequest) -> Question:
        return await asyncio.to_thread(question_of, request, *await self._site())

    async def _hosts_question(self, request: HostsRequest) -> Question:
        return await asyncio.to_thread(hosts_question_of, request, *await self._site())

    async def _site(self) -> Site:
        """Return what a question is asked about: clusters, models, engines, their start, prices."""
        site = self.options
        return await self.inventory.clusters(), site.source, site.engines, site.deployer, site.costs

    def _overrides(self, request: SearchRequest) -> LaunchOverrides:
        return self.options.overrides(request.pretrained_model_uri, request.quantization_method)

    def _move(
        self, run_id: str, allowed: frozenset[Status], status: Status, *, restart: bool = False
    ) -> Run:
        """Return a run in its new state.

        Raises
        ------
        NotFound
            No such run.
        Conflict
            Its state does not allow the change.
        """
        now_s = self.clock()
        moved = self.repository.change_status(run_id, allowed, status, now_s=now_s, restart=restart)
        if moved is None:
            needed = " or ".join(sorted(allowed))
            raise Conflict(f"the workflow is {self.find(run_id).status}; this needs {needed}")
        self.signals.work.set()
        # The database is the truth; whoever carries the run out hears of it and follows.
        self.on_move(moved)
        return moved
