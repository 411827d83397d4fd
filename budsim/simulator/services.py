"""From a request to a stored and announced answer: the steps of a run, and what callers may ask about it afterwards.

`pose` and `simulate` are ordinary functions that the terminal uses too; `Simulations` keeps what they find.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from budsim.commons.errors import (
    BudsimError,
    Busy,
    Conflict,
    InvalidInput,
    NotFound,
    Unanswerable,
    Unavailable,
)
from budsim.commons.precision import Precision
from budsim.commons.tracing import PassedOn, Tracing, trace_id
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.engine_ops.llmc import schemes
from budsim.engine_ops.shared.checks import check_adapters
from budsim.hardware_ops.cluster import Cluster, HardwareMode
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.registry import HubLookup, resolve_model
from budsim.performance.predictor import Predictor
from budsim.performance.workload import Workload
from budsim.simulator.planning.plans import Outcome, Rejection
from budsim.simulator.planning.question import Question, Risk
from budsim.simulator.planning.targets import Targets
from budsim.simulator.storage.records import (
    FINISHED,
    UNFINISHED,
    Envelope,
    Feedback,
    Finding,
    PlanFilter,
    Run,
    Status,
    Step,
    StoredPlan,
)
from budsim.simulator.storage.write_batching import Intake

if TYPE_CHECKING:
    from budsim.commons.telemetry import Metrics
    from budsim.simulator.background.worker_processes import Workers
    from budsim.simulator.cluster_sources import Inventory
    from budsim.simulator.events import Announcer
    from budsim.simulator.planning.sizing import Capacity, Sized
    from budsim.simulator.planning.whatif import Changed
    from budsim.simulator.schemas import (
        BenchmarkConfiguration,
        BenchmarkRequest,
        HostsRequest,
        NodeConfigurations,
        NodeConfigurationsRequest,
        Recommendations,
        RunRequest,
    )
    from budsim.simulator.storage.repository import Accepted, Repository

T = TypeVar("T")
SETBACKS_ALLOWED = 3
LONGEST_PAUSE_S = 30.0
QUARTERS = (0.25, 0.5, 0.75)
FIRST_GUESS_S = 3.0
COUNTED_EVERY_S = 0.2
REASONS_TOLD = 3
REASONS_KEPT = 200

WEIGHT_ONLY = {"w8a16": Precision.INT8, "nvfp4a16": Precision.NVFP4}
"""LLM Compressor's schemes (0.14) we know the stored format of and have no recipe for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where models are looked up: the registry folder, and the hub when allowed."""

    registry_dir: Path | None = None
    hub: HubLookup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a caller wants beside model, traffic, targets and clusters; the defaults ask for nothing special.

    ``pooling`` asks for embeddings or scores of a model that could generate text as well.
    """

    cluster_id: str | None = None
    mode: HardwareMode = HardwareMode.DEDICATED
    engines: frozenset[str] = frozenset()
    quantization: str | None = None
    may_quantize: bool = False
    max_context_tokens: int | None = None
    analytic_only: bool = False
    parsed_as: str = ""
    pooling: bool = False
    risk: Risk = Risk.EXPECTED
    max_loras: int = 0
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK
    seed: int = 0


def pose(
    model: str,
    workload: Workload,
    targets: Targets,
    clusters: tuple[Cluster, ...],
    *,
    wishes: Wishes | None = None,
    source: ModelSource | None = None,
) -> Question:
    """Return the question a request asks, with its model and clusters looked up; pooling models generate nothing.

    Raises
    ------
    NotFound
        No such model or cluster.
    InvalidInput
        A sequence longer than the model's context, an unknown quantization, a model we cannot read, a rate of tokens wanted
        of one that generates none, or adapters of a rank no engine has kernels for.
    """
    wishes, source = wishes or Wishes(), source or ModelSource()
    architecture = resolve_model(model, registry_dir=source.registry_dir, hub=source.hub)
    if architecture.is_embedding or wishes.pooling:
        architecture, workload = (
            replace(architecture, is_embedding=True),
            replace(workload, output_tokens=0),
        )
        if targets.tokens_per_s_per_user:
            problem = (
                f"{architecture.model_id} is asked for vectors or scores and generates no tokens"
            )
            raise InvalidInput("target_throughput_per_user", problem, "0 or null: no target")
    _check_context(architecture, workload, wishes.max_context_tokens)
    if wishes.max_loras:
        check_adapters(wishes.max_loras, wishes.max_lora_rank)
    return Question(
        architecture=architecture,
        workload=workload,
        targets=targets,
        clusters=chosen_clusters(clusters, wishes.cluster_id),
        mode=wishes.mode,
        engines=wishes.engines,
        may_quantize=wishes.may_quantize or wishes.quantization is not None,
        weight_precision=precision_named(wishes.quantization) if wishes.quantization else None,
        max_context_tokens=wishes.max_context_tokens,
        analytic_only=wishes.analytic_only,
        parsed_as=wishes.parsed_as,
        risk=wishes.risk,
        max_loras=wishes.max_loras,
        max_lora_rank=wishes.max_lora_rank,
        seed=wishes.seed,
    )


def simulate(
    question: Question,
    predictor: Predictor,
    *,
    known: Mapping[str, bytes] = MappingProxyType({}),
    progress: Callable[[float], None] = lambda _share: None,
) -> Outcome:
    """Answer a question: the one way in for the terminal, the routes and the durable runs. Pure and seeded.

    ``known`` is what `search_part` found before; it changes how long this takes, not the answer.
    """
    from budsim.simulator.planning.answer import (
        answer,  # only the process that searches loads the search
    )
    from budsim.simulator.planning.partitions import Searched

    found = {name: Searched.unpacked(content) for name, content in known.items()}
    return answer(question, predictor, known=found, progress=progress)


def parts_of(question: Question, _predictor: Predictor, _detail: object = None) -> tuple[str, ...]:
    """Return the names of what can be searched by itself: cluster x group of equal devices x engine."""
    from budsim.simulator.planning.answer import parts_of as names

    return names(question)


def search_part(question: Question, predictor: Predictor, name: str) -> bytes | None:
    """Return what the search of one part finds, for `simulate`; None where there is no such part any more."""
    from budsim.simulator.planning.answer import search_part as search

    found = search(question, predictor, name)
    return found.packed() if found else None


def capacities(
    question: Question,
    predictor: Predictor,
    *,
    progress: Callable[[float], None] = lambda _share: None,
) -> tuple[Capacity, ...]:
    """Return the most requests each cluster carries within the targets; see `budsim.simulator.planning.sizing`."""
    from budsim.simulator.planning.sizing import capacities as found

    return found(question, predictor, progress=progress)


def cheapest_devices(
    question: Question,
    predictor: Predictor,
    names: Sequence[str] = (),
    *,
    progress: Callable[[float], None] = lambda _share: None,
) -> Sized:
    """Return the cheapest devices of the catalog (of ``names``, where given) for a load; see `budsim.simulator.planning.sizing`.

    Raises
    ------
    NotFound
        The catalog has no such device.
    """
    from budsim.hardware_ops.catalog import devices, find_device
    from budsim.simulator.planning.sizing import cheapest_devices as found

    chosen = [find_device(name) for name in names] or list(devices().values())
    missing = [name for name, device in zip(names, chosen, strict=False) if device is None]
    if missing:
        raise NotFound("--device", missing[0], "`budsim devices` lists them")
    return found(question, predictor, [device for device in chosen if device], progress=progress)


def what_if(question: Question, outcome: Outcome, predictor: Predictor, change: str) -> Changed:
    """Return what ``change`` (``KNOB=VALUE``) does to the best plan; see `budsim.simulator.planning.whatif`.

    Raises
    ------
    InvalidInput
        It is not of that form, or `budsim.simulator.planning.whatif.changed` refuses it.
    """
    from budsim.simulator.planning.whatif import changed

    knob, equals, value = change.partition("=")
    if not (knob.strip() and equals and value.strip()):
        raise InvalidInput(
            "--what-if", f"{change!r} is no change of a knob", "KNOB=VALUE, such as max_num_seqs=64"
        )
    return changed(question, outcome, predictor, knob, value)


def chosen_clusters(clusters: tuple[Cluster, ...], cluster_id: str | None) -> tuple[Cluster, ...]:
    """Return all clusters, or the one with ``cluster_id``.

    Raises
    ------
    NotFound
        The inventory has no such cluster.
    """
    if cluster_id is None:
        return clusters
    chosen = tuple(
        cluster for cluster in clusters if cluster.cluster_id.lower() == cluster_id.lower()
    )
    if not chosen:
        raise NotFound(
            "cluster_id",
            cluster_id,
            f"the inventory has {len(clusters)} clusters, none with this id",
        )
    return chosen


def precision_named(name: str) -> Precision:
    """Return the weight format a caller names (`INT8`, `W4A16`, `fp8`).

    Raises
    ------
    InvalidInput
        No such format or scheme.
    """
    wanted = name.strip().lower()
    named = WEIGHT_ONLY | {scheme.name.lower(): scheme.precision for scheme in schemes().values()}
    if wanted in named:
        return named[wanted]
    try:
        return Precision(wanted)
    except ValueError:
        known = sorted({*(str(precision) for precision in Precision), *named})
        raise InvalidInput(
            "quantization_type", f"{name!r} is not known", "one of " + ", ".join(known)
        ) from None


def _check_context(architecture: Architecture, workload: Workload, cap: int | None) -> None:
    limit = min(architecture.max_context_tokens, cap or architecture.max_context_tokens)
    if workload.context_tokens > limit:
        raise InvalidInput(
            "input_tokens",
            f"{workload} exceed the context of {limit} tokens",
            f"input_tokens + output_tokens of at most {limit}",
        )


@dataclass(slots=True)
class Signals:
    """Wakes the loops that work on runs and send events, so that they need not wait for their next look."""

    work: asyncio.Event = field(default_factory=asyncio.Event)
    events: asyncio.Event = field(default_factory=asyncio.Event)


async def wait(wake: asyncio.Event, longest_s: float) -> None:
    """Wait until woken, but not for longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(longest_s):  # wait_for of Python 3.11 may swallow a cancellation
            await wake.wait()
    wake.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits and names the service works by; times in seconds."""

    own_topic: str = "budSimMessages"
    lease_s: float = 30.0
    plans_kept: int = 50
    max_pending: int = 10_000
    max_attempts: int = 100
    workers: int = 1
    source: ModelSource = field(default_factory=ModelSource)


class Simulations:
    """Accepts requests, takes runs through their steps, and answers what callers ask about them.

    Parameters
    ----------
    repository, inventory, workers, metrics
        Where things are kept, looked up, computed and counted.
    rules : Rules
        Limits.
    clock : callable
        Seconds since the epoch.
    tracing : Tracing, optional
        Where the time that steps take is told; nowhere when left out.

    Attributes
    ----------
    on_move : callable
        Told of every run that callers stop, pause, resume or restart, in any thread.
    """

    def __init__(
        self,
        repository: Repository,
        inventory: Inventory,
        workers: Workers,
        metrics: Metrics,
        rules: Rules,
        *,
        clock: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
    ) -> None:
        self.repository, self.inventory, self.workers, self.metrics, self.rules = (
            repository,
            inventory,
            workers,
            metrics,
            rules,
        )
        self.signals = Signals()
        self.owner = uuid4().hex
        self.clock = clock
        self.on_move: Callable[[Run], None] = lambda _run: None
        self.tracing = tracing or PassedOn()
        self._mean_run_s = FIRST_GUESS_S
        self._intake: Intake[_Candidate, Run] = Intake(self._store_all)
        self._backlog = _Backlog(repository.waiting)

    async def accept(
        self, request: RunRequest, *, request_key: str | None = None, check: bool = True
    ) -> Run:
        """Store a request as a run that begins soon, announce it, and return it; a repeated one returns the run it made.

        With ``check`` a request that cannot succeed is refused here rather than by its validation event.

        Raises
        ------
        InvalidInput, NotFound
            The request names something that is not there.
        Busy
            Too many runs are waiting.
        Conflict
            The request key was used for another request.
        """
        if check:
            try:
                await self._check(request)
            except (InvalidInput, NotFound):
                known = await self._known(request, request_key)
                if known:
                    return known
                raise
        run = await self._intake.put(_Candidate(request=request, request_key=request_key))
        self.signals.work.set()
        self.signals.events.set()
        return run

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
        """
        known = await self._known(request, request_key)
        if known and known.status is Status.COMPLETED:
            return await _off_loop(self.answered, known)
        if known:
            raise Conflict(
                f"this request is already known as workflow {known.run_id}, which is {known.status}"
            )
        await self._check(request)
        run = await self._store(
            _Candidate(request=request, request_key=request_key, owner=self.owner)
        )
        return await _off_loop(self.answered, await self.carry_out(run, retry=False))

    async def carry_out(self, run: Run, *, retry: bool = True) -> Run:
        """Take a run this replica holds from its next step to its end, and return it as it ended.

        What is missing for now gives the run back to be tried again (with ``retry``); any other failure ends it.

        Raises
        ------
        BudsimError
            Why it ended or was given back; it is written down already.
        """
        request = _request(run)
        started_s = self.clock()
        async with self.holding(run):
            run = await self._steps(run, request, retry=retry)
        self._mean_run_s += 0.1 * (self.clock() - started_s - self._mean_run_s)
        return run

    async def validate(self, run: Run) -> tuple[str, ...]:
        """Take a run through its validation, unless it has come further; return the parts it may be searched in one by one.

        Raises
        ------
        BudsimError
            `Unavailable`: not now; `Conflict`: the run was taken away; any other ended the run.
        """
        request = _request(run)
        if run.step is Step.VALIDATION:
            run = await self._take(run, request, self._validate)
        if request.is_proprietary_model or run.step is not Step.ESTIMATION:
            return ()
        return await self.workers.compute(parts_of, await self._question(request), None)

    async def search(self, run: Run, parts: Sequence[str], *, of: int) -> None:
        """Search some of the ``of`` parts `validate` returned and keep what was found; errors as `validate`."""
        if run.step is Step.ESTIMATION:
            await self._take(run, _request(run), partial(self._search, parts=parts, of=of))

    async def conclude(self, run: Run) -> Run:
        """Answer with what was found in all parts, rank it, and end the run; errors as `validate`."""
        request = _request(run)
        if run.step is Step.ESTIMATION:
            run = await self._take(run, request, self._estimate)
        return await self._take(run, request, self._rank)

    async def give_up(self, run: Run, reason: str) -> None:
        """End a run that could not be carried out."""
        await self._fail(run, _request(run), reason)

    async def set_back(self, run: Run, reason: str) -> bool:
        """Count a worker process or a workflow a run has cost; end the run when there were too many, and say whether."""
        if run.failures + 1 >= SETBACKS_ALLOWED:
            await self.give_up(run, reason)
            return True
        await self._advance(replace(run, failures=run.failures + 1), [])
        return False

    @asynccontextmanager
    async def holding(self, run: Run) -> AsyncIterator[None]:
        """Prolong a run's lease and mark log lines with its ids, as long as the context lasts."""
        keep = asyncio.create_task(self._keep_lease(run))
        try:
            with bound(run):
                yield
        finally:
            keep.cancel()

    def answered(self, run: Run) -> Recommendations:
        """Return what a completed run recommends."""
        from budsim.simulator.schemas import Reason, recommendations

        plans = self.repository.plans(run.run_id, EVERY_PLAN)
        return recommendations(
            run, plans, [Reason.model_validate(reason) for reason in run.reasons]
        )

    def configuration(
        self, run_id: str, wanted: PlanFilter, feedback: Sequence[Feedback]
    ) -> StoredPlan:
        """Note feedback, then return the best remaining plan.

        Raises
        ------
        NotFound
            Feedback names a configuration the run does not have.
        Unanswerable
            No plan is left.
        """
        if feedback:
            unknown = self.repository.mark(run_id, feedback)
            if unknown:
                raise NotFound(
                    "feedback.config_id",
                    min(unknown),
                    "feedback is about configurations of this workflow",
                )
        plans = self.repository.plans(run_id, wanted, limit=1)
        if not plans:
            raise Unanswerable(
                "no configuration is left for this workflow, cluster, concurrency and error rate"
            )
        return plans[0]

    async def layouts(self, request: NodeConfigurationsRequest) -> NodeConfigurations:
        """Return the parallel layouts of a model that fit on the named hosts; errors as `layouts.on_hosts` and `pose`."""
        from budsim.simulator.planning.layouts import fitting_layouts
        from budsim.simulator.schemas import node_configurations

        question = await self._hosts_question(request)
        return node_configurations(request, question, await _off_loop(fitting_layouts, question))

    async def benchmark(self, request: BenchmarkRequest) -> BenchmarkConfiguration:
        """Return node groups for a layout the caller chose; errors as `layouts.chosen_group`."""
        from budsim.simulator.planning.layouts import ChosenLayout, chosen_group
        from budsim.simulator.schemas import BenchmarkConfiguration, node_group

        question = await self._hosts_question(request)
        chosen = ChosenLayout(
            device=request.device_type,
            tp=request.tp_size,
            pp=request.pp_size,
            replicas=request.replicas,
        )
        group = await self.workers.compute(chosen_group, question, chosen)
        return BenchmarkConfiguration(
            cluster_id=str(request.cluster_id),
            model_id=request.model_id,
            node_groups=[node_group(group, question)],
        )

    async def _hosts_question(self, request: HostsRequest) -> Question:
        from budsim.simulator.planning.layouts import on_hosts

        cluster = on_hosts(
            await self.inventory.clusters(), str(request.cluster_id), request.hostnames
        )
        wishes = Wishes(
            mode=request.hardware_mode, max_context_tokens=request.model_max_context_length
        )
        posed = partial(pose, wishes=wishes, source=self.rules.source)
        field, model = (
            ("model_uri", request.model_uri)
            if request.model_uri
            else ("model_id", request.model_id)
        )
        try:
            return await _off_loop(posed, model, workload_of(request), Targets(), (cluster,))
        except NotFound as error:
            raise NotFound(field, error.value, error.hint) from error

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
        return self._move(run_id, {Status.SUSPENDED}, Status.PENDING)

    def restart(self, run_id: str) -> Run:
        """Let a run begin anew, whatever became of it."""
        return self._move(run_id, FINISHED | {Status.SUSPENDED}, Status.PENDING, restart=True)

    async def _known(self, request: RunRequest, request_key: str | None) -> Run | None:
        if request_key is None:
            return None
        known = (await _off_loop(self.repository.by_keys, [request_key])).get(request_key)
        return _same(known, request) if known else None

    async def _check(self, request: RunRequest) -> None:
        try:
            await self._check_again(request)
        except Unavailable:
            if request.debug:
                raise
            _log().warning("accepted unchecked", reason="inventory or models are not there for now")

    async def _check_again(self, request: RunRequest) -> None:
        if request.is_proprietary_model:
            await self._priced(request)
        else:
            await self._question(request)

    async def _priced(self, request: RunRequest) -> Finding:
        from budsim.simulator.provider_models import cloud_plans, provider_price

        price = await _off_loop(provider_price, request.pretrained_model_uri)
        cluster_id = str(request.cluster_id) if request.cluster_id else None
        clusters = chosen_clusters(await self.inventory.clusters(), cluster_id)
        plans, rejections = cloud_plans(price, workload_of(request), clusters)
        return Finding(plans=plans, reasons=_reasons(rejections), evaluations=len(plans))

    async def _searched(
        self, request: RunRequest, known: Mapping[str, bytes], progress: Callable[[float], None]
    ) -> Finding:
        if request.is_proprietary_model:
            return await self._priced(request)
        question = await self._question(request)
        outcome = await self.workers.simulate(question, progress, known)
        plans = await _off_loop(_stored, outcome, question, self.rules.plans_kept)
        return Finding(
            plans=plans, reasons=_reasons(outcome.rejections), evaluations=outcome.evaluations
        )

    async def _question(self, request: RunRequest) -> Question:
        clusters = await self.inventory.clusters()
        return await _off_loop(question_of, request, clusters, self.rules.source)

    def _store_all(self, candidates: Sequence[_Candidate]) -> list[Run | BudsimError]:
        waiting = self._backlog.count()
        room = max(0, self.rules.max_pending - waiting)
        runs = self.repository.add(
            [self._accepted(new, waiting + index) for index, new in enumerate(candidates[:room])]
        )
        self._backlog.grow(len(runs))
        refused = candidates[room:]
        known = self.repository.by_keys(candidate.request_key for candidate in refused)
        settled = [*runs, *(known.get(candidate.request_key or "") for candidate in refused)]
        return [
            _settled(candidate, run, waiting)
            for candidate, run in zip(candidates, settled, strict=True)
        ]

    async def _store(self, candidate: _Candidate) -> Run:
        (run,) = await _off_loop(self.repository.add, [self._accepted(candidate, waiting=0)])
        self.signals.events.set()
        return run

    def _accepted(self, candidate: _Candidate, waiting: int) -> Accepted:
        from budsim.simulator.storage.repository import Accepted

        now_s = self.clock()
        run = Run(
            run_id=str(uuid4()),
            status=Status.PENDING,
            step=Step.VALIDATION,
            request=candidate.request.stored(),
            created_s=now_s,
            eta_minutes=max(
                1, math.ceil((waiting + 1) * self._mean_run_s / self.rules.workers / 60)
            ),
            request_key=candidate.request_key,
            fingerprint=candidate.request.fingerprint(),
            holder=candidate.owner,
        )
        return Accepted(
            run=run,
            envelopes=self._announcer(run, candidate.request).accepted(),
            due_s=now_s + self.rules.lease_s if candidate.owner else now_s,
        )

    async def _steps(self, run: Run, request: RunRequest, *, retry: bool) -> Run:
        steps: dict[Step, Callable[[Run, RunRequest], Awaitable[Run]]] = {
            Step.VALIDATION: self._validate,
            Step.ESTIMATION: self._estimate,
            Step.RANKING: self._rank,
        }
        while run.step is not Step.DONE:
            try:
                run = await self._take(run, request, steps[run.step])
            except Unavailable as error:
                await self._not_now(run, request, error, retry=retry)
                raise
        return run

    async def _take(
        self, run: Run, request: RunRequest, step: Callable[[Run, RunRequest], Awaitable[Run]]
    ) -> Run:
        """Return a run as one step leaves it; what ends the run is written down, what may pass is only raised."""
        try:
            with self.metrics.step_seconds.labels(run.step).time(), self._span(run):
                return await step(run, request)
        except (Unavailable, Conflict):
            raise
        except BudsimError as error:
            await self._fail(run, request, str(error))
            raise
        except Exception:
            _log().exception("a step failed", step=run.step)
            await self._fail(run, request, "an unexpected error; the service's log has the details")
            raise

    def _span(self, run: Run) -> AbstractContextManager[object]:
        return self.tracing.span(
            run.step.value, run.request.get("traceparent"), workflow_id=run.run_id
        )

    async def _validate(self, run: Run, request: RunRequest) -> Run:
        run = replace(run, status=Status.RUNNING)
        tell = self._announcer(run, request).step
        await self._advance(
            run,
            [
                *tell("validation", Status.STARTED, "Checking the request"),
                *tell("eta", Status.RUNNING, str(run.eta_minutes or 1)),
            ],
        )
        await self._check_again(request)
        run = replace(run, step=Step.ESTIMATION, failures=0)
        return await self._advance(
            run, self._told(run, request, "validation", Status.COMPLETED, "The request is valid")
        )

    async def _estimate(self, run: Run, request: RunRequest) -> Run:
        await self._advance(run, self._searching(run, request))
        known = await _off_loop(self.repository.findings, run.run_id, run.attempt)
        announce = _Quarters(
            self._quarterly(run, request), lambda envelopes: self._advance(run, envelopes)
        )
        try:
            found = await self._searched(request, known, announce.reached)
        finally:
            await announce.finish()
        return await self._estimated(run, request, found=found)

    async def _search(self, run: Run, request: RunRequest, *, parts: Sequence[str], of: int) -> Run:
        """Do some of `_estimate`'s work, beside others who do the rest."""
        await self._note(run, self._searching(run, request))
        question = await self._question(request)
        for part in parts:
            known = await _off_loop(self.repository.searched, run.run_id, run.attempt)
            found = (
                None
                if part in known
                else await self.workers.compute(search_part, question.for_partition(part), part)
            )
            if found is not None:
                await self._note(
                    run, self._quarters(run, request, (len(known) + 1) / of), found={part: found}
                )
        return run

    async def _estimated(self, run: Run, request: RunRequest, *, found: Finding) -> Run:
        self.metrics.evaluations.inc(found.evaluations)
        for plan in found.plans:
            for group in plan.groups:
                self.metrics.plans.labels(
                    (group.document.get("confidence") or {}).get("basis", "priced")
                ).inc()
        message = f"{found.evaluations} candidates predicted"
        told = self._told(run, request, Step.ESTIMATION.value, Status.COMPLETED, message)
        run = replace(run, step=Step.RANKING, failures=0, reasons=found.reasons)
        return await self._advance(
            run, [*self._quarters(run, request, 1.0), *told], plans=found.plans
        )

    async def _rank(self, run: Run, request: RunRequest) -> Run:
        plans = await _off_loop(self.repository.plans, run.run_id, EVERY_PLAN)
        run = replace(
            run, status=Status.COMPLETED, step=Step.DONE, message=_summary(plans, run.reasons)
        )
        tell = self._announcer(run, request).step
        result = await _off_loop(self.answered, run)
        run = await self._advance(
            run,
            [
                *tell("ranking", Status.STARTED, "Ranking deployments"),
                *tell("ranking", Status.COMPLETED, f"{len(plans)} deployments ranked"),
                *tell("results", Status.COMPLETED, run.message, result=result),
            ],
        )
        self.metrics.runs.labels(run.status).inc()
        return run

    async def _not_now(
        self, run: Run, request: RunRequest, error: Unavailable, *, retry: bool
    ) -> None:
        from budsim.simulator.background.worker_processes import WorkerLost

        failures = run.failures + 1
        allowed = SETBACKS_ALLOWED if isinstance(error, WorkerLost) else self.rules.max_attempts
        if not retry or failures >= allowed:
            await self._fail(run, request, str(error))
            return
        pause_s = min(LONGEST_PAUSE_S, 2.0 ** min(failures - 1, 10))
        _log().warning("run given back", reason=str(error), again_in_s=pause_s)
        await self._advance(
            replace(run, status=Status.RUNNING, failures=failures), [], due_s=self.clock() + pause_s
        )

    async def _fail(self, run: Run, request: RunRequest, message: str) -> None:
        event = run.step.value
        self.metrics.runs.labels(Status.FAILED).inc()
        run = replace(run, status=Status.FAILED, step=Step.DONE, message=message)
        await self._advance(run, self._told(run, request, event, Status.FAILED, message))

    async def _advance(
        self,
        run: Run,
        envelopes: Sequence[Envelope],
        *,
        due_s: float | None = None,
        plans: Sequence[StoredPlan] | None = None,
    ) -> Run:
        await _off_loop(
            partial(
                self.repository.advance,
                run,
                envelopes,
                now_s=self.clock(),
                due_s=due_s,
                plans=plans,
            )
        )
        self.signals.events.set()
        return run

    async def _note(
        self,
        run: Run,
        envelopes: Sequence[Envelope],
        *,
        found: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        await _off_loop(
            partial(self.repository.note, run, envelopes, now_s=self.clock(), found=found)
        )
        self.signals.events.set()

    async def _keep_lease(self, run: Run) -> None:
        while True:
            await asyncio.sleep(self.rules.lease_s / 3)
            try:
                await _off_loop(self.repository.renew, run, self.clock() + self.rules.lease_s)
            except Unavailable:
                _log().warning("lease not renewed", reason="the database does not answer")

    def _searching(self, run: Run, request: RunRequest) -> list[Envelope]:
        return self._told(
            run, request, Step.ESTIMATION.value, Status.STARTED, "Searching deployments"
        )

    def _quarterly(self, run: Run, request: RunRequest) -> Callable[[float], list[Envelope]]:
        return lambda share: self._told(
            run, request, Step.ESTIMATION.value, Status.RUNNING, f"{round(100 * share)} %"
        )

    def _quarters(self, run: Run, request: RunRequest, share: float) -> list[Envelope]:
        """Return the announcements due when a share of the search is done; those told before are not stored again."""
        tell = self._quarterly(run, request)
        return [envelope for quarter in QUARTERS if quarter <= share for envelope in tell(quarter)]

    def _told(
        self, run: Run, request: RunRequest, event: str, status: Status, message: str
    ) -> list[Envelope]:
        return self._announcer(run, request).step(event, status, message)

    def _announcer(self, run: Run, request: RunRequest) -> Announcer:
        from budsim.simulator.events import Announcer

        return Announcer(run, request, own_topic=self.rules.own_topic, now_s=self.clock())

    def _move(
        self,
        run_id: str,
        allowed: frozenset[Status] | set[Status],
        status: Status,
        *,
        restart: bool = False,
    ) -> Run:
        moved = self.repository.move(run_id, allowed, status, now_s=self.clock(), restart=restart)
        if moved is None:
            raise Conflict(
                f"the workflow is {self.find(run_id).status}; this needs {' or '.join(sorted(allowed))}"
            )
        self.signals.work.set()
        self.on_move(moved)
        return moved


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A request that may become a run, and who carries it out (None: whoever claims it)."""

    request: RunRequest
    request_key: str | None
    owner: str | None = None


class _Backlog:
    """How many runs wait: counted now and then, and in between reckoned with what came since."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting
        self._counted_s = -math.inf
        self._count = 0

    def count(self) -> int:
        """Return how many runs wait; between two counts those that ended meanwhile are still in it."""
        now_s = time.monotonic()
        if now_s - self._counted_s >= COUNTED_EVERY_S:
            self._count, self._counted_s = self._waiting(), now_s
        return self._count

    def grow(self, runs: int) -> None:
        """Reckon with runs that were just accepted."""
        self._count += runs


class _Quarters:
    """Announces 25, 50 and 75 % of the search as they are reached, one after another; who else announces them is no matter."""

    def __init__(
        self,
        told: Callable[[float], list[Envelope]],
        write: Callable[[list[Envelope]], Awaitable[object]],
    ) -> None:
        self._told, self._write = told, write
        self._left = list(QUARTERS)
        self._writing: asyncio.Task[None] | None = None

    def reached(self, share: float) -> None:
        """Note the share done, 0..1; called in the event loop."""
        if self._left and share >= self._left[0] and self._is_free():
            self._writing = asyncio.create_task(self._announce(self._left.pop(0)))

    async def finish(self) -> None:
        """Wait for the announcement that is being written.

        Raises
        ------
        LeaseLost
            The run was taken away meanwhile.
        """
        if self._writing:
            await self._writing

    def _is_free(self) -> bool:
        """Whether the last announcement was written; after one that could not be, there are no more: `finish` tells why."""
        return self._writing is None or (self._writing.done() and self._writing.exception() is None)

    async def _announce(self, quarter: float) -> None:
        await self._write(self._told(quarter))


def question_of(
    request: RunRequest, clusters: tuple[Cluster, ...], source: ModelSource
) -> Question:
    """Return the question a wire request asks; errors as `pose`, and for a quantization nobody can make, asked for or not."""
    _check_quantization(request)
    wishes = Wishes(
        cluster_id=str(request.cluster_id) if request.cluster_id else None,
        mode=request.hardware_mode,
        quantization=request.quantization_type if request.is_quantization else None,
        may_quantize=request.is_quantization,
        max_context_tokens=request.model_max_context_length,
        analytic_only=request.simulation_method == "heuristic",
        parsed_as=request.model_uri or "",
        pooling=request.pooling,
        risk=request.risk,
        max_loras=request.max_loras,
        max_lora_rank=request.max_lora_rank,
    )
    workload = workload_of(request)
    return pose(
        request.pretrained_model_uri,
        workload,
        request.targets,
        clusters,
        wishes=wishes,
        source=source,
    )


def _check_quantization(request: RunRequest) -> None:
    if request.quantization_type:
        precision_named(request.quantization_type)
    known = sorted({method for scheme in schemes().values() for method in scheme.methods})
    if request.quantization_method and request.quantization_method.upper() not in known:
        problem = f"{request.quantization_method!r} is not known"
        raise InvalidInput("quantization_method", problem, "one of " + ", ".join(known))


def workload_of(request: RunRequest | HostsRequest) -> Workload:
    """Return the traffic a wire request describes."""
    return Workload(
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        concurrency=request.concurrency,
    )


EVERY_PLAN = PlanFilter(error_rate_threshold=math.inf)


def _settled(candidate: _Candidate, run: Run | None, waiting: int) -> Run | BudsimError:
    if run is None:
        return Busy(f"{waiting} runs are waiting already")
    try:
        return _same(run, candidate.request)
    except Conflict as error:
        return error


def _same(run: Run, request: RunRequest) -> Run:
    if run.fingerprint != request.fingerprint():
        raise Conflict("this Idempotency-Key or event id was used for another request")
    return run


def _request(run: Run) -> RunRequest:
    from budsim.simulator.schemas import RunRequest

    return RunRequest.model_validate(run.request)


def _stored(outcome: Outcome, question: Question, keep: int) -> tuple[StoredPlan, ...]:
    from budsim.simulator.schemas import stored_plans

    return stored_plans(outcome, question, keep=keep)


def _reasons(rejections: Sequence[Rejection]) -> tuple[dict[str, Any], ...]:
    from budsim.simulator.schemas import Reason

    return tuple(
        Reason.of(rejection).model_dump(mode="json") for rejection in rejections[:REASONS_KEPT]
    )


def _summary(plans: Sequence[StoredPlan], reasons: Sequence[Any]) -> str:
    if not plans:
        told = "; ".join(
            f"{reason['subject']}: {reason['reason']}" for reason in reasons[:REASONS_TOLD]
        )
        return f"No deployment is possible. {told}".strip()
    best = plans[0]
    if best.ttft_s is None:
        return f"Priced at {best.cost_per_million_tokens_usd:g} USD per million output tokens; latency is unknown."
    if best.error_rate > 0:
        return f"No deployment meets every target; the nearest misses them by {best.error_rate:.1%} on average."
    good = sum(plan.error_rate == 0 for plan in plans)
    return f"{good} of {len(plans)} deployments meet every target."


def _log() -> Any:
    import structlog  # a fifth of a second the terminal need not pay

    return structlog.get_logger()


def bound(run: Run) -> AbstractContextManager[object]:
    """Return a context whose log lines carry the ids of a run and of its trace."""
    import structlog

    found = trace_id(run.request.get("traceparent"))
    return structlog.contextvars.bound_contextvars(
        workflow_id=run.run_id, **({"trace_id": found} if found else {})
    )


async def _off_loop(work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.to_thread(work, *arguments)
