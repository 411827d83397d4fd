"""The most that a cluster can carry within the targets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import Predictor
from budsim.simulator.evolution import Progress
from budsim.simulator.planning.answer import answer, carried_loads
from budsim.simulator.planning.carried import RATE_STEP, most_load, under
from budsim.simulator.planning.group_changes import plan_under
from budsim.simulator.planning.plans import Outcome, Plan, Rejection
from budsim.simulator.planning.question import Disaggregation, Question

# Loads are sought exactly below 100 and to 1 % above. Where what was told of them does not help,
# the second step is twice the first, and the next ones grow fourfold.
STRIDE = 4
CLOSE = 0.01
# A plan that leaves so many devices free, relative to those it takes, may carry more on them. What
# replays told of loads may be too little, as percentiles and chances do not only fall with load.
SPARE = 1.1
# Pools alone are first asked for so many requests in flight, or for 1 request/s.
FIRST_REQUESTS, FIRST_RATE = 64, 1.0


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
        found.append(_capacity(_Loads(alone, predictor)))
        progress((number + 1) / len(question.clusters))
    return tuple(found)


class _Loads:
    """The loads of a question that were asked for on its only cluster, counted as by `under`.

    ``told`` are loads that the cluster carries as far as is known without asking, largest first.
    """

    def __init__(self, question: Question, predictor: Predictor) -> None:
        self.question, self._predictor = question, predictor
        self.outcomes: dict[int, Outcome] = {}
        self._pools = question.disaggregation
        self.told: list[int] = []
        self._with_spare = 0
        self._refused: dict[int, Plan | None] = {}
        if self._pools is not Disaggregation.ONLY:
            self.told = carried_loads(question, predictor)

    @property
    def most(self) -> int:
        """The largest load that is carried as far as is known; 0: none."""
        return self.told[0] if self.told else 0

    @property
    def first(self) -> int:
        """The load to ask for first."""
        if self._pools is not Disaggregation.ONLY:
            return min(max(self.most, 1), most_load(self.question))
        return int(FIRST_RATE / RATE_STEP) if self.question.traffic.is_open else FIRST_REQUESTS

    def carries(self, load: int) -> bool:
        """Say whether a plan meets the targets under a load."""
        asked = under(self.question, load)
        known = any(map(_meets_targets, self.outcomes.values()))
        most = max(self.most, self._with_spare)
        if self._pools is Disaggregation.OFF and self.told and known and load > most:
            return self._still_carries(load)
        self.outcomes[load] = answer(asked, self._predictor)
        meets = _meets_targets(self.outcomes[load])
        self.told = [each for each in self.told if meets or each < load]
        self._with_spare = self._on_all_devices(load) if meets else 0
        return meets

    def _still_carries(self, load: int) -> bool:
        """Say whether the plan for the largest load carried meets the targets under this one.

        Nothing that was told carries it; but percentiles and chances do not only fall with load. A
        search for a plan would not always find the same mix again, nor replicas for a rate that the
        closed form takes for too much.
        """
        known = max(each for each, found in self.outcomes.items() if _meets_targets(found))
        found = self.outcomes[known]
        plan = plan_under(under(self.question, load), found.plans[0], self._predictor)
        found_again = len(found.plans[0].groups) == 1 and not self.question.traffic.is_open
        if found_again and plan and plan.meets_targets:
            self.outcomes[load] = replace(found, plans=(plan,))
            return True
        self._refused[load] = plan
        return False

    def guess(self, load: int) -> int:
        """Return the load that may be carried, after one was asked for."""
        best = _best_plan(self.outcomes.get(load))
        if self._pools is Disaggregation.OFF:
            missed = best is not None and not best.meets_targets
            if best and missed and len(best.groups) == 1 and not self.most:
                return self._met_below(best, load)
            return max(self.most, self._with_spare) or load
        if best and best.meets_targets and best.is_disaggregated:
            times = _times_of_devices(self.question.clusters[0], best)
            return max(self.most, int(load * max(2.0, times)))
        return self.most or load // STRIDE

    def _met_below(self, plan: Plan, load: int) -> int:
        """Return the largest load under which a plan that misses the targets meets them, to 1 %."""
        low, high = 1, load
        while high - low > max(1, CLOSE * low):
            middle = max(math.isqrt(low * high), low + 1)
            moved = plan_under(under(self.question, middle), plan, self._predictor)
            low, high = (middle, high) if moved and moved.meets_targets else (low, middle)
        return low

    def _on_all_devices(self, load: int) -> int:
        """Return what the plan for a load may carry on all devices of its type; 0: no more."""
        plan = self.outcomes[load].plans[0]
        if len(plan.groups) > 1:
            return 0
        times = _times_of_devices(self.question.clusters[0], plan)
        return int(load * times) if times >= SPARE else 0

    def beyond(self, plan: Plan, load: int) -> Plan | None:
        """Return the best plan for a load that is too much, or ``plan`` under that load."""
        if load in self.outcomes:
            return _best_plan(self.outcomes[load])
        if load in self._refused:
            return self._refused[load]
        return plan_under(under(self.question, load), plan, self._predictor)


def _capacity(loads: _Loads) -> Capacity:
    """Return the largest load a cluster carries."""
    low, high = _bracket(loads.carries, loads.guess, loads.first, most_load(loads.question))
    is_open, refused = loads.question.traffic.is_open, high <= most_load(loads.question)
    plan = loads.outcomes[low].plans[0] if low else None
    return Capacity(
        cluster=loads.question.clusters[0],
        concurrency=0 if is_open else low,
        plan=plan,
        refused=high if refused and not is_open else 0,
        beyond=loads.beyond(plan, high) if plan and refused else None,
        rejections=loads.outcomes[low or high].rejections,
        rate=low * RATE_STEP if is_open else math.nan,
        refused_rate=high * RATE_STEP if refused and is_open else 0.0,
    )


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
    while low < most and high - low > max(1, CLOSE * low):
        if carries(asked):
            low, next_up = asked, asked + step * max(1, int(CLOSE * asked))
            wanted = min(max(guess(asked), next_up), most)
            helped = wanted > next_up
        else:
            high, next_down = asked, asked - step * max(1, int(CLOSE * asked / (1 + CLOSE)))
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
