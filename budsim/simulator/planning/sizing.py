"""Questions asked backwards.

The most a cluster can carry within the targets, and the cheapest devices for a load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device import Device, PriceKind
from budsim.performance.limits import MOST_REQUESTS
from budsim.performance.predictor import Predictor
from budsim.performance.traffic import MOST_RATE
from budsim.simulator.evolution import Progress
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.hardware_groups import usual_node
from budsim.simulator.planning.plans import Outcome, Plan, Rejection
from budsim.simulator.planning.question import Question

# Capacities are sought in steps of a factor of 4, then exactly below 100 requests and to 1 % above.
STRIDE = 4
CLOSE = 0.01
# Rates are sought from 1 request/s, down to 0.001, and to 2 %.
FIRST_RATE, LOWEST_RATE, CLOSE_RATE = 1.0, 1e-3, 1.02
# First step above a rate that is carried, or below one that is refused; the next are squared.
STEP_RATE = 1.04

REFINED_PER_KIND = 3
# Catalog devices come in as many usual nodes as there are requests, within these bounds.
MOST_NODES, FEWEST_NODES = 500, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The most requests a cluster carries within the targets, and how.

    Of a closed loop the requests in flight (``concurrency``); of traffic at a rate the requests per
    second (``rate``, nan in a closed loop). ``plan`` carries them (None: not even one request, or
    the lowest rate tried, meets the targets). ``beyond`` is the best for ``refused`` requests or
    ``refused_rate``, the least tried that is too much (0: none was).
    """

    cluster: Cluster
    concurrency: int
    plan: Plan | None
    refused: int
    beyond: Plan | None
    rejections: tuple[Rejection, ...]
    rate: float = math.nan
    refused_rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet:
    """Devices of one type that carry a load, in the plan that does."""

    device: Device
    plan: Plan

    @property
    def purchase_usd(self) -> float:
        """What the devices cost to buy, without the machines around them."""
        return self.plan.devices * self.device.price_usd

    @property
    def is_estimated(self) -> bool:
        """Whether the price of an hour is an estimate, for want of a published rent."""
        origin = self.device.price_origin
        return origin is not None and origin.kind is PriceKind.ESTIMATED


@dataclass(frozen=True, slots=True, kw_only=True)
class SizingResult:
    """Device sets that meet the targets (or the nearest, where none does), cheapest per hour first.

    Why others are missing.
    """

    sets: tuple[DeviceSet, ...]
    rejections: tuple[Rejection, ...]
    evaluations: int


def capacities(
    question: Question, predictor: Predictor, *, progress: Progress = lambda _: None
) -> tuple[Capacity, ...]:
    """Return what each cluster of the question carries within its targets.

    The question's own concurrency or rate does not matter.

    Raises
    ------
    InvalidInput
        No target bounds how long requests of a closed loop may wait: every load can be carried,
        somehow.
    """
    if not (question.traffic.is_open or question.targets.bound_latency):
        raise InvalidInput(
            "ttft_s",
            "requests may wait for ever",
            "a longest time to first token or end-to-end latency",
        )
    found = []
    for number, cluster in enumerate(question.clusters):
        alone = replace(question, clusters=(cluster,))
        carried = _rate_carried if question.traffic.is_open else _capacity
        found.append(carried(alone, predictor))
        progress((number + 1) / len(question.clusters))
    return tuple(found)


def cheapest_devices(
    question: Question,
    predictor: Predictor,
    devices: Sequence[Device],
    *,
    progress: Progress = lambda _: None,
) -> SizingResult:
    """Return how many of which of ``devices`` carry the question's load.

    Its clusters do not matter.

    All are tried on the analytic model's grid; the cheapest `REFINED_PER_KIND` of every kind of
    hardware are then searched with ``predictor``.
    """
    rough: list[DeviceSet] = []
    rejections: list[Rejection] = []
    evaluations = 0
    for number, device in enumerate(devices):
        outcome = answer(_only(question, device, analytic_only=True), predictor)
        evaluations += outcome.evaluations
        rough += _sets(device, outcome)
        rejections += () if outcome.plans else _reason(device, outcome)
        progress(0.5 * (number + 1) / len(devices))
    refined: list[DeviceSet] = []
    chosen = _cheapest_of_each_kind(rough)
    # A full search of every catalog device would take minutes; the cheapest few are searched.
    for number, device in enumerate(chosen):
        outcome = answer(_only(question, device, analytic_only=question.analytic_only), predictor)
        evaluations += outcome.evaluations
        refined += _sets(device, outcome)
        rejections += (
            () if outcome.plans and refined[-1].plan.meets_targets else _reason(device, outcome)
        )
        progress(0.5 + 0.5 * (number + 1) / len(chosen))
    good = [found for found in refined if found.plan.meets_targets] or refined
    return SizingResult(
        sets=tuple(sorted(good, key=_price)), rejections=tuple(rejections), evaluations=evaluations
    )


def _capacity(question: Question, predictor: Predictor) -> Capacity:
    """Return the most requests in flight a cluster carries."""
    outcomes: dict[int, Outcome] = {}

    def carries(concurrency: int) -> bool:
        """Say whether a plan meets the targets at this concurrency, and keep the outcome."""
        outcomes[concurrency] = answer(question.with_concurrency(concurrency), predictor)
        return _meets_targets(outcomes[concurrency])

    low, high = _bracket_concurrency(carries)
    refused = outcomes.get(high) if high > low else None
    return Capacity(
        cluster=question.clusters[0],
        concurrency=low,
        plan=outcomes[low].plans[0] if low else None,
        refused=high if refused else 0,
        beyond=_best_plan(refused),
        rejections=refused.rejections if refused else (),
    )


def _bracket_concurrency(carries: Callable[[int], bool]) -> tuple[int, int]:
    """Return the most requests carried (0: none) and the fewest refused (the same: none was)."""
    low, high = 0, 1
    while low < MOST_REQUESTS and carries(high):
        low, high = high, min(STRIDE * high, MOST_REQUESTS)
    while high - low > max(1, CLOSE * low):
        middle = (low + high) // 2
        low, high = (middle, high) if carries(middle) else (low, middle)
    return low, high


def _rate_carried(question: Question, predictor: Predictor) -> Capacity:
    """Return the largest rate a cluster carries, to 2 %."""
    outcomes: dict[float, Outcome] = {}

    def carries(rate: float) -> bool:
        """Say whether a plan meets the targets at this rate, and keep the outcome."""
        outcomes[rate] = answer(question.at_rate(rate), predictor)
        return _meets_targets(outcomes[rate])

    def guess(rate: float) -> float:
        """Return the rate that all devices may carry, from the plans for a lower one."""
        return rate * _times_over(question.clusters[0], outcomes[rate])

    low, high = _bracket_rate(carries, guess)
    refused, plan = outcomes.get(high), outcomes[low].plans[0] if low else None
    return Capacity(
        cluster=question.clusters[0],
        concurrency=0,
        plan=plan,
        refused=0,
        beyond=_best_plan(refused),
        rejections=refused.rejections if refused else (),
        rate=low,
        refused_rate=high if refused else 0.0,
    )


def _times_over(cluster: Cluster, outcome: Outcome) -> float:
    """Return how many times over the devices hold the best plans of their types, at least 1.

    Four of eight H100 and one of three L4 carry the load: 2 + 3 times.
    """
    had: dict[str, int] = {}
    for node in cluster.nodes:
        for pool in node.pools:
            had[pool.label.name] = had.get(pool.label.name, 0) + pool.available
    best: dict[str, float] = {}
    for plan in outcome.plans:
        group = plan.groups[0]
        if len(plan.groups) == 1 and plan.meets_targets:
            times = had.get(group.label.name, 0) / group.devices
            best[group.label.name] = max(best.get(group.label.name, 0.0), times)
    return max(sum(best.values()), 1.0)


def _bracket_rate(
    carries: Callable[[float], bool], guess: Callable[[float], float]
) -> tuple[float, float]:
    """Return the largest rate carried (0: none) and the least that is refused or not tried.

    ``guess`` tells from a rate that was carried which one may be; each rate tried is a whole
    search, so that the next ones are near it.
    """
    low, high = 0.0, FIRST_RATE
    step = STEP_RATE
    while high <= MOST_RATE and carries(high):
        low, high = high, max(guess(high), step * high)
        step *= step
    while not low and high > LOWEST_RATE:
        below = high / STRIDE
        low, high = (below, high) if carries(below) else (0.0, below)
    near = STEP_RATE
    while low and high / low > CLOSE_RATE:
        middle = max(math.sqrt(low * high), high / near)
        low, high = (middle, high) if carries(middle) else (low, middle)
        near *= near
    return low, high


def _meets_targets(outcome: Outcome) -> bool:
    best = _best_plan(outcome)
    return best is not None and best.meets_targets


def _best_plan(outcome: Outcome | None) -> Plan | None:
    return outcome.plans[0] if outcome and outcome.plans else None


def _only(question: Question, device: Device, *, analytic_only: bool) -> Question:
    """Return the question on as much of one catalog device as it may need."""
    devices = usual_node(device)
    label = DeviceLabel(
        name=device.name, raw_name=device.name, device_model=device.name, wire_type=str(device.kind)
    )
    pool = DevicePool(
        device=device,
        label=label,
        total=devices,
        available=devices,
        memory_free_bytes=device.memory_bytes,
    )
    count = min(MOST_NODES, max(FEWEST_NODES, question.concurrency))
    nodes = tuple(
        Node(node_id=f"{device.name}/{n}", name=f"{device.name}/{n}", pools=(pool,))
        for n in range(count)
    )
    cluster = Cluster(cluster_id=device.name, name="catalog", nodes=nodes)
    return replace(
        question, clusters=(cluster,), analytic_only=analytic_only, mode=HardwareMode.DEDICATED
    )


def _sets(device: Device, outcome: Outcome) -> list[DeviceSet]:
    return sorted((DeviceSet(device=device, plan=plan) for plan in outcome.plans), key=_price)[:1]


def _reason(device: Device, outcome: Outcome) -> list[Rejection]:
    """Return why a device is not the answer, in one rejection.

    How many there are was our own assumption.
    """
    reasons = "; ".join(dict.fromkeys(rejection.reason for rejection in outcome.rejections))
    return [Rejection(cluster_id="", subject=device.name, reason=reasons)]


def _price(found: DeviceSet) -> tuple[float, float, float, str]:
    plan = found.plan
    return (
        plan.shortfall,
        plan.cost_usd_per_h,
        plan.cost_per_million_tokens_usd,
        found.device.name,
    )


def _cheapest_of_each_kind(sets: Sequence[DeviceSet]) -> list[Device]:
    chosen: list[Device] = []
    for found in sorted(sets, key=_price):
        if sum(device.kind is found.device.kind for device in chosen) < REFINED_PER_KIND:
            chosen.append(found.device)
    return chosen
