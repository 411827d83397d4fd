"""The cheapest devices of the catalog for a load.

Every device that can be had is first bounded: all its layouts with generous knobs, predicted in one
table for the whole catalog. The promising ones are then searched like any cluster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np

from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device import Device, DeviceKind, PriceKind, Segment
from budsim.hardware_ops.device_parts import numa_node
from budsim.hardware_ops.pricing import Pricing
from budsim.hardware_ops.rents import RentTerm, asked_prices
from budsim.performance.candidates import Integers
from budsim.performance.predictor import AnalyticPredictor, Predictor
from budsim.simulator.evolution import CHUNK, Progress
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.choices import Choices, ServingOption
from budsim.simulator.planning.genome import (
    BUDGET,
    DP,
    FRACTION,
    GENES,
    OPTION,
    REPLICAS,
    SEQS,
    SearchSpace,
)
from budsim.simulator.planning.hardware_groups import HardwareGroup, usual_node
from budsim.simulator.planning.plans import Outcome, Plan, Rejection, ReplicaGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.serving_options import serving_options
from budsim.simulator.search_result import Scores

# Sets of devices shown, beside the best of each vendor.
SHOWN: Final = 10
# Devices searched beside the best of each vendor: the bound tells the order to about a tenth.
SEARCHED: Final = 12
# Named devices are all searched, up to so many.
MOST_NAMED: Final = 24
# Nodes of each device in the bound, and how many times the devices it needs are searched.
MOST_NODES: Final = 500
SPARE: Final = 1.25
# Replica counts of each layout in the bound.
COUNTS: Final = 12
# Devices that miss the targets by less in the bound, with generous knobs, may meet them when
# searched.
SLACK: Final = 0.1
# Devices that most providers let are shown beside the cheapest: everybody compares with them.
REFERENCES: Final = 4
DESKTOP_NODE: Final = 4
# An estimated rent is compared at so many times its figure: of 38 accelerators in data centres and
# workstations whose rent is published, half have an estimate that is off by more than a factor of
# 1.36 (fitted by `RentRatios` on the catalog's prices of 2026).
ESTIMATE_ERROR: Final = 1.36
DEARER: Final = "dearer than the sets shown"
USUAL_SEGMENTS: Final = frozenset({Segment.DATA_CENTER, Segment.WORKSTATION})
CHINA: Final = "china"
Priced = TypeVar("Priced", Plan, ReplicaGroup)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet:
    """Devices of one type that carry a load, in the plan that does, at the price of them all.

    ``device`` is what is rented or bought: a whole socket, of which each rank has a NUMA node.
    """

    device: Device
    plan: Plan

    @property
    def devices(self) -> int:
        """How many devices are rented or bought."""
        return _bought(self.device, self.plan)

    @property
    def purchase_usd(self) -> float:
        """What the devices cost to buy, without the machines around them."""
        return self.devices * self.device.price_usd

    @property
    def compared_usd_per_h(self) -> float:
        """What the devices cost per hour in a comparison; see `compared_price`."""
        return self.plan.cost_usd_per_h * compared_price(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizingResult:
    """Device sets that meet the targets (or the nearest, where none does), cheapest per hour first.

    There are `SHOWN`, the best of each vendor, and the devices that most providers let.
    ``rejections`` has one short reason for every other device.
    """

    sets: tuple[DeviceSet, ...]
    rejections: tuple[Rejection, ...]
    evaluations: int

    def reasons(self) -> Mapping[str, tuple[str, ...]]:
        """Return the devices that are not in the answer by their reason, most devices first."""
        grouped: dict[str, list[str]] = {}
        for each in self.rejections:
            grouped.setdefault(each.reason, []).append(each.subject)
        ordered = sorted(grouped.items(), key=lambda group: -len(group[1]))
        return {reason: tuple(names) for reason, names in ordered}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Devices to choose from, and reasons why others are not offered."""

    devices: tuple[Device, ...]
    rejections: tuple[Rejection, ...] = ()
    is_named: bool = False


@dataclass(slots=True)
class _Bounds:
    """The best of each device in the bound: shortfall, USD per hour, devices."""

    best: dict[Device, tuple[float, float, int]] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)
    evaluations: int = 0

    def ranking(self) -> list[Device]:
        """Return the devices, least shortfall and then cheapest first."""
        return sorted(self.best, key=lambda device: (*self._compared(device), device.name))

    def compared_usd_per_h(self, device: Device) -> float:
        """Return what the best of a device costs per hour in a comparison."""
        return self.best[device][1] * compared_price(device)

    def _compared(self, device: Device) -> tuple[float, float]:
        return self.best[device][0], self.compared_usd_per_h(device)


def compared_price(device: Device) -> float:
    """Return the factor by which a device's price counts in comparisons of devices.

    A published rent can be paid; one of 0.82 USD an hour wins over an estimate of 0.72, which is
    no more than a tie, and loses against one of 0.50.
    """
    origin = device.price_origin
    is_estimated = origin is not None and origin.kind is PriceKind.ESTIMATED
    return ESTIMATE_ERROR if is_estimated else 1.0


def offer(
    catalog: Iterable[Device],
    pricing: Pricing,
    *,
    named: Sequence[Device] = (),
    include: frozenset[str] = frozenset(),
) -> Offer:
    """Return the devices that can be had, priced, and reasons for the others.

    Parameters
    ----------
    catalog : iterable of Device
        All there are.
    pricing : Pricing
        Says which of them can be had, and what they cost.
    named : sequence of Device
        Offer only these, of whatever segment; one that was never sold is still refused.
    include : frozenset of str
        Segments beside data centre and workstation boards, and ``china`` for boards that are sold
        there only.
    """
    if named:
        distinct = tuple(dict.fromkeys(named))
        refused = [device for device in distinct if _never_sold(device)]
        kept = tuple(pricing.priced(device) for device in distinct if not _never_sold(device))
        reasons = tuple(_rejection(device, "never sold") for device in refused)
        return Offer(devices=kept, rejections=reasons, is_named=True)
    reasons_of = {device: _why_not(device, pricing, include) for device in catalog}
    return Offer(
        devices=tuple(pricing.priced(device) for device, why in reasons_of.items() if not why),
        rejections=tuple(_rejection(device, why) for device, why in reasons_of.items() if why),
    )


def cheapest_devices(
    question: Question,
    predictor: Predictor,
    devices: Offer | Sequence[Device],
    *,
    progress: Progress = lambda _: None,
) -> SizingResult:
    """Return how many of which devices carry the question's load; its clusters do not matter.

    Prefill and decode pools are of one device type here. Bounds are those of whole replicas, which
    only tell the order in which devices are searched.
    """
    offered = devices if isinstance(devices, Offer) else _named(devices)
    judge = AnalyticPredictor() if question.analytic_only else predictor
    alone = replace(question, mode=HardwareMode.DEDICATED, plain_layouts=True, allow_mixed=False)
    bounds = _bounds(alone, judge, [numa_node(each, each.numa_nodes) for each in offered.devices])
    chosen, beaten = _promising(bounds, is_named=offered.is_named)
    progress(0.2)
    found: list[DeviceSet] = []
    rejections = [*offered.rejections, *bounds.rejections, *beaten]
    evaluations = bounds.evaluations
    for number, device in enumerate(chosen):
        outcome = answer(_on_enough(alone, device, bounds), predictor)
        evaluations += outcome.evaluations
        best, refused = _best_set(alone, device, outcome)
        found += best
        rejections += refused
        progress(0.2 + 0.8 * (number + 1) / len(chosen))
    shown, others = _shown(found)
    rejections += others
    return SizingResult(sets=shown, rejections=tuple(rejections), evaluations=evaluations)


def _named(devices: Sequence[Device]) -> Offer:
    return Offer(devices=tuple(dict.fromkeys(devices)), is_named=len(devices) <= MOST_NAMED)


def _why_not(device: Device, pricing: Pricing, include: frozenset[str]) -> str:
    availability = device.availability
    if device.name in pricing.given or availability is None:
        return ""
    if availability.segment not in USUAL_SEGMENTS and availability.segment not in include:
        return f"{availability.segment} board (--include {availability.segment})"
    if availability.market and CHINA not in include:
        return f"sold in {availability.market} only (--include {CHINA})"
    return pricing.why_not(device)


def _never_sold(device: Device) -> bool:
    return device.availability is not None and not device.availability.exists


def _bounds(question: Question, predictor: Predictor, devices: Sequence[Device]) -> _Bounds:
    """Return the best of every device on a grid of layouts, predicted in one table."""
    found = _Bounds()
    groups = [_wide_group(device) for device in devices]
    nowhere = Cluster(cluster_id="", name="catalog", nodes=())
    options, refused = serving_options(question, nowhere, groups)
    served = {option.group.device for option in options}
    reasons: dict[str, list[str]] = {}
    for each in refused:
        reasons.setdefault(each.subject, []).append(each.reason)
    found.rejections = [
        _rejection(device, "; ".join(dict.fromkeys(reasons.get(device.name, ["no engine"]))))
        for device in devices
        if device not in served
    ]
    if options:
        space = SearchSpace(options, question)
        genomes = _grid(space)
        _add_best(found, space, genomes, _scored(space, genomes, predictor))
    return found


def _wide_group(device: Device) -> HardwareGroup:
    """Return as many of a device as are ever needed, on usual nodes."""
    return HardwareGroup(
        device=device,
        label=_label(device),
        memory_free_bytes=device.memory_at_start_bytes,
        compute_share=1.0,
        nodes=(),
        sizes=((_node_devices(device), MOST_NODES),),
    )


def _node_devices(device: Device) -> int:
    """Return the devices of one node; desktops hold four cards at most, modules stand alone."""
    segment = device.availability.segment if device.availability else Segment.DATA_CENTER
    most = {Segment.DESKTOP: DESKTOP_NODE, Segment.EMBEDDED: 1}.get(segment, usual_node(device))
    return min(most, usual_node(device))


def _label(device: Device) -> DeviceLabel:
    return DeviceLabel(
        name=device.name, raw_name=device.name, device_model=device.name, wire_type=str(device.kind)
    )


def _grid(space: SearchSpace) -> Integers:
    """Return genomes of every layout in every format with generous knobs, some replica counts."""
    rows = [_grid_of(space, number, option) for number, option in enumerate(space.options)]
    return np.asarray(np.unique(space.repair(np.concatenate(rows)), axis=0))


def _grid_of(space: SearchSpace, number: int, option: ServingOption) -> Integers:
    counts = space.sizes[REPLICAS]
    lengths = {name: len(getattr(option, name)) for name in GENES[1:REPLICAS]}
    values = [np.arange(lengths[name]) for name in GENES[1:REPLICAS]]
    # The largest limits, and the middle of the budgets, which suits long prompts and short ones.
    values[SEQS - 1] = values[SEQS - 1][-1:]
    values[BUDGET - 1] = np.array([lengths[GENES[BUDGET]] // 2])
    values[FRACTION - 1] = np.array([int(np.argmax(option.memory_fraction))])
    values[DP - 1] = np.unique([0, lengths[GENES[DP]] - 1])
    few = np.unique(np.geomspace(1, counts, COUNTS).round().astype(np.int64) - 1)
    grid = np.stack(np.meshgrid([number], *values, few, indexing="ij"), axis=-1)
    return grid.reshape(-1, len(GENES)).astype(np.int64)


def _scored(space: SearchSpace, genomes: Integers, predictor: Predictor) -> Scores:
    tables = [
        space.score(genomes[start : start + CHUNK], predictor)
        for start in range(0, len(genomes), CHUNK)
    ]
    return Scores(
        objectives=np.concatenate([table.objectives for table in tables]),
        violation=np.concatenate([table.violation for table in tables]),
    )


def _add_best(found: _Bounds, space: SearchSpace, genomes: Integers, scores: Scores) -> None:
    """Add the best row of each device, and a reason for those on which nothing fits."""
    found.evaluations += len(genomes)
    choices: Choices = space.decode(genomes)
    devices = [option.group.device for option in space.options]
    price = np.array([device.price_usd_per_h for device in devices])[genomes[:, OPTION]]
    cost, short = choices.devices * price, scores.objectives[:, 0]
    for row in np.lexsort((cost, short)).tolist():
        device = devices[int(genomes[row, OPTION])]
        if scores.violation[row] <= 0 and device not in found.best:
            found.best[device] = (float(short[row]), float(cost[row]), int(choices.devices[row]))
    unfit = [device for device in dict.fromkeys(devices) if device not in found.best]
    found.rejections += [_rejection(device, "the model does not fit") for device in unfit]


def _promising(bounds: _Bounds, *, is_named: bool) -> tuple[list[Device], list[Rejection]]:
    """Return the devices worth a search, and why others are not."""
    ranking = bounds.ranking()
    if is_named:
        return ranking[:MOST_NAMED], [_rejection(each, DEARER) for each in ranking[MOST_NAMED:]]
    meeting = [device for device in ranking if bounds.best[device][0] <= SLACK]
    pool = sorted(meeting, key=bounds.compared_usd_per_h) or ranking
    firsts = {device.vendor: device for device in reversed(pool)}
    chosen = list(dict.fromkeys([*pool[:SEARCHED], *firsts.values(), *references(pool)]))
    beaten = [_rejection(each, DEARER) for each in pool if each not in chosen]
    missing = [_rejection(each, "misses the targets") for each in ranking if each not in pool]
    return chosen, [*beaten, *missing]


def references(devices: Sequence[Device]) -> list[Device]:
    """Return the devices that most providers let, at most `REFERENCES`."""
    counts = {
        device: len(asked_prices(device.name, RentTerm.ON_DEMAND))
        for device in dict.fromkeys(devices)
    }
    let = [device for device in counts if counts[device] > 1]
    return sorted(let, key=lambda device: -counts[device])[:REFERENCES]


def _on_enough(question: Question, device: Device, bounds: _Bounds) -> Question:
    """Return the question on somewhat more of one device than its bound needs."""
    size = _node_devices(device)
    needed = bounds.best[device][2]
    count = min(MOST_NODES, math.ceil(SPARE * needed / size) + 1)
    pool = DevicePool(
        device=device,
        label=_label(device),
        total=size,
        available=size,
        memory_free_bytes=device.memory_at_start_bytes,
    )
    nodes = tuple(
        Node(node_id=f"{device.name}/{n}", name=f"{device.name}/{n}", pools=(pool,))
        for n in range(count)
    )
    cluster = Cluster(cluster_id=device.name, name="catalog", nodes=nodes)
    return replace(question, clusters=(cluster,))


def _best_set(
    question: Question, device: Device, outcome: Outcome
) -> tuple[list[DeviceSet], list[Rejection]]:
    """Return the cheapest set of one device, or why it is none to show."""
    if not outcome.plans:
        reason = outcome.rejections[0].reason if outcome.rejections else "the model does not fit"
        return [], [_rejection(device, reason)]
    offered = _offered(device)
    sets = [DeviceSet(device=offered, plan=_paid(offered, plan)) for plan in outcome.plans]
    best = min(sets, key=_price)
    one_replica = max(group.devices // group.replicas for group in best.plan.groups)
    # Whoever needs more devices than there are requests has the wrong device.
    if best.plan.devices > max(question.concurrency, one_replica):
        reason = f"takes {best.devices} devices for {question.concurrency} requests in flight"
        return [], [_rejection(device, reason)]
    return [best], []


def _offered(device: Device) -> Device:
    """Return what is rented or bought for a rank: the socket of a NUMA node."""
    is_node = device.kind is DeviceKind.CPU and device.whole is not None
    return device.whole if is_node and device.whole else device


def _bought(device: Device, plan: Plan) -> int:
    """Return how many of a device a plan needs.

    Four of the six NUMA nodes of a machine with two sockets are both of them.
    """
    rank = plan.groups[0].config.device
    share = 1.0 if rank.name == device.name else rank.share_of_whole
    used = Counter[str]()
    for part in (each for group in plan.groups for replica in group.placements for each in replica):
        used[part.node_id] += part.devices
    return sum(math.ceil(count * share - 1e-9) for count in used.values())


def _paid(device: Device, plan: Plan) -> Plan:
    """Return a plan at the price of all the devices it needs; nobody lets a part of a socket."""
    whole = _bought(device, plan) * device.price_usd_per_h
    more = whole / plan.cost_usd_per_h if plan.cost_usd_per_h else 1.0
    return replace(_dearer(plan, more), groups=tuple(_dearer(each, more) for each in plan.groups))


def _dearer(priced: Priced, factor: float) -> Priced:
    return replace(
        priced,
        cost_usd_per_h=priced.cost_usd_per_h * factor,
        cost_per_million_tokens_usd=priced.cost_per_million_tokens_usd * factor,
    )


def _shown(found: Sequence[DeviceSet]) -> tuple[tuple[DeviceSet, ...], list[Rejection]]:
    """Return the best sets and the best of each vendor, and reasons for the others."""
    ranked = sorted(found, key=_price)
    good = [each for each in ranked if each.plan.meets_targets]
    pool = good or ranked
    shown = _worth_showing(pool)
    dearer = [_rejection(each.device, DEARER) for each in pool if each not in shown]
    missing = [_rejection(each.device, "misses the targets") for each in ranked if each not in pool]
    return tuple(shown), [*dearer, *missing]


def _worth_showing(ranked: Sequence[DeviceSet]) -> list[DeviceSet]:
    """Return the first `SHOWN`, the best of each vendor, and what most providers let."""
    best_of_vendors = {each.device.vendor: each for each in reversed(ranked)}.values()
    firsts = {id(each) for each in best_of_vendors}
    known = set(references([each.device for each in ranked]))
    return [
        each
        for at, each in enumerate(ranked)
        if at < SHOWN or id(each) in firsts or each.device in known
    ]


def _rejection(device: Device, reason: str) -> Rejection:
    return Rejection(cluster_id="", subject=_offered(device).name, reason=reason)


def _price(found: DeviceSet) -> tuple[float, float, float, str]:
    plan = found.plan
    return (
        plan.shortfall,
        found.compared_usd_per_h,
        plan.cost_per_million_tokens_usd,
        found.device.name,
    )
