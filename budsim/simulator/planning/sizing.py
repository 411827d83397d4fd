"""The most that a cluster can carry within the targets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import Predictor
from budsim.simulator.evolution import Progress
from budsim.simulator.planning.answer import answer, carried_loads
from budsim.simulator.planning.carried import RATE_STEP, most_load, under
from budsim.simulator.planning.largest_load import LargestLoad, above
from budsim.simulator.planning.loaded_plans import LoadedPlans
from budsim.simulator.planning.plans import Outcome, Plan, Rejection
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.taste import way_of

# Loads are sought exactly below 100 and to 2 % above. Where estimates of them do not help,
# the second step is twice the first, and the next ones grow fourfold.
STRIDE = 4
CLOSE = 1.02
# Pools alone are first asked for so many requests in flight, or for 1 request/s.
FIRST_REQUESTS, FIRST_RATE = 64, 1.0
# So many plans are put under other loads; those that miss first under these shares of theirs.
NEAREST = 4
SMALLER = (0.96, 0.985)
# What they carry then is good enough if it is so large a part of the load, or of the next estimate.
# Else a plain question is asked for that part, where no more than so many were.
NEARLY = 0.92
SEARCHES = 2
# Plans that carry an estimate are tried under so much more.
FURTHER = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The most requests a cluster carries within the targets, and how.

    Of a closed loop the requests in flight (``concurrency``); of traffic at a rate the requests per
    second (``rate``, nan in a closed loop). ``plan`` carries them (None: not even one request, or
    the lowest rate tried, meets the targets). ``refused`` requests or ``refused_rate`` are the
    least known to be too much (0: none is). ``beyond`` is what misses targets then: ``plan``, or
    the best that was found where that was asked for (None: queues grow without end).
    """

    cluster: Cluster
    concurrency: int
    plan: Plan | None
    refused: int
    beyond: Plan | None
    rejections: tuple[Rejection, ...]
    rate: float = math.nan
    refused_rate: float = 0.0


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
        found.append(_capacity(alone, predictor))
        progress((number + 1) / len(question.clusters))
    return tuple(found)


class _Loads:
    """The loads of a question that were asked for on its only cluster, counted as by `under`.

    ``estimates`` are loads that replays say the cluster carries, before any is asked for, largest
    first; see `carried_loads`.
    ``pools_from`` is a load from which on only pools may carry it.
    """

    def __init__(self, question: Question, predictor: Predictor) -> None:
        self.question, self.predictor = question, predictor
        self.outcomes: dict[int, Outcome] = {}
        self._pools = question.disaggregation
        self.estimates: list[int] = []
        self.pools_from = most_load(question) + 1
        if self._pools is not Disaggregation.ONLY:
            self.estimates = carried_loads(question, predictor)

    @property
    def cluster(self) -> Cluster:
        """The cluster that carries them."""
        return self.question.clusters[0]

    @property
    def most(self) -> int:
        """The largest load that is carried as far as is known; 0: none."""
        return self.estimates[0] if self.estimates else 0

    @property
    def first(self) -> int:
        """The load to ask for first."""
        if self.pools_from in self.outcomes:
            return self.pools_from
        if self._pools is not Disaggregation.ONLY:
            return min(max(self.most, 1), most_load(self.question))
        return int(FIRST_RATE / RATE_STEP) if self.question.traffic.is_open else FIRST_REQUESTS

    def carries(self, load: int) -> bool:
        """Say whether a plan meets the targets under a load."""
        if load not in self.outcomes:
            asked = under(self.question, load)
            if load >= self.pools_from:
                asked = replace(asked, disaggregation=Disaggregation.ONLY)
            self.outcomes[load] = answer(asked, self.predictor)
        meets = _meets_targets(self.outcomes[load])
        self.estimates = [each for each in self.estimates if meets or each < load]
        return meets

    def guess(self, load: int) -> int:
        """Return the load that may be carried, after one was asked for."""
        best = _best_plan(self.outcomes.get(load))
        if self._pools is Disaggregation.OFF:
            return self.most or load
        if best and best.meets_targets and best.is_disaggregated:
            times = _times_of_devices(self.cluster, best)
            return max(self.most, int(load * max(2.0, times)))
        return self.most or load // STRIDE

    def pools_carry(self, found: Capacity) -> bool:
        """Say whether pools, where they may be, carry what is too much for whole replicas."""
        if self._pools is Disaggregation.OFF:
            return False
        refused = found.refused or round(found.refused_rate / RATE_STEP)
        self.pools_from = refused or self.pools_from
        return refused > 0 and self.carries(refused)

    def moved(self, plans: Sequence[Plan], *, on_all_devices: bool = False) -> LoadedPlans:
        """Return plans, to be put under other loads."""
        return LoadedPlans.of(self.question, plans, self.predictor, on_all_devices=on_all_devices)

    def capacity(
        self, load: int, plan: Plan | None, refused: int, beyond: Plan | None, reasons: Outcome
    ) -> Capacity:
        """Return a capacity in the units of its traffic."""
        is_open = self.question.traffic.is_open
        if refused > most_load(self.question):
            refused, beyond = 0, None
        return Capacity(
            cluster=self.cluster,
            concurrency=0 if is_open else load,
            plan=plan,
            refused=0 if is_open else refused,
            beyond=beyond if plan else None,
            rejections=reasons.rejections,
            rate=load * RATE_STEP if is_open else math.nan,
            refused_rate=refused * RATE_STEP if is_open else 0.0,
        )


def _capacity(question: Question, predictor: Predictor) -> Capacity:
    """Return the largest load the only cluster of a question carries."""
    loads = _Loads(question, predictor)
    found = _from_estimates(loads)
    if found and not loads.pools_carry(found):
        return found
    low, high = _bracket(loads.carries, loads.guess, loads.first, most_load(question))
    plan, beyond = (_best_plan(loads.outcomes.get(each)) for each in (low, high))
    return loads.capacity(low, plan, high, beyond, loads.outcomes[low or high])


def _from_estimates(loads: _Loads) -> Capacity | None:
    """Return the capacity where an estimated load is carried, or nearly; else None.

    Plain questions are asked for them in turn, until a plan meets the targets or carries nearly as
    much.
    """
    estimates = loads.estimates or [1]
    while estimates:
        load, estimates = estimates[0], estimates[1:]
        if loads.carries(load):
            pools = loads.outcomes[load].plans[0].is_disaggregated
            return None if pools else _from(loads, load)
        least = max(int(NEARLY * (estimates[0] if estimates else load)), 1)
        found = _below(loads, load, least)
        if found:
            return found
        # A search may find other layouts for a smaller load.
        if not estimates and least < load and len(loads.outcomes) < SEARCHES:
            estimates = [least]
    return None


def _from(loads: _Loads, load: int) -> Capacity:
    """Return the capacity where a plan carries a load: that load, or more that plans carry.

    Any of those that were found for it may carry well more on all its devices, and the best one a
    little more, as percentiles and chances do not only fall with the load. A search goes by means:
    what they let pass it would find again, but not always the same unlike replicas.
    """
    outcome, most = loads.outcomes[load], most_load(loads.question)
    spread = _spread(loads, load)
    if spread:
        return spread
    plan, refused = outcome.plans[0], above(load, CLOSE)
    moved, way = loads.moved([plan]), np.zeros(1, dtype=np.int64)
    beyond = moved.plan(0, refused) if refused <= most else None
    if beyond and beyond.meets_targets and len(plan.groups) == 1:
        search = LargestLoad(moved.rooms_found_again, way, most, low=load)
        search.seek(np.array([refused, above(load, FURTHER)]), CLOSE)
        if search.low > load:
            load, refused = search.low, search.high
            plan, beyond = moved.plan(0, load) or plan, moved.plan(0, min(refused, most))
    return loads.capacity(load, plan, refused, beyond, outcome)


def _spread(loads: _Loads, load: int) -> Capacity | None:
    """Return what plans that carry a load carry on all their devices, where that is well more."""
    plans, least = _equal_replicas(loads.outcomes[load]), above(load, FURTHER)
    if not plans or least > most_load(loads.question):
        return None
    moved, ways = loads.moved(plans, on_all_devices=True), np.arange(len(plans))
    may_ask = len(loads.outcomes) < SEARCHES
    rooms = moved.rooms if may_ask else moved.rooms_found_again
    search = LargestLoad(rooms, ways, most_load(loads.question), least=least)
    search.seek(np.array([least]), CLOSE)
    low, way = search.low, search.ways[:1]
    if low < least:
        return None
    if may_ask and moved.rooms_found_again(way, np.array([low]))[0, 0] < 0.0:
        return _from(loads, low) if loads.carries(low) else None
    found, beyond = (moved.plan(int(way[0]), each) for each in (low, search.high))
    return loads.capacity(low, found, search.high, beyond, loads.outcomes[load])


def _equal_replicas(outcome: Outcome) -> list[Plan]:
    """Return the first plans of equal replicas, one of each way to run them."""
    ways: dict[tuple[object, ...], Plan] = {}
    for plan in outcome.plans:
        group = plan.groups[0]
        if len(plan.groups) == 1:
            ways.setdefault((*way_of(group), group.config.max_num_batched_tokens), plan)
    return list(ways.values())[:NEAREST]


def _below(loads: _Loads, load: int, least: int) -> Capacity | None:
    """Return the most that equal replicas carry which miss the targets under a load.

    None where that is less than ``least``.
    """
    outcome = loads.outcomes[load]
    plans = _equal_replicas(outcome)
    if not plans or load < 2:
        return None
    moved = loads.moved(plans)
    search = LargestLoad(moved.rooms, np.arange(len(plans)), load - 1, least=least)
    search.seek(
        np.array([least, *(load * share for share in SMALLER if load * share > least)]), CLOSE
    )
    if search.low < least:
        return None
    way = min(search.ways.tolist(), key=lambda number: plans[number].cost_usd_per_h)
    plan, beyond = (moved.plan(way, each) for each in (search.low, search.high))
    return loads.capacity(search.low, plan, search.high, beyond, outcome)


def _times_of_devices(cluster: Cluster, plan: Plan) -> float:
    """Return how many times a plan fits the devices there are of any of its types."""
    had, used = cluster.free_by_label(), Counter[str]()
    for group in plan.groups:
        used[group.label.name] += group.devices
    return max(had[name] / devices for name, devices in used.items())


def _bracket(
    carries: Callable[[int], bool], guess: Callable[[int], int], start: int, most: int
) -> tuple[int, int]:
    """Return the largest load carried (0: none) and the least refused (above ``most``: none).

    They are sought from ``start`` on. ``guess`` tells from a load that was tried how much may be
    carried; each load tried may be a whole search. Where guesses do not help, steps grow.
    """
    low, high, asked, step = 0, most + 1, start, 1
    while low < most and high > above(low, CLOSE):
        if carries(asked):
            low, next_up = asked, asked + step * (above(asked, CLOSE) - asked)
            wanted = min(max(guess(asked), next_up), most)
            helped = wanted > next_up
        else:
            high, next_down = asked, asked - step * max(1, int(asked - asked / CLOSE))
            wanted = max(min(guess(asked), next_down), 1)
            helped = wanted < next_down
        step = step if helped else step * (2 if step == 1 else STRIDE)
        middle = math.isqrt(low * high) if low else high // STRIDE
        asked = wanted if low < wanted < high else min(max(middle, low + 1), high - 1)
    return low, high


def _meets_targets(outcome: Outcome) -> bool:
    best = _best_plan(outcome)
    return best is not None and best.meets_targets


def _best_plan(outcome: Outcome | None) -> Plan | None:
    return outcome.plans[0] if outcome and outcome.plans else None
