"""Several models on one inventory: which plan of each, so that all of them fit together.

Every model is asked once, on all that there is. Of the plans that meet its targets one is chosen
for each model, so that no device is used twice, as many models as possible are served, and the
whole is cheapest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster, DevicePool, HardwareMode, Node
from budsim.performance.predictor import Predictor
from budsim.simulator.evolution import Progress
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.hardware_groups import (
    USUAL_NODE,
    DeviceCount,
    HardwareGroup,
    usable,
)
from budsim.simulator.planning.placement import Replica, devices_of, place
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.planning.question import Question

# Combinations that are looked at before the best one so far is taken.
MOST_COMBINATIONS: Final = 50_000
# Node types for which one more node is tried; each asks every model again.
MOST_NODE_TYPES: Final = 4

Devices = Mapping[str, tuple[HardwareGroup, ...]]
Rank = tuple[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """Devices that a model's best plan needs and other models hold.

    Attributes
    ----------
    model : int
        Number of the model, in the order of the questions.
    device : str
        Name of the device.
    wanted, left : int
        How many its best plan uses, and how many are left by the others.
    held_by : mapping
        How many each of the other models uses, by its number.
    """

    model: int
    device: str
    wanted: int
    left: int
    held_by: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneMoreNode:
    """What one more node of a kind would change.

    Attributes
    ----------
    cluster, node : str
        Names of the cluster, and of the node that is taken twice.
    served : int
        How many models would be served.
    cost_usd_per_h : float
        What all their plans would cost together, USD per hour.
    """

    cluster: str
    node: str
    served: int
    cost_usd_per_h: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOutcome:
    """Plans of several models that fit together, in the order of the questions.

    Attributes
    ----------
    plans : tuple of Plan or None
        The plan of each model; None where it is not served.
    alone : tuple of Outcome
        What each model would get if it had everything for itself.
    reasons : tuple of str
        Why a model has no plan; empty where it has one.
    contentions : tuple of Contention
        Which devices keep models from their best plans, and who holds them.
    more : tuple of OneMoreNode
        What one more node of each kind would change.
    """

    plans: tuple[Plan | None, ...]
    alone: tuple[Outcome, ...]
    reasons: tuple[str, ...]
    contentions: tuple[Contention, ...]
    more: tuple[OneMoreNode, ...] = ()

    @property
    def served(self) -> int:
        """How many models have a plan."""
        return sum(plan is not None for plan in self.plans)

    @property
    def cost_usd_per_h(self) -> float:
        """What all plans cost together, USD per hour."""
        return sum(plan.cost_usd_per_h for plan in self.plans if plan)


def answer_together(
    questions: Sequence[Question],
    predictor: Predictor,
    *,
    one_more_node: bool = True,
    progress: Progress = lambda _share: None,
) -> SharedOutcome:
    """Return plans of several models that share an inventory.

    Parameters
    ----------
    questions : sequence of Question
        One for each model, all about the same clusters and whole devices.
    predictor : Predictor
        Predicts all of them.
    one_more_node : bool
        Also say what one more node of each kind would change.
    progress : callable
        Is told the share done, 0..1: each search of a model counts alike.

    Raises
    ------
    InvalidInput
        There are no questions, they are about different clusters, or about time-sliced devices.
    """
    _check(questions)
    clusters = questions[0].clusters
    kinds = tuple(_node_types(clusters)) if one_more_node else ()
    # Each model is searched alone, perhaps again on what is left, and once for each kind of node.
    searches = len(questions) * (2 + len(kinds))
    alone = tuple(
        answer(question, predictor, progress=_part_of(progress, number, searches))
        for number, question in enumerate(questions)
    )
    chosen = _with_leftovers(questions, predictor, _choose(alone, _devices_of(questions)))
    progress(2 * len(questions) / searches)
    found = SharedOutcome(
        plans=chosen,
        alone=alone,
        reasons=tuple(map(_reason, alone, chosen)),
        contentions=tuple(_contentions(questions, alone, chosen)),
    )
    larger = []
    for number, kind in enumerate(kinds):
        larger.append(_one_more(questions, predictor, *kind))
        progress((number + 3) * len(questions) / searches)
    return replace(found, more=tuple(larger))


def _part_of(progress: Progress, done: int, searches: int) -> Progress:
    """Return what tells the share of one search as a share of all; ``done`` have ended."""
    return lambda share: progress((done + share) / searches)


def _check(questions: Sequence[Question]) -> None:
    if not questions:
        raise InvalidInput("questions", "there are none", "at least one model")
    for number, question in enumerate(questions):
        if question.clusters != questions[0].clusters:
            problem = "is about other clusters than the first"
            raise InvalidInput(f"questions[{number}]", problem, "one inventory for all")
        if question.mode is HardwareMode.SHARED:
            problem = "asks for time-sliced devices"
            raise InvalidInput(f"questions[{number}].shared", problem, "whole devices")


def _devices_of(questions: Sequence[Question]) -> Devices:
    """Return the devices of each cluster that any of the models may use, by the cluster's id."""
    skip = all(question.skip_master_cpus for question in questions)
    return {
        cluster.cluster_id: usable(cluster, HardwareMode.DEDICATED, skip_master_cpus=skip).groups
        for cluster in questions[0].clusters
    }


@dataclass(slots=True)
class _Combinations:
    """A depth-first search over one plan for each model, cheapest plans first."""

    candidates: list[tuple[int, list[Plan]]]
    best: dict[int, Plan] = field(default_factory=dict)
    best_rank: Rank = (1_000_000, 0.0)
    looked_at: int = 0

    def look(
        self, at: int, left: Devices, chosen: dict[int, Plan], rank: tuple[int, float]
    ) -> None:
        """Choose a plan for model number ``at`` and all that follow.

        ``rank`` counts models without a plan, then USD per hour: less is better.
        """
        self.looked_at += 1
        if self._bound(at, rank) >= self.best_rank or self.looked_at > MOST_COMBINATIONS:
            return
        if at == len(self.candidates):
            self.best, self.best_rank = dict(chosen), rank
            return
        model, plans = self.candidates[at]
        unserved, cost = rank
        for plan in plans:
            placed = _placed(plan, left)
            if placed is None:
                continue
            moved, remaining = placed
            chosen[model] = moved
            self.look(at + 1, remaining, chosen, (unserved, cost + plan.cost_usd_per_h))
            del chosen[model]
        self.look(at + 1, left, chosen, (unserved + 1, cost))

    def _bound(self, at: int, rank: Rank) -> Rank:
        """Return the best rank that the models from ``at`` on could still lead to."""
        unserved, cost = rank
        for _, plans in self.candidates[at:]:
            unserved += not plans
            cost += plans[0].cost_usd_per_h if plans else 0.0
        return unserved, cost


def _choose(alone: Sequence[Outcome], devices: Devices) -> tuple[Plan | None, ...]:
    """Return the plan of each model in the best combination."""
    candidates = [
        (
            number,
            sorted(
                (plan for plan in outcome.plans if plan.meets_targets),
                key=lambda plan: (plan.cost_usd_per_h, plan.devices),
            ),
        )
        for number, outcome in enumerate(alone)
    ]
    # Large models first: their plans fit in few places.
    candidates.sort(key=lambda each: -each[1][0].devices if each[1] else 0)
    search = _Combinations(candidates)
    search.look(0, devices, {}, (0, 0.0))
    return tuple(search.best.get(number) for number in range(len(alone)))


def _placed(plan: Plan, devices: Devices) -> tuple[Plan, Devices] | None:
    """Return a plan on devices that are left, and what then is left; None where it does not fit."""
    left = devices[plan.cluster_id]
    if _is_bound(plan):
        return _where_it_is(plan, devices)
    groups = []
    for group in plan.groups:
        spread = max(len({part.node_id for part in replica}) for replica in group.placements)
        config = group.config
        placements = _first_that_fits(
            (each for each in left if each.device == config.device),
            (config.tp, config.pp, group.replicas),
            spread,
        )
        if placements is None:
            return None
        groups.append(replace(group, placements=placements))
        left = tuple(each.without(devices_of(placements)) for each in left)
    return replace(plan, groups=tuple(groups)), {**devices, plan.cluster_id: left}


def _is_bound(plan: Plan) -> bool:
    """Return whether a plan's pools may hand caches over the link of a rack, and so stay in it."""
    links = (group.config.device.scale_up for group in plan.groups)
    return plan.is_disaggregated and any(link.domain_devices > USUAL_NODE for link in links)


def _where_it_is(plan: Plan, devices: Devices) -> tuple[Plan, Devices] | None:
    """Return a plan on its own devices, and what then is left; None where one is taken."""
    left, free = devices[plan.cluster_id], Counter[tuple[str, int]]()
    for group in left:
        free |= Counter({(node, pool): count for node, pool, count in group.free()})
    taken = list(_used(iter([plan])))
    needed = Counter[tuple[str, int]]()
    for node, pool, count in taken:
        needed[node, pool] += count
    if needed - free:
        return None
    rest = tuple(each.without(taken) for each in left)
    return plan, {**devices, plan.cluster_id: rest}


def _first_that_fits(
    groups: Iterator[HardwareGroup], layout: tuple[int, int, int], spread: int
) -> tuple[Replica, ...] | None:
    """Return where replicas lie on the first devices that hold them; None where none do.

    A replica that crosses more nodes than ``spread`` would be slower than its plan says.
    """
    tp, pp, replicas = layout
    for group in groups:
        if not group.sizes or group.capacity(tp, pp) < replicas:
            continue
        placements = place(group, tp, pp, replicas)
        if all(len({part.node_id for part in replica}) <= spread for replica in placements):
            return placements
    return None


def _with_leftovers(
    questions: Sequence[Question], predictor: Predictor, chosen: tuple[Plan | None, ...]
) -> tuple[Plan | None, ...]:
    """Return the plans with those of unserved models that what is left can serve.

    What a model was shown for the whole inventory need not be all that a part of it can do.
    """
    found = list(chosen)
    for number, question in enumerate(questions):
        if found[number] is not None:
            continue
        taken = [plan for plan in found if plan]
        clusters = tuple(_without(cluster, taken) for cluster in question.clusters)
        plans = answer(replace(question, clusters=clusters), predictor).plans
        found[number] = next((plan for plan in plans if plan.meets_targets), None)
    return tuple(found)


def _without(cluster: Cluster, plans: Sequence[Plan]) -> Cluster:
    """Return a cluster without the devices of plans."""
    used = Counter[tuple[str, int]]()
    for node_id, pool, devices in _used(iter(plans)):
        used[node_id, pool] += devices
    nodes = tuple(
        replace(
            node,
            pools=tuple(
                _reduced(pool, used[node.node_id, number]) for number, pool in enumerate(node.pools)
            ),
        )
        for node in cluster.nodes
    )
    return replace(cluster, nodes=nodes)


def _reduced(pool: DevicePool, used: int) -> DevicePool:
    if not used:
        return pool
    reason = "used by another model of this question"
    return replace(pool, available=pool.available - used, unavailable_reason=reason)


def _used(plans: Iterator[Plan]) -> Iterator[DeviceCount]:
    return (
        count for plan in plans for group in plan.groups for count in devices_of(group.placements)
    )


def _reason(alone: Outcome, chosen: Plan | None) -> str:
    """Return why a model has no plan."""
    if chosen:
        return ""
    if any(plan.meets_targets for plan in alone.plans):
        return "the devices of all its plans are used by the other models"
    if alone.plans:
        return "even with all devices for itself it misses its targets"
    return alone.rejections[0].reason if alone.rejections else "nothing fits"


def _contentions(
    questions: Sequence[Question], alone: Sequence[Outcome], chosen: Sequence[Plan | None]
) -> Iterator[Contention]:
    """Yield the devices that keep models from the best plan they would have alone."""
    totals = sum((each.free_by_label() for each in questions[0].clusters), Counter[str]())
    for number, outcome in enumerate(alone):
        best = outcome.plans[0] if outcome.plans else None
        if best is None or not _is_kept_from(best, chosen[number]):
            continue
        for device, wanted in _counts(best).items():
            held = _holders(chosen, number, device)
            left = totals[device] - sum(held.values())
            if held and left < wanted:
                yield Contention(
                    model=number, device=device, wanted=wanted, left=left, held_by=held
                )


def _is_kept_from(best: Plan, mine: Plan | None) -> bool:
    """Return whether a model has a worse plan than the one it would have alone."""
    worse = mine is None or mine.cost_usd_per_h > best.cost_usd_per_h
    return best.meets_targets and worse


def _holders(chosen: Sequence[Plan | None], number: int, device: str) -> dict[int, int]:
    """Return how many devices of a label the other models use, by their numbers."""
    counts = {other: _counts(plan)[device] for other, plan in enumerate(chosen) if plan}
    return {other: count for other, count in counts.items() if count and other != number}


def _counts(plan: Plan) -> Counter[str]:
    """Return how many devices of each label a plan uses."""
    counts = Counter[str]()
    for group in plan.groups:
        counts[group.label.name] += group.devices
    return counts


def _node_types(clusters: Sequence[Cluster]) -> list[tuple[Cluster, Node]]:
    """Return one node of each kind that takes work, at most `MOST_NODE_TYPES`."""
    kinds: dict[object, tuple[Cluster, Node]] = {}
    for cluster in clusters:
        for node in cluster.nodes:
            shape = tuple((pool.label.name, pool.total) for pool in node.pools)
            if node.is_up and not node.is_master and shape:
                kinds.setdefault((cluster.cluster_id, shape), (cluster, node))
    return list(kinds.values())[:MOST_NODE_TYPES]


def _one_more(
    questions: Sequence[Question], predictor: Predictor, cluster: Cluster, node: Node
) -> OneMoreNode:
    """Return what a further node, with all its devices free, would change."""
    pools = tuple(replace(pool, available=pool.total, unavailable_reason="") for pool in node.pools)
    added = replace(node, node_id=f"{node.node_id}+1", name=f"{node.name}+1", pools=pools)
    grown = replace(cluster, nodes=(*cluster.nodes, added))
    clusters = tuple(grown if each is cluster else each for each in questions[0].clusters)
    asked = [replace(question, clusters=clusters) for question in questions]
    found = answer_together(asked, predictor, one_more_node=False)
    return OneMoreNode(
        cluster=cluster.name,
        node=node.name,
        served=found.served,
        cost_usd_per_h=found.cost_usd_per_h,
    )
