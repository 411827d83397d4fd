"""From a question to its answer: search every cluster, turn what is worth having into plans, and say why the rest is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from uuid import UUID, uuid5

import numpy as np

from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import Launch, Metadata, ReplicaConfig, ServingEngine
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Floats
from budsim.performance.predictions import BOUNDS, Interval, MemoryUse, Predictions
from budsim.performance.predictor import AnalyticPredictor, Predictor
from budsim.simulator.evolution import Explored
from budsim.simulator.planning.cost import usd_per_h, usd_per_million_tokens
from budsim.simulator.planning.explanations import enough_devices, explained
from budsim.simulator.planning.mixes import Mixes, mixed
from budsim.simulator.planning.partitions import Known, Searched, joined, part_names, search_parts
from budsim.simulator.planning.placement import HardwareGroup, place, usable
from budsim.simulator.planning.plans import (
    Explanation,
    Figure,
    Outcome,
    Placement,
    Plan,
    PredictedMemory,
    PredictedService,
    Rejection,
    ReplicaGroup,
)
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.space import (
    DP,
    EP,
    KV,
    OFFER,
    PP,
    PRECISIONS,
    REPLICAS,
    TP,
    WEIGHTS,
    Choices,
    Offer,
    OfferSpace,
    make_offer,
    paid_share,
)

Progress = Callable[[float], None]
Engines = Mapping[str, ServingEngine]

LAYOUT = [OFFER, TP, PP, EP, DP, WEIGHTS, KV, REPLICAS]
PLANS_PER_CLUSTER = 12
CONFIGURATIONS = UUID("9b7c2f5e-6d0a-5c34-9a50-4f1f3c1f0b11")
"""Namespace of configuration ids: the same configuration has the same id in every answer."""


def answer(
    question: Question,
    predictor: Predictor,
    *,
    known: Known = MappingProxyType({}),
    progress: Progress = lambda _: None,
) -> Outcome:
    """Return the deployments worth having, best first, and a reason for everything that is not among them.

    Plans that meet every target come first, cheapest first; then the others by how much they miss. Several per cluster: the
    Pareto front's best and the best of every device type. Pure: same question and predictor, same answer, whoever searched its
    parts: of those ``known`` (see `parts_of`, `search_part`) nothing is searched again.
    """
    judge = _judge(question, predictor)
    plans: list[Plan] = []
    rejections: list[Rejection] = []
    evaluations = 0
    for number, cluster in enumerate(question.clusters):

        def share(done: float, number: int = number) -> None:
            progress((number + done) / len(question.clusters))

        found = _answer_cluster(_ground(question, cluster), judge, known, share)
        plans += found.plans
        rejections += found.rejections
        evaluations += found.evaluations
        share(1.0)
    if not question.clusters:
        rejections.append(
            Rejection(cluster_id="", subject="inventory", reason="it has no clusters")
        )
    return Outcome(
        plans=tuple(sorted(plans, key=_rank)), rejections=tuple(rejections), evaluations=evaluations
    )


def parts_of(question: Question) -> tuple[str, ...]:
    """Return the names of what can be searched by itself: every engine on every group of equal devices of every cluster."""
    grounds = [_ground(question, cluster) for cluster in question.clusters]
    return tuple(name for ground in grounds for name in ground.parts)


def search_part(question: Question, predictor: Predictor, name: str) -> Searched | None:
    """Return what the search of one part finds; None where there is no such part (any more)."""
    for cluster in question.for_partition(name).clusters:
        ground = _ground(question, cluster)
        if name in ground.parts:
            return ground.search(_judge(question, predictor), [name])[name]
    return None


def _judge(question: Question, predictor: Predictor) -> Predictor:
    return AnalyticPredictor() if question.analytic_only else predictor


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """A cluster as a question sees it: what engines offer there, and reasons for the devices nothing is offered on."""

    question: Question
    cluster: Cluster
    offers: tuple[Offer, ...]
    rejections: tuple[Rejection, ...]

    @cached_property
    def space(self) -> OfferSpace:
        """Everything that may be chosen."""
        return OfferSpace(self.offers, self.question)

    @cached_property
    def parts(self) -> list[str]:
        """Names of what can be searched by itself."""
        return part_names(self.question, self.cluster.cluster_id, self.space) if self.offers else []

    def search(
        self, predictor: Predictor, names: Sequence[str], progress: Progress = lambda _: None
    ) -> dict[str, Searched]:
        """Return what the searches of some parts find."""
        return search_parts(
            self.question, self.cluster.cluster_id, self.space, predictor, names, progress=progress
        )


def _ground(question: Question, cluster: Cluster) -> _Ground:
    chosen = {
        name: engine
        for name, engine in serving_engines.items()
        if not question.engines or name in question.engines
    }
    hardware = usable(cluster, question.mode, skip_master_cpus=question.skip_master_cpus)
    offers, refused = _offers(question, cluster, hardware.groups, chosen)
    rejections = (*hardware.rejections, *refused)
    return _Ground(question=question, cluster=cluster, offers=tuple(offers), rejections=rejections)


def _answer_cluster(
    ground: _Ground, predictor: Predictor, known: Known, progress: Progress
) -> Outcome:
    question, cluster, rejections = ground.question, ground.cluster, list(ground.rejections)
    if not ground.offers:
        if not rejections:
            rejections.append(_reject(cluster, cluster.name, "it has no devices"))
        return Outcome(plans=(), rejections=tuple(rejections), evaluations=0)
    space, names = ground.space, ground.parts
    found = {
        **known,
        **ground.search(predictor, [name for name in names if name not in known], progress),
    }
    explored, evaluations = joined(question, space, predictor, [found[name] for name in names])
    mixes = mixed(question, space, explored, predictor)
    shortlist = _Shortlist(question, cluster, space, explored, predictor)
    rejections += shortlist.too_small()
    plans = shortlist.plans(mixes)
    rejections += _misses(question, cluster, plans)
    evaluations += mixes.evaluations if mixes else 0
    return Outcome(plans=plans, rejections=tuple(rejections), evaluations=evaluations)


def _offers(
    question: Question, cluster: Cluster, groups: Sequence[HardwareGroup], engines: Engines
) -> tuple[list[Offer], list[Rejection]]:
    """Return every engine on every group it can serve the model on; devices no engine serves are rejected, each counted once."""
    offers: list[Offer] = []
    rejections: list[Rejection] = []
    for device in dict.fromkeys(group.device for group in groups):
        same = [group for group in groups if group.device == device]
        reasons: list[str] = []
        served = False
        for engine in engines.values():
            weights, reason = _weights(question, same[0], engine)
            served = served or bool(weights)
            offers += [make_offer(question, group, engine, weights) for group in same if weights]
            if reason:
                reasons.append(reason)
        count = 0 if served else max(group.devices for group in same)
        rejections += [
            _reject(cluster, same[0].label.name, reason)
            for reason in reasons
            if served or reason != reasons[-1]
        ]
        if not served:
            reason = reasons[-1] if reasons else "no engine was asked for"
            rejections.append(_reject(cluster, same[0].label.name, reason, devices=count))
    return offers, rejections


def _weights(
    question: Question, group: HardwareGroup, engine: ServingEngine
) -> tuple[tuple[Precision, ...], str]:
    """Return the weight formats to try, or none and the reason."""
    reason = engine.why_not(question.architecture, group.device) or _why_not_layout(
        question, engine
    )
    if reason:
        return (), reason if engine.name in reason else f"{engine.name}: {reason}"
    if question.max_loras and not engine.metadata(question.architecture).supports_lora:
        return (), f"{engine.name} serves no LoRA adapters of {question.architecture.family}"
    formats = engine.precisions(
        question.architecture, group.device, may_quantize=question.may_quantize
    )
    wanted = question.weight_precision
    if wanted is not None:
        offered = ", ".join(formats) or "none"
        formats = tuple(precision for precision in formats if precision is wanted)
        if not formats:
            return (
                (),
                f"{engine.name} does not run {wanted} weights on {group.device.name}; it offers {offered}",
            )
    return formats, "" if formats else f"{engine.name} has no weight format for {group.device.name}"


def _why_not_layout(question: Question, engine: ServingEngine) -> str | None:
    """Return why an engine cannot serve the model in the question's own layout, or None."""
    layout, architecture = question.layout, question.architecture
    if layout is None:
        return None
    if layout.tp not in engine.tp_sizes(architecture, layout.tp):
        return f"{engine.name} cannot split this model over {layout.tp} devices"
    if layout.pp not in engine.pp_sizes(architecture, layout.tp * layout.pp):
        return f"{engine.name} cannot run this model in a pipeline of {layout.pp}"
    return None


@dataclass(frozen=True, slots=True)
class _Shortlist:
    """What was found on one cluster, and how it becomes plans and reasons."""

    question: Question
    cluster: Cluster
    space: OfferSpace
    explored: Explored
    predictor: Predictor

    def too_small(self) -> list[Rejection]:
        """Return a rejection with the figures for every device type and engine no candidate fits on."""
        rejections = []
        offers = self.space.offers
        by_offer = self.explored.genomes[:, 0]
        for device in dict.fromkeys(offer.group.device for offer in offers):
            mine = [number for number, offer in enumerate(offers) if offer.group.device == device]
            if np.any(self.explored.feasible[np.isin(by_offer, mine)]):
                continue
            nearest = min(mine, key=lambda number: self._least_violation(by_offer == number))
            rows = np.flatnonzero(by_offer == nearest)
            row = rows[np.argmin(self.explored.violation[rows])]
            label = offers[nearest].group.label.name
            devices = max(offers[number].group.devices for number in mine)
            rejections.append(
                _reject(self.cluster, label, self._why_too_small(int(row)), devices=devices)
            )
        return rejections

    def _least_violation(self, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
        return float(self.explored.violation[rows].min()) if rows.any() else float("inf")

    def _why_too_small(self, row: int) -> str:
        choices = self.space.read(self.explored.genomes[[row]])
        memory, _ = self.predictor.predict(self.space.candidates(choices))
        offer = self.space.offers[int(choices.offer[0])]
        layout = f"tp={int(choices.tp[0])}, pp={int(choices.pp[0])}, {PRECISIONS[int(choices.weights[0])]}"
        budget, weights = float(memory.budget_bytes[0]), float(memory.weight_bytes[0])
        whole = offer.group.device.memory_bytes
        enough = enough_devices(self.question, offer, self.predictor)
        has = (
            f"a device has {whole / GIB:.1f} GiB, of which {offer.engine.name} may take {budget / GIB:.1f} GiB; "
            + (
                f"{enough[0] * enough[1]} would do (tp={enough[0]}, pp={enough[1]})"
                if enough
                else "no number of them would do"
            )
        )
        if weights > budget:
            return f"weights need {weights / GIB:.1f} GiB per device at {layout}; {has}"
        others = float(memory.activation_bytes[0] + memory.reserved_bytes[0])
        cache = self.space.context_tokens * float(memory.kv_bytes_per_token[0])
        return (
            f"weights ({weights / GIB:.1f} GiB), activations and reserve ({others / GIB:.1f} GiB) and the KV cache of one "
            f"sequence of {self.space.context_tokens} tokens ({cache / GIB:.1f} GiB) do not fit at {layout}; {has}"
        )

    def plans(self, mixes: Mixes | None) -> tuple[Plan, ...]:
        """Return the plans worth having, best first: those explored, and mixes of them."""
        rows = self._rows()
        choices = self.space.read(self.explored.genomes[rows])
        hardware = [self.space.offers[offer].group for offer in choices.offer.tolist()]
        members: list[tuple[int, ...]] = [(row,) for row in range(len(rows))]
        if mixes:
            members += [tuple(len(rows) + row for row in mix) for mix in mixes.members]
            choices, hardware = choices.joined(mixes.choices), [*hardware, *mixes.groups]
        if not members:
            return ()
        memory, predictions = self.predictor.predict(self.space.candidates(choices))
        explanations = explained(
            self.question, self.space, choices, hardware, predictions, self.predictor
        )
        predicted = Predicted(self.question, memory, predictions, explanations)
        knee = self._knee()
        plans = [
            self._plan(
                choices,
                mix,
                hardware,
                predicted,
                is_knee=mix[0] < len(rows) and self._layout(rows[mix[0]]) == knee,
            )
            for mix in members
        ]
        return tuple(sorted(plans, key=_rank))

    def _rows(self) -> list[int]:
        """Return the best row of every device type and engine, then the best of the Pareto front, one of each layout.

        The front's knee is among them. About `PLANS_PER_CLUSTER`: rows that differ in knobs alone are the same plan to who has
        to choose.
        """
        ranking = [
            row for row in self.explored.ranking().tolist() if self.explored.violation[row] <= 0
        ]
        best: dict[tuple[int, str], int] = {}
        for row in ranking:
            offer = self.space.offers[int(self.explored.genomes[row, 0])]
            best.setdefault((hash(offer.group.device), offer.engine.name), row)
        front = set(self.explored.front().tolist())
        kept = {self._layout(row): row for row in best.values()}
        knee = self.explored.knee()
        if knee is not None:
            kept.setdefault(self._layout(knee), knee)
        for row in ranking:
            if row in front and len(kept) < PLANS_PER_CLUSTER:
                kept.setdefault(self._layout(row), row)
        return list(kept.values())

    def _knee(self) -> tuple[int, ...]:
        """Return the layout of the front's knee; nothing without a front."""
        knee = self.explored.knee()
        return () if knee is None else self._layout(knee)

    def _layout(self, row: int) -> tuple[int, ...]:
        return tuple(self.explored.genomes[row, LAYOUT].tolist())

    def _plan(
        self,
        choices: Choices,
        rows: Sequence[int],
        hardware: Sequence[HardwareGroup],
        predicted: Predicted,
        *,
        is_knee: bool,
    ) -> Plan:
        load = choices.replicas[list(rows)] * choices.concurrency[list(rows)]
        shares = self.question.workload.concurrency * load / load.sum()
        groups = [
            replica_group(
                self.question,
                self.cluster,
                self.space,
                choices,
                row,
                hardware[row],
                predicted,
                float(requests),
            )
            for row, requests in zip(rows, shares, strict=True)
        ]
        per_h = sum(group.cost_usd_per_h for group in groups)
        per_s = sum(
            requests / group.service.e2e_s.value
            for requests, group in zip(shares, groups, strict=True)
        )
        return Plan(
            cluster_id=self.cluster.cluster_id,
            groups=tuple(groups),
            ttft_s=max(group.service.ttft_s.value for group in groups),
            tokens_per_s_per_user=min(
                group.service.tokens_per_s_per_user.value for group in groups
            ),
            e2e_s=max(group.service.e2e_s.value for group in groups),
            error_rate=max(group.error_rate for group in groups),
            cost_usd_per_h=per_h,
            cost_per_million_tokens_usd=float(
                usd_per_million_tokens(per_h, per_s * self.question.workload.counted_tokens)
            ),
            is_knee=is_knee,
        )


def replica_group(
    question: Question,
    cluster: Cluster,
    space: OfferSpace,
    choices: Choices,
    row: int,
    hardware: HardwareGroup,
    predicted: Predicted,
    requests: float,
) -> ReplicaGroup:
    """Return one row's replicas, placed on ``hardware``; ``requests`` are all those in flight on them."""
    offer = space.offers[int(choices.offer[row])]
    cache_bytes = space.cache_bytes(choices, row, predicted.memory)
    config = space.config(choices, row, cache_bytes)
    replicas = int(choices.replicas[row])
    devices = replicas * config.tp * config.pp
    per_h = float(
        usd_per_h(devices, config.device.price_usd_per_h, paid_share(question, offer.group))
    )
    service = predicted.service(row)
    per_s = requests * question.workload.counted_tokens / service.e2e_s.value
    launch = offer.engine.launch(question.architecture, config)
    placements = place(hardware, config.tp, config.pp, replicas)
    return ReplicaGroup(
        config_id=_config_id(cluster, offer, config, launch, placements),
        engine=offer.engine.name,
        kind=config.device.kind,
        label=hardware.label,
        config=config,
        placements=placements,
        service=service,
        memory=predicted.needs(row, cache_bytes),
        launch=launch,
        metadata=_metadata(question, offer.engine, hardware.device.kind),
        explanation=predicted.explanations[row],
        error_rate=float(predicted.error_rate[row]),
        cost_usd_per_h=per_h,
        cost_per_million_tokens_usd=float(usd_per_million_tokens(per_h, per_s)),
    )


def _metadata(question: Question, engine: ServingEngine, kind: DeviceKind) -> Metadata:
    """Return the engine's metadata, by `Question.parsed_as` where that names a model with parsers."""
    architecture = question.architecture
    parsed_as = question.parsed_as or architecture.model_id
    named = engine.metadata(replace(architecture, model_id=parsed_as), kind)
    known = named.tool_calling_parser_type or named.reasoning_parser_type
    return named if known else engine.metadata(architecture, kind)


class Predicted:
    """A table of predictions, read row by row."""

    def __init__(
        self,
        question: Question,
        memory: MemoryUse,
        predictions: Predictions,
        explanations: Sequence[Explanation],
    ) -> None:
        self.memory, self.predictions, self.explanations = memory, predictions, explanations
        self.error_rate: Floats = question.targets.missed_by(question.judged(predictions))

    def service(self, row: int) -> PredictedService:
        """Return what one request of a row's replica will see."""
        found, service = self.predictions, self.predictions.service
        e2e_s = _figure(service.e2e_s, found.e2e_s, row)
        return PredictedService(
            ttft_s=_figure(service.ttft_s, found.ttft_s, row),
            tpot_s=_figure(service.tpot_s, found.tpot_s, row),
            e2e_s=e2e_s,
            tokens_per_s_per_user=_figure(
                service.tokens_per_s_per_user, found.tokens_per_s_per_user, row
            ),
            requests_per_s=_per_s(float(service.concurrency[row]), e2e_s),
            basis=found.basis(row),
            in_range=bool(found.in_range[row]),
            bound_by=BOUNDS[int(found.time_s[:, row].argmax())],
        )

    def needs(self, row: int, cache_bytes: float) -> PredictedMemory:
        """Return the memory of one device of a row's replica that keeps a KV cache of ``cache_bytes``."""
        memory = self.memory
        kept = cache_bytes / float(memory.kv_bytes[row]) if memory.kv_bytes[row] > 0 else 1.0
        return PredictedMemory(
            weight_bytes=float(memory.weight_bytes[row]),
            kv_cache_bytes=cache_bytes,
            activation_bytes=float(memory.activation_bytes[row]),
            reserved_bytes=float(memory.reserved_bytes[row]),
            budget_bytes=float(memory.budget_bytes[row]),
            kv_capacity_tokens=float(memory.kv_capacity_tokens[row]) * kept,
        )


def _figure(values: Floats, intervals: Mapping[float, Interval], row: int) -> Figure:
    return Figure(
        value=float(values[row]),
        low80=float(intervals[0.8].low[row]),
        high80=float(intervals[0.8].high[row]),
        low90=float(intervals[0.9].low[row]),
        high90=float(intervals[0.9].high[row]),
    )


def _per_s(requests: float, latency_s: Figure) -> Figure:
    """Return how many requests per second are finished with so many in flight: Little's law."""
    return Figure(
        value=requests / latency_s.value,
        low80=requests / latency_s.high80,
        high80=requests / latency_s.low80,
        low90=requests / latency_s.high90,
        high90=requests / latency_s.low90,
    )


def _misses(question: Question, cluster: Cluster, plans: Sequence[Plan]) -> list[Rejection]:
    """Return, for each device type that is in no plan that meets the targets, which one binds and by how much it is missed."""
    good = {group.label.name for plan in plans if plan.meets_targets for group in plan.groups}
    best: dict[str, Plan] = {}
    for plan in plans:
        if len(plan.groups) == 1:
            best.setdefault(plan.groups[0].label.name, plan)
    rejections = []
    for label, plan in best.items():
        if label in good:
            continue
        group = plan.groups[0]
        missed = ", ".join(question.targets.misses(group.explanation.headroom))
        layout = f"{group.replicas} x {group.engine} tp={group.config.tp}, pp={group.config.pp}"
        rejections.append(
            _reject(cluster, label, f"misses its targets: {missed}; nearest: {layout}")
        )
    return rejections


def _rank(plan: Plan) -> tuple[float, float, int, float, str]:
    return (
        plan.error_rate,
        plan.cost_per_million_tokens_usd,
        plan.devices,
        plan.e2e_s,
        plan.groups[0].config_id,
    )


def _config_id(
    cluster: Cluster,
    offer: Offer,
    config: ReplicaConfig,
    launch: Launch,
    placements: Sequence[Sequence[Placement]],
) -> str:
    content = {
        "cluster": cluster.cluster_id,
        "engine": [offer.engine.name, offer.engine.version],
        "device": config.device.name,
        "layout": [config.tp, config.pp, config.ep, config.dp, config.concurrency],
        "formats": [config.weight_precision, config.kv_precision],
        "command": launch.command,
        "envs": dict(launch.envs),
        "where": [
            [(part.node_id, part.pool, part.devices) for part in replica] for replica in placements
        ],
    }
    return str(uuid5(CONFIGURATIONS, json.dumps(content, sort_keys=True)))


def _reject(cluster: Cluster, subject: str, reason: str, devices: int = 0) -> Rejection:
    return Rejection(cluster_id=cluster.cluster_id, subject=subject, reason=reason, devices=devices)
