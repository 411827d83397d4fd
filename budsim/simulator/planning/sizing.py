"""The most that a cluster can carry within the targets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.limits import MOST_REQUESTS
from budsim.performance.predictor import Predictor
from budsim.performance.traffic import MOST_RATE
from budsim.simulator.evolution import Progress
from budsim.simulator.planning.answer import answer, answer_and_guess, guess_carried
from budsim.simulator.planning.plans import Outcome, Plan, Rejection, ReplicaGroup
from budsim.simulator.planning.question import Disaggregation, Question

# Capacities are guessed from a search at 64 requests, and sought exactly below 100 and to 1 %
# above; to 2 % where requests are replayed. Where no guess helps, the second step is twice the
# first, and the next ones grow fourfold.
FIRST_REQUESTS = 64
STRIDE = 4
CLOSE, CLOSE_REPLAYED = 0.01, 0.02
# Rates are sought from 1 request/s, down to 0.001, and to 2 %.
FIRST_RATE, LOWEST_RATE, CLOSE_RATE = 1.0, 1e-3, 1.02
# First step above a rate that is carried, or below one that is refused; the next are squared.
STEP_RATE = 1.04


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


def _capacity(question: Question, predictor: Predictor) -> Capacity:
    """Return the most requests in flight a cluster carries."""
    first = _first_guess(question, predictor)
    outcomes: dict[int, Outcome] = {}
    guesses: dict[int, int] = {}
    close = CLOSE_REPLAYED if question.needs_replay else CLOSE

    def carries(concurrency: int) -> bool:
        """Say whether a plan meets the targets at this concurrency, and keep the outcome."""
        asked = question.with_concurrency(concurrency)
        if question.needs_replay:
            # Replays of single replicas told it; a second guess would be the same.
            outcomes[concurrency], guesses[concurrency] = answer(asked, predictor), first
        else:
            outcomes[concurrency], guesses[concurrency] = answer_and_guess(asked, predictor)
        guesses[concurrency] = _with_pools(
            question, outcomes[concurrency], concurrency, guesses[concurrency]
        )
        return _meets_targets(outcomes[concurrency])

    start = min(max(first, 1), MOST_REQUESTS)
    low, high = _bracket_concurrency(carries, guesses.__getitem__, start, close)
    refused = outcomes.get(high)
    return Capacity(
        cluster=question.clusters[0],
        concurrency=low,
        plan=outcomes[low].plans[0] if low else None,
        refused=high if refused else 0,
        beyond=_best_plan(refused),
        rejections=refused.rejections if refused else (),
    )


def _first_guess(question: Question, predictor: Predictor) -> int:
    """Return the requests to try first; those of pools are not guessed."""
    guess = guess_carried(question.with_concurrency(FIRST_REQUESTS), predictor)
    pools_alone = question.disaggregation is Disaggregation.ONLY
    return FIRST_REQUESTS if pools_alone else guess


def _with_pools(question: Question, outcome: Outcome, asked: int, guess: int) -> int:
    """Return a guess of what is carried where pools are allowed; ``guess`` is of plain replicas.

    Pools that carry the requests asked for may carry twice as many.
    """
    if question.disaggregation is Disaggregation.OFF:
        return guess
    best = _best_plan(outcome)
    if best and best.meets_targets and best.is_disaggregated:
        return max(guess, 2 * asked)
    return guess or asked // STRIDE


def _bracket_concurrency(
    carries: Callable[[int], bool], guess: Callable[[int], int], start: int, close: float
) -> tuple[int, int]:
    """Return the most requests carried (0: none) and the fewest refused or not tried.

    They are sought from ``start`` on, to a share of ``close``. ``guess`` tells from a number that
    was tried how many may be carried; each number tried is a whole search. Where guesses do not
    help, steps grow.
    """
    low, high, asked, step = 0, MOST_REQUESTS + 1, start, 1
    while low < MOST_REQUESTS and high - low > max(1, close * low):
        if carries(asked):
            low, next_up = asked, asked + step * max(1, int(close * asked))
            wanted = min(max(guess(asked), next_up), MOST_REQUESTS)
            helped = wanted > next_up
        else:
            high, next_down = asked, asked - step * max(1, int(close * asked / (1 + close)))
            wanted = max(min(guess(asked), next_down), 1)
            helped = wanted < next_down
        step = step if helped else step * (2 if step == 1 else STRIDE)
        middle = math.isqrt(low * high) if low else high // STRIDE
        asked = wanted if low < wanted < high else min(max(middle, low + 1), high - 1)
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
    """Return how many times the load all devices may carry, from the best plan of each type.

    Four replicas on four of eight H100, and one on one of three L4 that is stable up to four times
    its load, carry 2 x sqrt(4 / 3) + 3 x sqrt(4) times the load.
    """
    had = cluster.free_by_label()
    best: dict[str, float] = {}
    pools = 1.0
    for plan in outcome.plans:
        group = plan.groups[0]
        if plan.is_disaggregated and plan.meets_targets:
            pools = max(pools, _times_of_pools(had, plan))
        if len(plan.groups) == 1 and plan.meets_targets:
            times = had[group.label.name] / group.devices * math.sqrt(_spare(group))
            best[group.label.name] = max(best.get(group.label.name, 0.0), times)
    return max(sum(best.values()), pools)


def _times_of_pools(had: Mapping[str, int], plan: Plan) -> float:
    """Return how many times a plan's pools fit the devices there are of each type."""
    used = Counter[str]()
    for group in plan.groups:
        used[group.label.name] += group.devices
    return min(had[name] / devices for name, devices in used.items())


def _spare(group: ReplicaGroup) -> float:
    """Return how many times its load a group carries at most: one replica less was too few."""
    seen, replicas = group.replayed, group.replicas
    stable = seen.largest_stable_rate / seen.rate if seen and seen.rate > 0 else math.inf
    spare = min(stable, replicas / (replicas - 1) if replicas > 1 else math.inf)
    return max(spare, 1.0) if math.isfinite(spare) else 1.0


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
