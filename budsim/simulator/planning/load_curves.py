"""Replica types under growing load.

How many requests one replica of each serves within the targets.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from budsim.performance.candidates import Floats, Integers
from budsim.performance.predictions import Service
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.chances import judge
from budsim.simulator.planning.choices import Choices, with_burst_room
from budsim.simulator.planning.combinations import LoadedTypes, ReplicaTypes, room_beside_each
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring
from budsim.simulator.planning.targets import figures_of
from budsim.simulator.search_result import first_of_each

# Loads tried between one request and all of them.
FIRST_LOADS: Final = 24
# Loads tried around the capacity of each type that is kept, twice: the second time between those
# next to it. With 1,000 requests they are in the end 0.5 % apart.
CLOSER_LOADS: Final = 16
# Types kept of each group: cheapest per request, largest capacity on all its devices, cheapest
# replica.
TYPES_KEPT: Final = (4, 3, 2)


@dataclass(slots=True)
class LoadModel:
    """Predicts replica types under load, and counts how many candidates it has predicted."""

    question: Question
    scoring: Scoring
    predictor: Predictor
    evaluations: int = 0

    def serve(self, choices: Choices, requests: Integers) -> tuple[Service, Floats]:
        """Return service and target miss of each row under each load of its row of ``requests``.

        Both are flat, row by row. What does not fit in memory misses the targets infinitely.
        """
        rows = np.repeat(np.arange(len(requests)), requests.shape[1])
        launched = self.launched_for(choices.rows(rows), requests.ravel())
        memory, predictions = self.predictor.predict(self.scoring.candidates(launched))
        self.evaluations += len(rows)
        question, figures = self.question, figures_of(predictions.service)
        miss = judge(question.mean_targets, figures, predictions, question.chance).shortfall
        # What does not fit must never look like a small miss.
        too_large = self.scoring.violation(launched, memory) > 0
        return predictions.service, np.where(too_large, np.inf, miss)

    def launched_for(self, choices: Choices, requests: Integers) -> Choices:
        """Return the choices as they are launched for so many requests.

        As many sequences as those and a burst need, and a token of each in one step.
        """
        allowed = np.minimum(with_burst_room(requests), choices.max_num_seqs)
        sequences = self._value_of(choices.option, "max_num_seqs", allowed)
        running = np.minimum(requests, sequences)
        budget = self._value_of(choices.option, "max_num_batched_tokens", running)
        return replace(
            choices,
            concurrency=requests,
            max_num_seqs=sequences,
            max_num_batched_tokens=np.maximum(choices.max_num_batched_tokens, budget),
        )

    def _value_of(self, options: Integers, knob: str, least: Integers) -> Integers:
        """Return the smallest value of a knob that is at least ``least``, or its largest.

        Of (8, 16, 32), 10 gives 16.
        """
        found = np.empty_like(least)
        for option in np.unique(options):
            values = np.array(getattr(self.scoring.options[option], knob))
            mine = options == option
            found[mine] = values[np.minimum(np.searchsorted(values, least[mine]), len(values) - 1)]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCurves:
    """Replica types under growing loads; arrays of shape (types, loads).

    ``loads`` are requests of one replica, ascending; ``miss`` is how much it then misses the
    targets by, ``e2e_s`` its latency.
    """

    types: ReplicaTypes
    loads: Integers
    miss: Floats
    e2e_s: Floats

    def last_within(self, allowed: float) -> Integers:
        """Return the column of the largest load at which each type is within ``allowed``; or -1."""
        columns = np.where(self.miss <= allowed, np.arange(self.loads.shape[1]), -1)
        return np.asarray(columns.max(axis=1))

    def capacity(self, allowed: float) -> Integers:
        """Return the most requests one replica of each type serves when it may miss by ``allowed``.

        0 for none.

        Loads (1, 10, 100) with misses (0, 0, 0.4): 10 requests where no miss is allowed, 100 where
        0.4 is.
        """
        last = self.last_within(allowed)
        return np.where(last >= 0, self.loads[np.arange(len(last)), last], 0)

    def least_miss(self, concurrency: int, beside: Integers) -> float:
        """Return the least miss at which all devices together carry so many requests.

        The largest tried where none does.

        ``beside`` is how many replicas of each type (columns) fit beside as many of another (rows)
        as its group has room for.
        """
        levels = np.unique(self.miss[np.isfinite(self.miss)])
        groups = np.unique(self.types.group)

        def carries(allowed: float) -> bool:
            """Say whether replicas that may miss by ``allowed`` carry the concurrency."""
            capacity = self.capacity(allowed)
            carried = capacity * self.types.most + (beside * capacity).max(axis=1)
            best = sum(carried[self.types.group == group].max() for group in groups)
            return bool(best >= concurrency)

        return float(levels[min(bisect_left(levels, True, key=carries), len(levels) - 1)])

    def worth_combining(self, allowed: float) -> Integers:
        """Return the types worth combining when they may miss by ``allowed``.

        `TYPES_KEPT` layouts of each group.
        """
        able = np.flatnonzero(self.capacity(allowed))
        types, capacity = self.types.rows(able), self.capacity(allowed)[able]
        e2e_s = self.e2e_s[able, self.last_within(allowed)[able]]
        layouts = np.stack([types.group, types.choices.tp, types.choices.pp], axis=1)
        orders = (types.usd_per_h * e2e_s / capacity, -1.0 * capacity * types.most, types.usd_per_h)
        chosen = [np.zeros(0, dtype=np.int64)]
        for order, kept in zip(orders, TYPES_KEPT, strict=True):
            ranked = np.argsort(order, kind="stable")
            best = ranked[first_of_each(layouts[ranked])]
            chosen += [best[types.group[best] == group][:kept] for group in np.unique(types.group)]
        return able[np.unique(np.concatenate(chosen))]

    def one_load_more(self) -> LoadCurves:
        """Return the curves as if every load were the next larger one.

        What slightly larger loads would be worth.
        """
        loads = np.concatenate([self.loads[:, 1:], self.loads[:, -1:]], axis=1)
        return replace(self, loads=loads)

    def rows(self, rows: Integers) -> LoadCurves:
        """Return those of some types."""
        return LoadCurves(
            types=self.types.rows(rows),
            loads=self.loads[rows],
            miss=self.miss[rows],
            e2e_s=self.e2e_s[rows],
        )


def loaded_types(model: LoadModel, types: ReplicaTypes, *, may_miss: bool) -> LoadedTypes:
    """Return the types worth combining and the capacity of each.

    The capacity is the most requests within the targets. If they ``may_miss`` them, because no
    deployment of equal replicas meets them, it allows the least miss at which all devices carry the
    traffic. A first look at few loads says which types to look at closely.
    """
    if may_miss:
        return _loaded_beyond(model, types)
    loads = _grid(model.question.concurrency, FIRST_LOADS)
    rough = _within_targets(model, types, np.broadcast_to(loads, (len(types), len(loads))))
    # Between two loads tried the truth may be better: a type just short of worth is kept.
    kept = [each.worth_combining(0.0) for each in (rough, rough.one_load_more())]
    exact = _exactly_within(model, rough.rows(np.union1d(*kept)))
    return _at_capacity(exact.rows(exact.worth_combining(0.0)), 0.0)


def _loaded_beyond(model: LoadModel, types: ReplicaTypes) -> LoadedTypes:
    """Return the types worth combining where the targets are missed by as little as possible."""
    concurrency = model.question.concurrency
    loads = _grid(concurrency, FIRST_LOADS)
    rough = _at_loads(model, types, np.broadcast_to(loads, (len(types), len(loads))))
    nothing = np.zeros((len(types), 1), dtype=np.int64)
    looks = (rough, rough.one_load_more())
    kept = [rough.worth_combining(each.least_miss(concurrency, nothing)) for each in looks]
    curves = rough.rows(np.union1d(*kept))
    beside = room_beside_each(curves.types)
    for _ in range(2):
        curves = _refined(model, curves, curves.least_miss(concurrency, beside))
    few = curves.rows(curves.worth_combining(curves.least_miss(concurrency, beside)))
    return _at_capacity(few, few.least_miss(concurrency, room_beside_each(few.types)))


def _within_targets(model: LoadModel, types: ReplicaTypes, loads: Integers) -> LoadCurves:
    """Return curves of misses that are 0 up to the largest load within the targets, then infinite.

    More load never helps, so that the largest is found by bisection. Latencies are those of the
    loads that were tried, the largest among them; others are nan.
    """
    low, high = np.full(len(types), -1), np.full(len(types), loads.shape[1])
    e2e_s = np.full(loads.shape, np.nan)
    while len(rows := np.flatnonzero(high - low > 1)):
        middle = (low[rows] + high[rows]) // 2
        service, miss = model.serve(types.choices.rows(rows), loads[rows, middle][:, None])
        e2e_s[rows, middle] = service.e2e_s
        good = miss <= 0.0
        low[rows[good]], high[rows[~good]] = middle[good], middle[~good]
    miss = np.where(np.arange(loads.shape[1]) <= low[:, None], 0.0, np.inf)
    return LoadCurves(types=types, loads=loads, miss=miss, e2e_s=e2e_s)


def _exactly_within(model: LoadModel, rough: LoadCurves) -> LoadCurves:
    """Return curves at two loads: the most requests within the targets, and half of them."""
    rows, last = np.arange(len(rough.loads)), rough.last_within(0.0)
    following = np.minimum(last + 1, rough.loads.shape[1] - 1)
    low, high = rough.loads[rows, last], rough.loads[rows, following]
    widest = int((high - low).max(initial=0)) + 1
    steps = np.minimum(low[:, None] + np.arange(widest), np.maximum(high - 1, low)[:, None])
    most = _within_targets(model, rough.types, steps).capacity(0.0)
    most = np.maximum(most, low)
    return _at_loads(model, rough.types, np.stack([-(-most // 2), most], axis=1))


def _grid(concurrency: int, count: int) -> Integers:
    return np.unique(np.geomspace(1, concurrency, count).round().astype(np.int64))


def _refined(model: LoadModel, curves: LoadCurves, allowed: float) -> LoadCurves:
    """Return curves with further loads around each type's capacity at ``allowed``."""
    rows, last = np.arange(len(curves.loads)), curves.last_within(allowed)
    most = curves.loads.shape[1] - 1
    low, high = (curves.loads[rows, np.clip(last + step, 0, most)] for step in (-1, 1))
    # The capacity lies between the last load within the miss and the next one.
    between = np.linspace(low, high, CLOSER_LOADS + 2, axis=1)[:, 1:-1].astype(np.int64)
    more = _at_loads(model, curves.types, between)
    both = (
        np.concatenate([getattr(each, name) for each in (curves, more)], axis=1)
        for name in ("loads", "miss", "e2e_s")
    )
    loads, miss, e2e_s = both
    order = np.argsort(loads, axis=1, kind="stable")
    loads, miss, e2e_s = (np.take_along_axis(each, order, axis=1) for each in (loads, miss, e2e_s))
    return LoadCurves(types=curves.types, loads=loads, miss=miss, e2e_s=e2e_s)


def _at_loads(model: LoadModel, types: ReplicaTypes, loads: Integers) -> LoadCurves:
    service, miss = model.serve(types.choices, loads)
    return LoadCurves(
        types=types,
        loads=loads,
        miss=miss.reshape(loads.shape),
        e2e_s=service.e2e_s.reshape(loads.shape),
    )


def _at_capacity(curves: LoadCurves, allowed: float) -> LoadedTypes:
    """Return what types do at capacity when they may miss by ``allowed``."""
    curves = curves.rows(np.flatnonzero(curves.capacity(allowed)))
    last, rows = curves.last_within(allowed), np.arange(len(curves.loads))
    capacity = curves.loads[rows, last]
    of_each = zip(capacity, curves.loads, curves.e2e_s, strict=True)
    half = [np.interp(-(-most // 2), loads, e2e_s) for most, loads, e2e_s in of_each]
    return LoadedTypes(
        types=curves.types,
        capacity=capacity,
        e2e_s=curves.e2e_s[rows, last],
        half_e2e_s=np.array(half),
    )
