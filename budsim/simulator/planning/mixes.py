"""Deployments of unequal replicas: several device types or layouts share the traffic where that is cheaper or the only way.

Within the targets a replica holds so many requests; a mix loads all of its replicas to the same share of what they hold, so
that none is the first to miss, or one kind in full where that is cheaper. Where everything there is cannot hold the traffic,
every replica may miss the targets by as little as lets it. For the words see `budsim.simulator.planning.combinations`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

from budsim.performance.candidates import Floats, Integers
from budsim.performance.predictions import Service
from budsim.performance.predictor import Predictor
from budsim.simulator.evolution import Explored
from budsim.simulator.planning.combinations import (
    Held,
    Kinds,
    arrangement,
    good_covers,
    neighbours,
    splits,
)
from budsim.simulator.planning.cost import usd_per_h, usd_per_million_tokens
from budsim.simulator.planning.placement import HardwareGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.space import Choices, OfferSpace

KINDS_TRIED = 24
"""Ways to run a replica that get a look, of each stock; besides, the best of every engine and layout."""
KINDS_KEPT = (4, 3, 2)
"""Of each stock: the cheapest per request, those that hold most on all its devices, those of the cheapest replica."""
FIRST_LOADS, LOADS = 24, 48
"""Loads tried between one request and all of them: at a first look, and of the kinds kept."""
COVERS_POLISHED = 4
ROUGHLY, FINELY = (0.5, 1.0), tuple(np.linspace(0.0625, 1.0, 16).tolist())
"""How far one kind is filled beyond its even share of the load, of the way to full: in any mix, and in the best of them."""
MIXES_KEPT = 3
LESS_MISS, CHEAPER = 0.98, 0.99
"""A further kind of replica to look after has to save 2 % of the miss, or 1 % of the cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixes:
    """Mixes worth having, best first.

    ``choices`` has a row for every set of equal replicas, ``groups`` says where each of them may lie, and ``members`` names the
    rows of each mix. ``evaluations`` counts candidates that were predicted, also where no mix is worth having.
    """

    choices: Choices
    groups: tuple[HardwareGroup, ...]
    members: tuple[tuple[int, ...], ...]
    evaluations: int


def mixed(
    question: Question, space: OfferSpace, explored: Explored, predictor: Predictor
) -> Mixes | None:
    """Return mixes that are better than the best deployment of equal replicas that was explored, or None where none is tried.

    Without targets none is: whatever is cheapest alone then carries everything.
    """
    ranking = explored.ranking()
    if not (question.targets and question.allow_mixed):
        return None
    kinds = _kinds(space, explored.genomes[ranking[explored.violation[ranking] <= 0]])
    if len(kinds.stock) < 2:
        return None
    load = _Load(question, space, predictor)
    held = load.held(kinds)
    return load.best(
        held, good_covers(held, question.workload.concurrency), explored.objectives[ranking[0]]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curves:
    """Kinds under growing loads: requests of one replica, its miss of the targets and latency; each of shape (kinds, loads)."""

    kinds: Kinds
    loads: Integers
    miss: Floats
    e2e_s: Floats

    def last(self, allowed: float) -> Integers:
        """Return the column of the largest load under which each kind misses no more than allowed, -1 where it always does."""
        return np.asarray(
            np.where(self.miss <= allowed, np.arange(self.loads.shape[1]), -1).max(axis=1)
        )

    def held(self, allowed: float) -> Integers:
        """Return the most requests one replica of each kind holds when it may miss by so much."""
        last = self.last(allowed)
        return np.where(last >= 0, self.loads[np.arange(len(last)), last], 0)

    def least_miss(self, concurrency: int, beside: Integers) -> float:
        """Return the least miss tried at which everything carries so many requests, the largest where nothing does.

        ``beside`` is how many replicas of each kind (columns) fit beside all those of another (rows) that its stock has room for.
        """
        levels = np.unique(self.miss[np.isfinite(self.miss)])

        def carries(allowed: float) -> bool:
            held = self.held(allowed)
            carried = held * self.kinds.most + (beside * held).max(axis=1)
            return bool(
                sum(
                    carried[self.kinds.stock == stock].max()
                    for stock in np.unique(self.kinds.stock)
                )
                >= concurrency
            )

        return float(levels[min(bisect_left(levels, True, key=carries), len(levels) - 1)])

    def worth(self, allowed: float) -> Integers:
        """Return, of each stock, the layouts cheapest per request, those that hold most, and those of the cheapest replicas."""
        able = np.flatnonzero(self.held(allowed))
        kinds, held, e2e_s = (
            self.kinds.rows(able),
            self.held(allowed)[able],
            self.e2e_s[able, self.last(allowed)[able]],
        )
        orders = (kinds.usd_per_h * e2e_s / held, -1.0 * held * kinds.most, kinds.usd_per_h)
        chosen = [np.zeros(0, dtype=np.int64)]
        for order, kept in zip(orders, KINDS_KEPT, strict=True):
            ranked = np.argsort(order, kind="stable")
            best = ranked[
                _firsts(
                    [column[ranked] for column in (kinds.stock, kinds.choices.tp, kinds.choices.pp)]
                )
            ]
            chosen += [best[kinds.stock[best] == stock][:kept] for stock in np.unique(kinds.stock)]
        return able[np.unique(np.concatenate(chosen))]

    def rows(self, rows: Integers) -> _Curves:
        """Return those of some kinds."""
        return _Curves(
            kinds=self.kinds.rows(rows),
            loads=self.loads[rows],
            miss=self.miss[rows],
            e2e_s=self.e2e_s[rows],
        )


def _kinds(space: OfferSpace, genomes: Integers) -> Kinds:
    """Return the best kinds of each stock among genomes (best first), and of each engine and layout the best."""
    stocks, offers = _stocks(space)
    choices = space.read(genomes)
    binding = choices.max_num_seqs < choices.concurrency
    largest = np.array([offer.max_num_seqs[-1] for offer in space.offers])[choices.offer]
    choices = replace(choices, max_num_seqs=np.where(binding, choices.max_num_seqs, largest))
    columns = [
        getattr(choices, column.name)
        for column in fields(Choices)
        if column.name not in ("replicas", "concurrency")
    ]
    stock = offers[choices.offer]
    chosen: set[int] = set()
    distinct = _firsts(columns)
    for at in range(len(stocks)):
        mine = distinct[stock[distinct] == at]
        layouts = _firsts([column[mine] for column in (choices.offer, choices.tp, choices.pp)])
        chosen.update(mine[:KINDS_TRIED].tolist(), mine[layouts].tolist())
    rows = np.array(sorted(chosen), dtype=np.int64)
    return _sized(space, stocks, choices.rows(rows), stock[rows])


def _stocks(space: OfferSpace) -> tuple[tuple[HardwareGroup, ...], Integers]:
    """Return groups of devices that share none, and which of them each offer is on (-1: on none that is left)."""
    groups = {id(offer.group): offer.group for offer in space.offers}
    stocks: list[HardwareGroup] = []
    number: dict[int, int] = {}
    earlier: list[HardwareGroup] = []
    for key, group in groups.items():
        own = group.less(
            free for other in earlier if other.device == group.device for free in other.free()
        )
        earlier.append(group)
        if own.slots:
            number[key] = len(stocks)
            stocks.append(own)
    return tuple(stocks), np.array(
        [number.get(id(offer.group), -1) for offer in space.offers], dtype=np.int64
    )


def _firsts(columns: list[Integers | Floats]) -> Integers:
    """Return the first row of each distinct combination of values, ascending."""
    _, first = np.unique(np.stack(columns), axis=1, return_index=True)
    return np.sort(first)


def _sized(
    space: OfferSpace, stocks: tuple[HardwareGroup, ...], choices: Choices, stock: Integers
) -> Kinds:
    layouts = zip(stock.tolist(), choices.tp.tolist(), choices.pp.tolist(), strict=True)
    most = np.array([stocks[at].capacity(tp, pp) for at, tp, pp in layouts], dtype=np.int64)
    per_h = usd_per_h(choices.tp * choices.pp, *space.prices(choices))
    return Kinds(stocks=stocks, choices=choices, stock=stock, most=most, usd_per_h=per_h).rows(
        np.flatnonzero(most > 0)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """Mixes and how good they are: ``choices`` has a row for every kind in one, which ``mix`` and ``kind`` name."""

    covers: Integers
    mix: Integers
    kind: Integers
    choices: Choices
    miss: Floats
    cost: Floats

    @property
    def ranking(self) -> Integers:
        """Rows of ``covers``, least miss and then cheapest first."""
        return np.lexsort((self.cost, self.miss))

    @property
    def sizes(self) -> Integers:
        """Number of kinds in each mix."""
        return np.asarray((self.covers > 0).sum(axis=1))

    def best_of_each_size(self, count: int) -> list[int]:
        """Return the ``count`` best rows of each number of kinds."""
        ranking, sizes = self.ranking, self.sizes
        return [
            row
            for size in np.unique(sizes)
            for row in ranking[sizes[ranking] == size][:count].tolist()
        ]

    def worthwhile(self, alone: Floats) -> list[int]:
        """Return rows, best first, in which every further kind of replica is worth it; the best one ``alone`` is the first."""
        found: list[int] = []
        miss, cost = float(alone[0]), float(alone[1])
        for size in np.unique(self.sizes).tolist():
            less = self.miss < LESS_MISS * miss
            cheaper = (self.miss <= miss) & (self.cost < CHEAPER * cost)
            better = [
                row
                for row in self.ranking.tolist()
                if self.sizes[row] == size and (less[row] or cheaper[row])
            ]
            if better:
                found += better
                miss, cost = float(self.miss[better[0]]), float(self.cost[better[0]])
        return sorted(found, key=self.ranking.tolist().index)


@dataclass(slots=True)
class _Load:
    """Predicts kinds under load, and counts how often."""

    question: Question
    space: OfferSpace
    predictor: Predictor
    evaluations: int = 0

    def held(self, kinds: Kinds) -> Held:
        """Return what a replica of each kind holds, of each stock the kinds worth combining only.

        That is with as little a miss as lets everything carry the traffic; a first look at few loads says about how little.
        """
        concurrency = self.question.workload.concurrency
        rough, nothing = (
            self._curves(kinds, FIRST_LOADS),
            np.zeros((len(kinds.stock), 1), dtype=np.int64),
        )
        more = replace(
            rough, loads=np.concatenate([rough.loads[:, 1:], rough.loads[:, -1:]], axis=1)
        )
        kept = np.union1d(
            *(rough.worth(each.least_miss(concurrency, nothing)) for each in (rough, more))
        )
        curves = self._curves(kinds.rows(kept), LOADS)
        beside = neighbours(curves.kinds)
        curves = self._refined(curves, curves.least_miss(concurrency, beside))
        few = curves.rows(curves.worth(curves.least_miss(concurrency, beside)))
        return _held(few, few.least_miss(concurrency, neighbours(few.kinds)))

    def _curves(self, kinds: Kinds, count: int) -> _Curves:
        loads = np.unique(
            np.geomspace(1, self.question.workload.concurrency, count).round().astype(np.int64)
        )
        return self._under(kinds, np.broadcast_to(loads, (len(kinds.stock), len(loads))))

    def _refined(self, curves: _Curves, allowed: float) -> _Curves:
        """Return curves with further loads around the largest that misses no more than allowed."""
        rows, last = np.arange(len(curves.loads)), curves.last(allowed)
        low, high = (
            curves.loads[rows, np.clip(last + step, 0, curves.loads.shape[1] - 1)]
            for step in (-1, 1)
        )
        more = self._under(
            curves.kinds, np.linspace(low, high, FIRST_LOADS + 2, axis=1)[:, 1:-1].astype(np.int64)
        )
        loads = np.concatenate([curves.loads, more.loads], axis=1)
        order = np.argsort(loads, axis=1, kind="stable")
        miss, e2e_s = (
            np.concatenate([getattr(each, name) for each in (curves, more)], axis=1)
            for name in ("miss", "e2e_s")
        )
        loads, miss, e2e_s = (
            np.take_along_axis(each, order, axis=1) for each in (loads, miss, e2e_s)
        )
        return _Curves(kinds=curves.kinds, loads=loads, miss=miss, e2e_s=e2e_s)

    def _under(self, kinds: Kinds, loads: Integers) -> _Curves:
        service, miss = self.under(kinds.choices, loads)
        return _Curves(
            kinds=kinds,
            loads=loads,
            miss=miss.reshape(loads.shape),
            e2e_s=service.e2e_s.reshape(loads.shape),
        )

    def best(self, held: Held, covers: Integers, alone: Floats) -> Mixes:
        """Return the mixes of ``covers`` (replicas of each kind) worth having beside the objectives of the best ``alone``."""
        concurrency = self.question.workload.concurrency
        first = self._scored(held, *splits(held.requests, covers, concurrency, ROUGHLY))
        finalists = np.unique(first.covers[first.best_of_each_size(COVERS_POLISHED)], axis=0)
        last = self._scored(held, *splits(held.requests, finalists, concurrency, FINELY))
        distinct: dict[frozenset[int], int] = {}
        for row in last.worthwhile(alone):
            distinct.setdefault(frozenset(held.kinds.stock[last.covers[row] > 0].tolist()), row)
        kept = list(distinct.values())[:MIXES_KEPT]
        rows = np.concatenate(
            [np.zeros(0, dtype=np.int64), *(np.flatnonzero(last.mix == row) for row in kept)]
        )
        ends = np.cumsum([0, *((last.mix == row).sum() for row in kept)]).tolist()
        return Mixes(
            choices=last.choices.rows(rows),
            groups=tuple(
                group for row in kept for group in arrangement(held.kinds, last.covers[row])
            ),
            members=tuple(tuple(range(start, end)) for start, end in pairwise(ends)),
            evaluations=self.evaluations,
        )

    def _scored(self, held: Held, covers: Integers, requests: Integers) -> _Scored:
        """Return target miss and cost of each row of ``covers`` (replicas of each kind) at the load ``requests`` of a replica."""
        mix, kind = np.nonzero(covers)
        choices = replace(
            self._loaded(held.kinds.choices.rows(kind), requests[mix, kind]),
            replicas=covers[mix, kind],
        )
        service, missed = self.under(choices, choices.concurrency[:, None])
        miss = np.zeros(len(covers))
        np.maximum.at(miss, mix, missed)
        load = choices.replicas * choices.concurrency
        share = load / np.bincount(mix, load, minlength=len(covers))[mix]
        per_s = (
            self.question.workload.concurrency
            * share
            * self.question.workload.counted_tokens
            / service.e2e_s
        )
        cost = usd_per_million_tokens(
            covers @ held.kinds.usd_per_h,
            np.bincount(mix, per_s, minlength=len(covers)).astype(float),
        )
        return _Scored(covers=covers, mix=mix, kind=kind, choices=choices, miss=miss, cost=cost)

    def under(self, choices: Choices, requests: Integers) -> tuple[Service, Floats]:
        """Return the service of each row under each load of its row of ``requests``, and by how much it misses the targets.

        Both are flat: row by row. What does not fit misses them infinitely.
        """
        rows = np.repeat(np.arange(len(requests)), requests.shape[1])
        loaded = self._loaded(choices.rows(rows), requests.ravel())
        memory, predictions = self.predictor.predict(self.space.candidates(loaded))
        self.evaluations += len(rows)
        miss = self.question.targets.missed_by(self.question.judged(predictions))
        return predictions.service, np.where(self.space.violation(loaded, memory) > 0, np.inf, miss)

    def _loaded(self, choices: Choices, requests: Integers) -> Choices:
        """Return the choices as they are launched for so many requests: no more sequences than there are, all in one step."""
        sequences = self._offered(
            choices.offer, "max_num_seqs", np.minimum(requests, choices.max_num_seqs)
        )
        budget = self._offered(
            choices.offer, "max_num_batched_tokens", np.minimum(requests, sequences)
        )
        return replace(
            choices,
            concurrency=requests,
            max_num_seqs=sequences,
            max_num_batched_tokens=np.maximum(choices.max_num_batched_tokens, budget),
        )

    def _offered(self, offers: Integers, knob: str, least: Integers) -> Integers:
        """Return the smallest value offered that is at least ``least``, or the largest there is."""
        found = np.empty_like(least)
        for offer in np.unique(offers):
            values = np.array(getattr(self.space.offers[offer], knob))
            mine = offers == offer
            found[mine] = values[np.minimum(np.searchsorted(values, least[mine]), len(values) - 1)]
        return found


def _held(curves: _Curves, allowed: float) -> Held:
    """Return what kinds hold that hold anything when they may miss by so much."""
    curves = curves.rows(np.flatnonzero(curves.held(allowed)))
    last, rows = curves.last(allowed), np.arange(len(curves.loads))
    requests = curves.loads[rows, last]
    halves = [
        np.interp(-(-most // 2), *curve)
        for most, *curve in zip(requests, curves.loads, curves.e2e_s, strict=True)
    ]
    return Held(
        kinds=curves.kinds,
        requests=requests,
        e2e_s=curves.e2e_s[rows, last],
        half_e2e_s=np.array(halves),
    )
