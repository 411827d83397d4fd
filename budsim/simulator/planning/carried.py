"""How much traffic replicas of each layout may carry by means, of many loads predicted at once.

Loads are whole numbers: requests in flight of a closed loop, and ten-thousandths of a request per
second of traffic that comes at a rate.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from budsim.performance.candidates import Booleans, Integers
from budsim.performance.limits import MOST_REQUESTS
from budsim.performance.predictor import Predictor
from budsim.performance.traffic import MOST_RATE
from budsim.simulator.planning.choices import Choices
from budsim.simulator.planning.genome import BUDGET, OPTION, REPLICAS, SearchSpace
from budsim.simulator.planning.load_curves import LoadModel
from budsim.simulator.planning.placement import EqualReplicas, free_after
from budsim.simulator.planning.question import Question
from budsim.simulator.search_result import first_of_each

# Loads of traffic at a rate are counted in these, requests/s.
RATE_STEP: Final = 1e-4
# Ways to run a replica are those there are for so many requests in flight.
FIRST_REQUESTS: Final = 64
# Loads predicted of each way in a round, between the largest known to be served and the least
# known not to be: as many as make so many rows, within bounds.
ROWS: Final = 400
LEAST_POINTS: Final = 8
MOST_POINTS: Final = 24
# Requests in flight on a replica that few carry.
UNUSUAL: Final = 16_384
# Largest loads of a replica on means, which bound what a replay will find, are known to 5 %.
ROUGH: Final = 1.05


def under(question: Question, load: int) -> Question:
    """Return the question under another load."""
    if question.traffic.is_open:
        return question.at_rate(load * RATE_STEP)
    return question.with_concurrency(load)


def most_load(question: Question) -> int:
    """Return the largest load that may be asked for."""
    return int(MOST_RATE / RATE_STEP) if question.traffic.is_open else MOST_REQUESTS


def as_closed_loop(question: Question) -> Question:
    """Return the question whose space has the ways to run a replica: means of a closed loop."""
    targets = question.mean_targets
    return replace(question.with_concurrency(FIRST_REQUESTS), targets=targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Ways to run a replica; arrays of shape (n,).

    ``genomes`` spell them, ``group`` numbers their devices, and ``most`` is how many fit. ``rival``
    numbers sets of ways of which only the best matters. One replica carries ``low`` requests within
    the targets on means (0: none), and not ``high``.
    """

    genomes: Integers
    choices: Choices
    group: Integers
    rival: Integers
    most: Integers
    low: Integers
    high: Integers

    def rows(self, rows: Integers) -> Ways:
        """Return some of them."""
        columns = ("genomes", "group", "rival", "most", "low", "high")
        some = {name: getattr(self, name)[rows] for name in columns}
        return replace(self, choices=self.choices.rows(rows), **some)

    def best(self, rivals: int) -> Integers:
        """Return the most that all replicas of a way carry, for each of so many sets of rivals."""
        best = np.zeros(rivals, dtype=np.int64)
        np.maximum.at(best, self.rival, self.low * self.most)
        return best

    def loaded(self, model: LoadModel) -> Ways:
        """Return the best of all rivals; those of the best of each group are known to 5 %."""
        ways, rivals = self, int(self.rival.max(initial=0)) + 1
        while len(rows := np.flatnonzero(ways._may_be_best())):
            ways = ways._closer(model, rows)
            able = ways.high * ways.most > ways.best(rivals)[ways.rival]
            ways = ways.rows(np.flatnonzero(able & (ways.high > 1)))
        return ways

    def _may_be_best(self) -> Booleans:
        """Return which ways may be the best of their group, and are not known to 5 % or a request.

        All replicas of the others carry less, however much that is.
        """
        best = np.zeros(int(self.group.max(initial=0)) + 1, dtype=np.int64)
        np.maximum.at(best, self.group, self.low * self.most)
        able = self.high * self.most > best[self.group]
        return np.asarray(able & (self.high > np.maximum(self.low + 1, ROUGH * self.low)))

    def _closer(self, model: LoadModel, rows: Integers) -> Ways:
        """Return them after loads between ``low`` and ``high`` of some were predicted."""
        some = self.rows(rows)
        points = int(np.clip(ROWS // len(rows), LEAST_POINTS, MOST_POINTS))
        # Few carry more than this: the first loads lie closer without those above.
        top = np.where(some.high > MOST_REQUESTS, np.maximum(UNUSUAL, 64 * some.low), some.high)
        between = np.geomspace(np.maximum(some.low, 0.5), top, points + 2, axis=1)[:, 1:-1]
        inside = some.low[:, None] + 1, np.maximum(some.high - 1, 1)[:, None]
        loads: Integers = np.clip(between.round().astype(np.int64), *inside)
        _, miss = model.serve(some.choices, loads)
        met = (miss <= 0.0).reshape(loads.shape)
        low, high = self.low.copy(), self.high.copy()
        low[rows] = np.where(met, loads, some.low[:, None]).max(axis=1)
        high[rows] = np.where(met, some.high[:, None], loads).min(axis=1)
        return replace(self, low=low, high=np.maximum(high, low + 1))


def sums_of_groups(space: SearchSpace, ways: Ways, loads: Integers) -> list[int]:
    """Return what the best ways of all groups carry together, for each that may share an endpoint.

    ``loads`` are what all replicas of a way carry. On the devices that these leave another way may
    run. Where no mix is allowed, it is the best group's. Six H100 as one tp4 of 40 requests and one
    tp2 of 15, and eight L4 as eight tp1 of 5: 95.
    """
    if space.scoring.question.allow_mixed:
        room = _room_beside(space, ways)
        loads = loads + (room * (loads // np.maximum(ways.most, 1))).max(axis=1, initial=0)
    endpoints = _behind_one_endpoint(space, ways.choices).tolist()
    best: dict[int, Counter[int]] = defaultdict(Counter)
    for endpoint, group, load in zip(endpoints, ways.group.tolist(), loads.tolist(), strict=True):
        best[endpoint][group] = max(best[endpoint][group], load)
    together = sum if space.scoring.question.allow_mixed else max
    return [together(of_groups.values()) for of_groups in best.values()]


def bounded(space: SearchSpace, predictor: Predictor) -> Ways:
    """Return the best way of every layout and format, with bounds of what means let it carry."""
    ways = ways_of(space)
    layouts = ("option", "tp", "pp", "ep", "dp", "weights", "kv")
    ways = replace(ways, rival=numbered(*(getattr(ways.choices, name) for name in layouts)))
    ways = ways.loaded(LoadModel(space.scoring.question, space.scoring, predictor))
    # Of rivals that are as good, one will do.
    order = np.argsort(-ways.low, kind="stable")
    return ways.rows(order[first_of_each(ways.rival[order])])


def ways_of(space: SearchSpace) -> Ways:
    """Return every layout in every format, with the most memory and three token budgets."""
    usual = space.first_genomes(1)
    usual[:, REPLICAS] = 0
    least, most = usual.copy(), usual.copy()
    least[:, BUDGET] = 0
    lengths = np.array([len(option.max_num_batched_tokens) for option in space.options])
    most[:, BUDGET] = lengths[most[:, OPTION]] - 1
    genomes = np.unique(np.concatenate([usual, least, most]), axis=0)
    choices = space.decode(genomes)
    # What is allowed of few requests does not bound how many a replica may run.
    largest = np.array([option.max_num_seqs[-1] for option in space.options])[choices.option]
    labels = [option.group.label.name for option in space.options]
    layouts = zip(choices.option.tolist(), choices.tp.tolist(), choices.pp.tolist(), strict=True)
    fit = [space.options[at].group.capacity(tp, pp) for at, tp, pp in layouts]
    rows = len(genomes)
    return Ways(
        genomes=genomes,
        choices=replace(choices, max_num_seqs=largest),
        group=np.unique(labels, return_inverse=True)[1][choices.option],
        rival=np.arange(rows),
        most=np.array(fit, dtype=np.int64),
        low=np.zeros(rows, dtype=np.int64),
        high=np.full(rows, MOST_REQUESTS + 1, dtype=np.int64),
    )


def _room_beside(space: SearchSpace, ways: Ways) -> Integers:
    """Return how many replicas of each way (columns) fit beside all of another (rows).

    On the same group of devices and behind the same endpoint.
    """
    room = np.zeros((len(ways.group), len(ways.group)), dtype=np.int64)
    mates = numbered(_behind_one_endpoint(space, ways.choices), ways.group)
    layouts = list(zip(ways.choices.tp.tolist(), ways.choices.pp.tolist(), strict=True))
    for row, (tp, pp) in enumerate(layouts):
        group, most = space.options[int(ways.choices.option[row])].group, int(ways.most[row])
        if most * tp * pp == group.devices:
            continue
        left = free_after(group, [EqualReplicas(tp, pp, most)])
        for other in np.flatnonzero(mates == mates[row]).tolist() if left else []:
            room[row, other] = left.capacity(*layouts[other]) if left else 0
    return room


def _behind_one_endpoint(space: SearchSpace, choices: Choices) -> Integers:
    """Return a number for each row: equal ones may share an endpoint.

    One deployment has weights of one format and, unless several are named, one engine.
    """
    names = [option.engine.name for option in space.options]
    engine = np.unique(names, return_inverse=True)[1][choices.option]
    one_engine = len(space.scoring.question.engines) < 2
    return numbered(engine * one_engine, choices.weights)


def numbered(*columns: Integers) -> Integers:
    """Return a number for each row of some columns; equal rows have the same."""
    rows = np.stack(columns, axis=1)
    return np.asarray(np.unique(rows, axis=0, return_inverse=True)[1]).reshape(len(rows))
