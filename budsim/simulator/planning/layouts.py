"""Layouts of a model that fit on chosen hosts, and what a chosen layout would do there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from budsim.commons.errors import InvalidInput, NotFound, Unanswerable
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ServingEngine
from budsim.hardware_ops.cluster import Cluster, DevicePool, Node
from budsim.hardware_ops.device import Device
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.choices import make_option
from budsim.simulator.planning.hardware_groups import HardwareGroup, crosses_nodes, usable
from budsim.simulator.planning.placement import place
from budsim.simulator.planning.plans import Placement, ReplicaGroup
from budsim.simulator.planning.question import ParallelLayout, Question
from budsim.simulator.planning.scoring import fitting_layouts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FittingLayout:
    """A parallel layout that fits, and how many replicas of it the devices hold."""

    tp: int
    pp: int
    max_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLayouts:
    """Layouts of a model on equal devices.

    None where it does not fit or no engine serves it there.
    """

    group: HardwareGroup
    layouts: tuple[FittingLayout, ...]
    supports_pipeline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLayout:
    """A layout the caller chose: on which device (any of its names), and how often."""

    device: str
    tp: int
    pp: int
    replicas: int


def restrict_to_hosts(
    clusters: Sequence[Cluster], cluster_id: str, hostnames: Sequence[str]
) -> Cluster:
    """Return the cluster reduced to the named nodes.

    Raises
    ------
    Unanswerable
        No such cluster, or a host it does not have.
    """
    cluster = next(
        (cluster for cluster in clusters if cluster.cluster_id.lower() == cluster_id.lower()), None
    )
    if cluster is None:
        problem = f"cluster_id: {cluster_id!r} is not in the inventory"
        raise Unanswerable(problem, field="cluster_id")
    wanted = set(hostnames)
    nodes = tuple(node for node in cluster.nodes if wanted & {node.name, node.node_id})
    missing = wanted - {name for node in nodes for name in (node.name, node.node_id)}
    if missing:
        known = ", ".join(sorted(node.name for node in cluster.nodes)[:10])
        problem = f"hostnames: {min(missing)!r} is not in the cluster; it has {known}"
        raise Unanswerable(problem, field="hostnames")
    return replace(cluster, nodes=nodes)


def fitting_layouts(question: Question) -> tuple[DeviceLayouts, ...]:
    """Return what fits on each kind of device of the question's clusters.

    A layout fits when an engine serves the model there and one sequence of the question's length
    fits beside the weights.

    Raises
    ------
    Unanswerable
        None of the devices can be used; says why.
    """
    by_device = _groups(question)
    if not by_device:
        problem = f"hostnames: no device of them can be used: {_why_unusable(question)}"
        raise Unanswerable(problem, field="hostnames")
    return tuple(_device_layouts(question, [group for _, group in groups]) for groups in by_device)


def chosen_group(question: Question, predictor: Predictor, chosen: ChosenLayout) -> ReplicaGroup:
    """Return replicas of a chosen layout, launched and predicted as the search would.

    Each gets its share of the traffic.

    Raises
    ------
    NotFound
        The hosts have no such device.
    InvalidInput
        The layout is illegal for the model, does not fit in memory, or the hosts hold fewer
        replicas.
    """
    cluster, group = _group_for(question, chosen)
    _check_room(group, chosen)
    placements = place(group, chosen.tp, chosen.pp, chosen.replicas)
    # One replica with its share is searched, then repeated: all are launched alike.
    share = -(-question.concurrency // chosen.replicas)
    single = replace(
        question.with_concurrency(share),
        clusters=(_only(cluster, placements[0]),),
        layout=ParallelLayout(tp=chosen.tp, pp=chosen.pp),
        analytic_only=False,
    )
    outcome = answer(single, predictor)
    if not outcome.plans:
        problem = "; ".join(dict.fromkeys(rejection.reason for rejection in outcome.rejections))
        raise InvalidInput(
            "tp_size",
            f"{chosen.tp} x {chosen.pp} {group.label.name} cannot serve the model: {problem}",
            "another layout",
        )
    found = outcome.plans[0].groups[0]
    return replace(
        found,
        placements=placements,
        explanation=replace(found.explanation, next_replica=None),
        cost_usd_per_h=found.cost_usd_per_h * chosen.replicas,
    )


def _check_room(group: HardwareGroup, chosen: ChosenLayout) -> None:
    """Refuse a layout the hosts have no room for, and name the size that is too large."""
    if chosen.tp > group.largest_node:
        problem = (
            f"{chosen.tp} are more than the {group.largest_node} free on the largest of the hosts"
        )
        raise InvalidInput("tp_size", problem, f"at most {group.largest_node}")
    deepest = (
        group.capacity(chosen.tp, 1)
        if crosses_nodes(group.device)
        else group.largest_node // chosen.tp
    )
    if chosen.pp > deepest:
        raise InvalidInput(
            "pp_size", f"{chosen.pp} stages of {chosen.tp} devices do not fit", f"at most {deepest}"
        )
    most = group.capacity(chosen.tp, chosen.pp)
    if chosen.replicas > most:
        raise InvalidInput(
            "replicas",
            f"{chosen.replicas} do not fit",
            f"at most {most} of {chosen.tp} x {chosen.pp} devices",
        )


def _groups(question: Question) -> list[list[tuple[Cluster, HardwareGroup]]]:
    """Return the groups of each device type, the largest first.

    Time-sliced devices of one type are in several: all of them with the least that is left of any,
    and fewer of them with more.
    """
    found: dict[Device, list[tuple[Cluster, HardwareGroup]]] = {}
    for cluster in question.clusters:
        for group in usable(cluster, question.mode, skip_master_cpus=False).groups:
            found.setdefault(group.device, []).append((cluster, group))
    return [sorted(groups, key=lambda each: -each[1].devices) for groups in found.values()]


def _why_unusable(question: Question) -> str:
    reasons = (
        f"{rejection.subject}: {rejection.reason}"
        for cluster in question.clusters
        for rejection in usable(cluster, question.mode, skip_master_cpus=False).rejections
    )
    return "; ".join(reasons) or "they have none"


def _group_for(question: Question, chosen: ChosenLayout) -> tuple[Cluster, HardwareGroup]:
    """Return the largest group of a device on which the chosen layout fits; else the largest."""
    groups = _groups_named(question, chosen.device)
    for cluster, group in groups:
        has_room = group.capacity(chosen.tp, chosen.pp) >= chosen.replicas
        if has_room and (chosen.tp, chosen.pp) in _fitting(question, group):
            return cluster, group
    return groups[0]


def _groups_named(question: Question, device: str) -> list[tuple[Cluster, HardwareGroup]]:
    by_device = _groups(question)
    for groups in by_device:
        group = groups[0][1]
        label = group.label
        names = (label.name, label.device_model, label.raw_name, group.device.name, label.wire_type)
        if device.lower() in {name.lower() for name in names}:
            return groups
    labels = dict.fromkeys(groups[0][1].label.name for groups in by_device)
    raise NotFound(
        "device_type", device, f"the hosts have {', '.join(labels) or 'no usable device'}"
    )


def _device_layouts(question: Question, groups: Sequence[HardwareGroup]) -> DeviceLayouts:
    """Return what fits on one device type, given as its groups, the largest first."""
    most: dict[tuple[int, int], int] = {}
    for group in groups:
        for tp, pp in _fitting(question, group):
            most[pp, tp] = max(most.get((pp, tp), 0), group.capacity(tp, pp))
    layouts = tuple(
        FittingLayout(tp=tp, pp=pp, max_replicas=count) for (pp, tp), count in sorted(most.items())
    )
    pipelines = any(
        engine.metadata(question.architecture).supports_pipeline_parallelism
        for engine in _able(question, groups[0])
    )
    return DeviceLayouts(group=groups[0], layouts=layouts, supports_pipeline=pipelines)


def _able(question: Question, group: HardwareGroup) -> list[ServingEngine]:
    """Return the engines that may be used and serve the model on these devices."""
    return [
        engine
        for name, engine in serving_engines.items()
        if (not question.engines or name in question.engines)
        and engine.why_not(question.architecture, group.device) is None
    ]


def _fitting(question: Question, group: HardwareGroup) -> set[tuple[int, int]]:
    engines = _able(question, group)
    return {layout for engine in engines for layout in _fits(question, group, engine)}


def _fits(question: Question, group: HardwareGroup, engine: ServingEngine) -> set[tuple[int, int]]:
    weights = engine.precisions(question.architecture, group.device, may_quantize=False)
    if not weights:
        return set()
    option = make_option(replace(question, analytic_only=True), group, engine, weights[:1])
    return fitting_layouts_of(question, option)


def _only(cluster: Cluster, placements: Iterable[Placement]) -> Cluster:
    """Return the cluster with just the devices one replica lies on."""
    counts: dict[tuple[str, int], int] = {}
    for placement in placements:
        key = (placement.node_id, placement.pool)
        counts[key] = counts.get(key, 0) + placement.devices
    nodes = (_reduced(node, counts) for node in cluster.nodes)
    return replace(cluster, nodes=tuple(node for node in nodes if node.pools))


def _reduced(node: Node, counts: Mapping[tuple[str, int], int]) -> Node:
    pools: list[DevicePool] = []
    for index, pool in enumerate(node.pools):
        devices = counts.get((node.node_id, index), 0)
        if devices:
            pools.append(replace(pool, total=devices, available=devices))
    return replace(node, pools=tuple(pools))
