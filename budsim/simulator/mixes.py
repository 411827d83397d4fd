"""Deployments of several device types: unequal replicas share the traffic where that is cheaper or the only way to carry it.

A *part* is a set of equal devices that no other part has, a *kind* one way to run a replica on a part. Within the targets a
replica *holds* so many requests; a mix loads all of its replicas to the same share of what they hold, so that none is the
first to miss, or one kind in full where that is cheaper. Where everything there is cannot hold the traffic, every replica may
miss the targets by as little as lets it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import combinations, pairwise

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.predictions import Service
from budsim.performance.predictor import Predictor
from budsim.simulator.cost import usd_per_h, usd_per_million_tokens
from budsim.simulator.evolution import Explored
from budsim.simulator.offers import Choices, OfferSpace, error_rate, judged_service
from budsim.simulator.placement import HardwareGroup
from budsim.simulator.plans import Question

KINDS_TRIED, KINDS_LOADED, KINDS_KEPT = 24, 12, 6
"""Ways to run a replica, of each part: so many get a first look, so many an exact one, so many are combined."""
RUNGS = 24
"""Loads tried between one request and all of them, and again between the two that straddle what a replica holds."""
REPLICAS_TRIED = 32
COVERS_PREDICTED = 64
COVERS_POLISHED = 6
ROUGHLY, FINELY = (0.5, 1.0), tuple(np.linspace(0.0625, 1.0, 16).tolist())
"""How far one kind is filled beyond its even share of the load, of the way to full: in any mix, and in the best of them."""
MIXES_KEPT = 3
MISSES = np.concatenate([[0.0], np.geomspace(0.002, 1e6, 1000)])
"""Misses of the targets that are put up with, where less does not let everything carry the traffic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixes:
    """Mixes worth having, best first.

    ``choices`` has a row for every set of equal replicas, ``groups`` says where each of them may lie, and ``members`` names the
    rows of each mix. ``evaluations`` counts candidates that were predicted.
    """

    choices: Choices
    groups: tuple[HardwareGroup, ...]
    members: tuple[tuple[int, ...], ...]
    evaluations: int


def taken(choices: Choices, rows: Integers | Booleans) -> Choices:
    """Return some rows of a table of choices."""
    return Choices(**{column.name: getattr(choices, column.name)[rows] for column in fields(Choices)})


def joined(first: Choices, second: Choices) -> Choices:
    """Return the rows of two tables of choices, one after another."""
    columns = [column.name for column in fields(Choices)]
    return Choices(**{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in columns})


def mixed(question: Question, space: OfferSpace, explored: Explored, predictor: Predictor) -> Mixes | None:
    """Return mixes that are better than the best deployment of one device type that was explored, or None.

    Without targets there is none: whatever is cheapest alone then carries everything.
    """
    targets, parts = question.targets, _parts(space)
    if len(parts) < 2 or not (targets.ttft_s or targets.e2e_s or targets.tokens_per_s_per_user):
        return None
    ranking = explored.ranking()
    kinds = _kinds(space, explored.genomes[ranking[explored.violation[ranking] <= 0]], parts)
    if len(np.unique(kinds.part)) < 2:
        return None
    load = _Load(question, space, predictor)
    held = load.held(kinds)
    covers = _covers(held, question.workload.concurrency)
    return load.best(held, covers, explored.objectives[ranking[0]]) if len(covers) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Devices, and the offers replicas on them may follow."""

    group: HardwareGroup
    offers: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kinds:
    """Ways to run a replica: rows of ``choices``, the part of each, how many replicas its devices hold, and USD/h of one.

    ``max_num_seqs`` of a row is the most the kind ever allows: a replica with fewer requests is started with fewer.
    """

    parts: tuple[_Part, ...]
    choices: Choices
    part: Integers
    most: Integers
    usd_per_h: Floats

    def layouts(self, rows: Integers) -> tuple[tuple[int, int, int], ...]:
        """Return part, TP and PP of some of them."""
        return tuple(zip(self.part[rows].tolist(), self.choices.tp[rows].tolist(), self.choices.pp[rows].tolist(), strict=True))

    def carry(self, requests: Integers) -> int:
        """Return how many requests all parts carry when a replica of each kind holds so many."""
        held = requests * self.most
        return int(sum(held[self.part == part].max() for part in np.unique(self.part)))

    def rows(self, rows: Integers) -> _Kinds:
        """Return some of them."""
        return replace(
            self,
            choices=taken(self.choices, rows),
            part=self.part[rows],
            most=self.most[rows],
            usd_per_h=self.usd_per_h[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Kinds, the requests one replica of each holds, and the latency under that load and under half of it."""

    kinds: _Kinds
    requests: Integers
    e2e_s: Floats
    half_e2e_s: Floats

    @property
    def usd_per_request(self) -> Floats:
        """Cost of a request under full load, up to a constant."""
        return self.kinds.usd_per_h * self.e2e_s / self.requests

    def cost(self, replicas: Integers, concurrency: int) -> Floats:
        """Return about what a request costs for each row of ``replicas`` (one column a kind), up to the same constant."""
        idle = 1.0 - concurrency / (replicas @ self.requests)
        e2e_s = self.e2e_s + (self.half_e2e_s - self.e2e_s) * 2.0 * idle[:, None]
        per_s = (replicas * self.requests / e2e_s).sum(axis=1) * (1.0 - idle)
        return np.asarray(replicas @ self.kinds.usd_per_h / per_s)

    def rows(self, rows: Integers) -> _Held:
        """Return some of the kinds."""
        return _Held(
            kinds=self.kinds.rows(rows), requests=self.requests[rows], e2e_s=self.e2e_s[rows], half_e2e_s=self.half_e2e_s[rows]
        )

    def worth_combining(self, each: int) -> Integers:
        """Return rows: the cheapest kinds of each part, the one that holds most on all its devices, the one of least requests."""
        kept: set[int] = set()
        for part in np.unique(self.kinds.part):
            mine = np.flatnonzero(self.kinds.part == part)
            kept.update(mine[np.argsort(self.usd_per_request[mine], kind="stable")[: each - 2]].tolist())
            kept.add(int(mine[np.argmax((self.requests * self.kinds.most)[mine])]))
            kept.add(int(mine[np.argmin(self.requests[mine])]))
        return np.array(sorted(kept), dtype=np.int64)

    def bases(self, concurrency: int) -> Iterator[tuple[Integers, tuple[int, ...]]]:
        """Yield what parts used in full carry, with the other parts: none, then one part more at a time, cheapest or largest."""
        parts = np.unique(self.kinds.part).tolist()
        for order in (self.usd_per_request, -1.0 * self.requests * self.kinds.most):
            first = [min(np.flatnonzero(self.kinds.part == part), key=lambda kind: order[kind]) for part in parts]
            queue = sorted(first, key=lambda kind: order[kind])
            base = np.zeros(len(order), dtype=np.int64)
            for done, kind in enumerate(queue):
                if base @ self.requests >= concurrency:
                    break
                yield base.copy(), tuple(int(self.kinds.part[other]) for other in queue[done:])
                base[kind] = self.kinds.most[kind]

    def pairs(self, first: int, second: int, need: int) -> Integers:
        """Return replicas of one kind of each of two parts that hold ``need`` requests together, in many proportions."""
        one, other = (np.flatnonzero(self.kinds.part == part) for part in (first, second))
        enough = np.minimum(self.kinds.most[one], np.maximum(-(-need // self.requests[one]) - 1, 1))
        tried = np.linspace(1, enough, REPLICAS_TRIED, axis=1).astype(np.int64)
        left = need - tried * self.requests[one][:, None]
        wanted = -(-left[:, :, None] // self.requests[other])
        a, step, b = np.nonzero((wanted > 0) & (wanted <= self.kinds.most[other]))
        covers = np.zeros((len(a), len(self.requests)), dtype=np.int64)
        rows = np.arange(len(a))
        covers[rows, one[a]], covers[rows, other[b]] = tried[a, step], wanted[a, step, b]
        return covers

    def splits(self, covers: Integers, concurrency: int, filled: tuple[float, ...]) -> tuple[Integers, Integers]:
        """Return covers and the requests of a replica of each kind: all equally full, or one kind fuller, up to full."""
        holds = covers * self.requests
        total = holds.sum(axis=1, keepdims=True)
        even = np.broadcast_to(concurrency / total, holds.shape)
        mixes, shares = [covers], [even]
        for kind in np.flatnonzero(covers.any(axis=0)):
            some = np.flatnonzero((covers[:, kind] > 0) & (holds[:, kind] < concurrency))
            rest = (concurrency - holds[some, kind]) / (total[some, 0] - holds[some, kind])
            full = np.repeat(rest[:, None], holds.shape[1], axis=1)
            full[:, kind] = 1.0
            mixes += [covers[some]] * len(filled)
            shares += [way * full + (1.0 - way) * even[some] for way in filled]
        requests = np.ceil(np.concatenate(shares) * self.requests - 1e-9).astype(np.int64)
        return np.concatenate(mixes), np.clip(requests, 1, self.requests)

    def singles(self, part: int, need: int) -> Integers:
        """Return replicas of each kind of one part that hold ``need`` requests alone."""
        kinds = np.flatnonzero(self.kinds.part == part)
        wanted = -(-need // self.requests[kinds])
        covers = np.zeros((len(kinds), len(self.requests)), dtype=np.int64)
        covers[np.arange(len(kinds)), kinds] = wanted
        return covers[wanted <= self.kinds.most[kinds]]


def _parts(space: OfferSpace) -> tuple[_Part, ...]:
    groups = {id(offer.group): offer.group for offer in space.offers}
    parts, earlier = [], list[HardwareGroup]()
    for key, group in groups.items():
        own = group.without(other for other in earlier if other.device == group.device)
        earlier.append(group)
        if own:
            offers = frozenset(number for number, offer in enumerate(space.offers) if id(offer.group) == key)
            parts.append(_Part(group=own, offers=offers))
    return tuple(parts)


def _kinds(space: OfferSpace, genomes: Integers, parts: tuple[_Part, ...]) -> _Kinds:
    """Return the best kinds of each part among genomes (best first), and of each of its layouts the best."""
    choices = space.read(genomes)
    binding = choices.max_num_seqs < choices.concurrency
    largest = np.array([offer.max_num_seqs[-1] for offer in space.offers])[choices.offer]
    choices = replace(choices, max_num_seqs=np.where(binding, choices.max_num_seqs, largest))
    columns = [getattr(choices, column.name) for column in fields(Choices) if column.name not in ("replicas", "concurrency")]
    number = {offer: at for at, part in enumerate(parts) for offer in part.offers}
    part = np.array([number.get(offer, -1) for offer in range(len(space.offers))])[choices.offer]
    chosen: set[int] = set()
    distinct = _firsts(columns)
    for at in range(len(parts)):
        mine = distinct[part[distinct] == at]
        layouts = _firsts([column[mine] for column in (choices.offer, choices.tp, choices.pp, choices.weights, choices.kv)])
        chosen.update(mine[:KINDS_TRIED].tolist(), mine[layouts].tolist())
    rows = np.array(sorted(chosen), dtype=np.int64)
    return _sized(space, parts, taken(choices, rows), part[rows])


def _firsts(columns: list[Integers | Floats]) -> Integers:
    """Return the first row of each distinct combination of values, ascending."""
    _, first = np.unique(np.stack(columns), axis=1, return_index=True)
    return np.sort(first)


def _sized(space: OfferSpace, parts: tuple[_Part, ...], choices: Choices, part: Integers) -> _Kinds:
    layouts = zip(part.tolist(), choices.tp.tolist(), choices.pp.tolist(), strict=True)
    most = np.array([parts[at].group.capacity(tp, pp) for at, tp, pp in layouts], dtype=np.int64)
    per_h = usd_per_h(choices.tp * choices.pp, *space.prices(choices))
    return _Kinds(parts=parts, choices=choices, part=part, most=most, usd_per_h=per_h).rows(np.flatnonzero(most > 0))


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


@dataclass(slots=True)
class _Load:
    """Predicts kinds under load, and counts how often."""

    question: Question
    space: OfferSpace
    predictor: Predictor
    evaluations: int = 0

    def held(self, kinds: _Kinds) -> _Held:
        """Return what a replica of each kind holds, of each part the kinds worth combining only.

        A first look at few loads says which kinds are, and between which misses the least that has to be allowed lies.
        """
        concurrency = self.question.workload.concurrency
        rungs = np.unique(np.geomspace(1, concurrency, RUNGS).round().astype(np.int64))
        service, misses = self.under(kinds.choices, np.broadcast_to(rungs, (len(kinds.part), len(rungs))))
        misses, e2e_s = misses.reshape(-1, len(rungs)), service.e2e_s.reshape(-1, len(rungs))
        low, high = (_least_miss(kinds, misses, rungs, concurrency, above) for above in (1, 0))
        top = _next_rung(misses, MISSES[low], rungs)
        at_top = e2e_s[np.arange(len(top)), top]
        able = np.flatnonzero(np.isfinite(misses[:, 0]))
        rough = _Held(kinds=kinds, requests=rungs[top], e2e_s=at_top, half_e2e_s=at_top).rows(able)
        kept = able[rough.worth_combining(KINDS_LOADED)]
        return self._held_exactly(kinds.rows(kept), misses[kept], rungs, low, high)

    def _held_exactly(self, kinds: _Kinds, coarse: Floats, rungs: Integers, low: int, high: int) -> _Held:
        """Return what the kinds hold when as little a miss is allowed, between two, as lets them carry the traffic."""
        concurrency = self.question.workload.concurrency

        def holds(allowed: float) -> Integers:
            bottom = rungs[np.maximum(_passed(coarse, allowed), 0)]
            fine = np.linspace(bottom, rungs[_next_rung(coarse, allowed, rungs)], RUNGS, axis=1).astype(np.int64)
            last = _passed(self.under(kinds.choices, fine)[1].reshape(fine.shape), allowed)
            return np.where(last >= 0, fine[np.arange(len(fine)), last], 0)

        requests = holds(MISSES[low])
        if kinds.carry(requests) < concurrency:
            least = bisect_left(MISSES, True, lo=low + 1, hi=high, key=lambda each: kinds.carry(holds(each)) >= concurrency)
            requests = holds(MISSES[min(least, len(MISSES) - 1)])
        able = np.flatnonzero(requests > 0)
        kinds, requests = kinds.rows(able), requests[able]
        service, _ = self.under(kinds.choices, np.stack([requests, -(-requests // 2)], axis=1))
        e2e_s = service.e2e_s.reshape(-1, 2)
        held = _Held(kinds=kinds, requests=requests, e2e_s=e2e_s[:, 0], half_e2e_s=e2e_s[:, 1])
        return held.rows(held.worth_combining(KINDS_KEPT))

    def best(self, held: _Held, covers: Integers, alone: Floats) -> Mixes:
        """Return the mixes of ``covers`` (replicas of each kind) that beat the objectives of one type ``alone``, best first."""
        concurrency = self.question.workload.concurrency
        first = self._scored(held, *held.splits(covers, concurrency, ROUGHLY))
        finalists = np.unique(first.covers[first.ranking[:COVERS_POLISHED]], axis=0)
        last = self._scored(held, *held.splits(finalists, concurrency, FINELY))
        better = [row for row in last.ranking.tolist() if (last.miss[row], last.cost[row]) < (alone[0], alone[1])]
        distinct = {held.kinds.layouts(np.flatnonzero(last.covers[row])): row for row in reversed(better)}
        kept = sorted(distinct.values(), key=better.index)[:MIXES_KEPT]
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *(np.flatnonzero(last.mix == row) for row in kept)])
        ends = np.cumsum([0, *((last.mix == row).sum() for row in kept)]).tolist()
        return Mixes(
            choices=taken(last.choices, rows),
            groups=tuple(held.kinds.parts[part].group for part in held.kinds.part[last.kind[rows]].tolist()),
            members=tuple(tuple(range(start, end)) for start, end in pairwise(ends)),
            evaluations=self.evaluations,
        )

    def _scored(self, held: _Held, covers: Integers, requests: Integers) -> _Scored:
        """Return target miss and cost of each row of ``covers`` (replicas of each kind) at the load ``requests`` of a replica."""
        mix, kind = np.nonzero(covers)
        choices = replace(self._loaded(taken(held.kinds.choices, kind), requests[mix, kind]), replicas=covers[mix, kind])
        service, missed = self.under(choices, choices.concurrency[:, None])
        miss = np.zeros(len(covers))
        np.maximum.at(miss, mix, missed)
        load = choices.replicas * choices.concurrency
        share = load / np.bincount(mix, load, minlength=len(covers))[mix]
        per_s = self.question.workload.concurrency * share * service.output_tokens / service.e2e_s
        cost = usd_per_million_tokens(covers @ held.kinds.usd_per_h, np.bincount(mix, per_s, minlength=len(covers)).astype(float))
        return _Scored(covers=covers, mix=mix, kind=kind, choices=choices, miss=miss, cost=cost)

    def under(self, choices: Choices, requests: Integers) -> tuple[Service, Floats]:
        """Return the service of each row under each load of its row of ``requests``, and by how much it misses the targets.

        Both are flat: row by row. What does not fit misses them infinitely.
        """
        rows = np.repeat(np.arange(len(requests)), requests.shape[1])
        loaded = self._loaded(taken(choices, rows), requests.ravel())
        memory, predictions = self.predictor.predict(self.space.candidates(loaded))
        self.evaluations += len(rows)
        miss = error_rate(self.question.targets, judged_service(self.question, predictions))
        return predictions.service, np.where(self.space.violation(loaded, memory) > 0, np.inf, miss)

    def _loaded(self, choices: Choices, requests: Integers) -> Choices:
        """Return the choices as they are launched for so many requests: no more sequences than there are, all in one step."""
        sequences = self._offered(choices.offer, "max_num_seqs", np.minimum(requests, choices.max_num_seqs))
        budget = self._offered(choices.offer, "max_num_batched_tokens", np.minimum(requests, sequences))
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


def _passed(misses: Floats, allowed: float) -> Integers:
    """Return the last column up to which a row misses no more than allowed, -1 where not even the first does."""
    return np.asarray(np.logical_and.accumulate(misses <= allowed, axis=1).sum(axis=1) - 1)


def _next_rung(misses: Floats, allowed: float, rungs: Integers) -> Integers:
    """Return the column of the first load that misses more than allowed, of the last one where none is."""
    return np.minimum(_passed(misses, allowed) + 1, len(rungs) - 1)


def _least_miss(kinds: _Kinds, misses: Floats, rungs: Integers, concurrency: int, above: int) -> int:
    """Return the first of `MISSES` at which all parts carry the traffic if kinds held the rung passed, or ``above`` it."""

    def carries(allowed: float) -> bool:
        column = np.minimum(_passed(misses, allowed) + above, len(rungs) - 1)
        return kinds.carry(np.where(column >= 0, rungs[column], 0)) >= concurrency

    return min(bisect_left(MISSES, True, key=carries), len(MISSES) - 1)


def _covers(held: _Held, concurrency: int) -> Integers:
    """Return the replicas of each kind in the mixes that look cheapest, one row a mix, no two kinds of one part.

    Nearly all devices of the parts cheapest (or largest) first, one part after another, then two kinds that share the rest in
    every proportion (at most `REPLICAS_TRIED` of them).
    """
    found = [np.zeros((0, len(held.requests)), dtype=np.int64)]
    for base, rest in held.bases(concurrency):
        need = concurrency - int(base @ held.requests)
        for first, second in combinations(rest, 2):
            pairs = held.pairs(first, second, need) + base
            found.append(pairs[np.argsort(held.cost(pairs, concurrency), kind="stable")[:COVERS_PREDICTED]])
        if base.any():
            found.extend(held.singles(part, need) + base for part in rest)
    covers = np.unique(np.concatenate(found), axis=0)
    return covers[np.argsort(held.cost(covers, concurrency), kind="stable")[:COVERS_PREDICTED]]
