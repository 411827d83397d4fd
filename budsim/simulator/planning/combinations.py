"""Replicas of several kinds that carry the traffic together: what fits beside what, and which combinations look cheapest.

A *stock* is a set of equal devices that no other stock has, a *kind* one way to run a replica on a stock, a *cover* how many
replicas of each kind. A replica *holds* so many requests.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.simulator.planning.placement import HardwareGroup, Layout, arranged, left_beside
from budsim.simulator.planning.space import Choices

BASES = 3
REPLICAS_TRIED, FEW = 32, 32
"""Proportions of two kinds; and where more replicas are needed a smaller last one is no matter."""
COVERS_KEPT = 24
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Ways to run a replica: rows of ``choices``, the stock of each, how many replicas its devices hold, and USD/h of one.

    ``max_num_seqs`` of a row is the most the kind ever allows: a replica with fewer requests is started with fewer.
    """

    stocks: tuple[HardwareGroup, ...]
    choices: Choices
    stock: Integers
    most: Integers
    usd_per_h: Floats

    def layout(self, kind: int) -> tuple[int, int]:
        """Return TP and PP of a kind."""
        return int(self.choices.tp[kind]), int(self.choices.pp[kind])

    def repeats(self, covers: Integers) -> Booleans:
        """Return which covers have the same layout twice on a stock: equal devices are to be loaded equally."""
        layouts = np.unique(
            np.stack([self.stock, self.choices.tp, self.choices.pp]), axis=1, return_inverse=True
        )[1]
        return np.asarray(
            (((covers > 0) @ np.eye(len(layouts), dtype=np.int64)[layouts]) > 1).any(axis=1)
        )

    def rows(self, rows: Integers) -> Kinds:
        """Return some of them."""
        return replace(
            self,
            choices=self.choices.rows(rows),
            stock=self.stock[rows],
            most=self.most[rows],
            usd_per_h=self.usd_per_h[rows],
        )


class Rooms:
    """What fits beside what on the devices of each stock; every way to fill one is worked out once."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._left: dict[tuple[int, tuple[Layout, ...]], HardwareGroup | None] = {}

    def left(self, cover: Integers) -> Integers | None:
        """Return the replicas of each kind that fit beside ``cover`` (replicas of each kind), None where those do not fit."""
        room = np.zeros_like(cover)
        for stock, group in enumerate(self._kinds.stocks):
            key = (stock, tuple(layout for _, layout in self.layouts(cover, stock)))
            if key not in self._left:
                self._left[key] = left_beside(group, key[1])
            left = self._left[key]
            if left is None:
                return None
            for kind in np.flatnonzero(self._kinds.stock == stock).tolist():
                room[kind] = left.capacity(*self._kinds.layout(kind))
        return room

    def layouts(self, cover: Integers, stock: int) -> list[tuple[int, Layout]]:
        """Return the kinds of a cover on one stock, and TP, PP and replicas of each; the largest first."""
        mine = np.flatnonzero((self._kinds.stock == stock) & (cover > 0)).tolist()
        found = [(kind, (*self._kinds.layout(kind), int(cover[kind]))) for kind in mine]
        return sorted(found, key=lambda each: each[1], reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Kinds, the requests one replica of each holds, and the latency under that load and under half of it."""

    kinds: Kinds
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

    def fillings(self, weight: Floats) -> Iterator[tuple[Integers, int]]:
        """Yield covers whose stocks are used in full or not at all, from nothing on, and the kind that is to fill a stock next.

        That is the one whose further requests cost least ``weight`` (of a replica) each. A stock is filled again by a kind that
        holds more, though each request more costs more.
        """
        steps = []
        holds, weighs = self.requests * self.kinds.most, weight * self.kinds.most
        for stock in np.unique(self.kinds.stock):
            mine, held, weighed = np.flatnonzero(self.kinds.stock == stock), 0, 0.0
            while len(mine := mine[holds[mine] > held]):
                slopes = (weighs[mine] - weighed) / (holds[mine] - held)
                kind = int(mine[np.argmin(slopes)])
                steps.append((float(slopes.min()), kind))
                held, weighed = holds[kind], weighs[kind]
        cover = np.zeros(len(self.requests), dtype=np.int64)
        for _, kind in sorted(steps):
            yield cover, kind
            cover = self.refilled(cover, kind)
        yield cover, -1

    def refilled(self, cover: Integers, kind: int) -> Integers:
        """Return a cover whose stock of ``kind`` has as many replicas of it as it has room for, and no others."""
        return np.where(
            self.kinds.stock == self.kinds.stock[kind], self.kinds.most * self.is_kind(kind), cover
        )

    def is_kind(self, kind: int) -> Booleans:
        """Return which column is a kind's."""
        return np.asarray(np.arange(len(self.requests)) == kind)

    def bases(self, rooms: Rooms, concurrency: int) -> list[Integers]:
        """Return covers too small for the traffic: nothing, and those whose stocks are used in full that hold most."""
        found = [np.zeros(len(self.requests), dtype=np.int64)]
        for weight in self.weights:
            covers = [cover for cover, _ in self.fillings(weight)]
            while (
                (room := rooms.left(covers[-1])) is not None
                and room.any()
                and covers[-1] @ self.requests < concurrency
            ):
                kind = int(np.argmin(np.where(room > 0, weight / self.requests, np.inf)))
                covers.append(covers[-1] + room * self.is_kind(kind))
            found += [cover for cover in covers if cover @ self.requests < concurrency][-BASES:]
        return list(np.unique(found, axis=0))

    def exchanged(self, rooms: Rooms, concurrency: int) -> Iterator[Integers]:
        """Yield covers in which just enough replicas of the last stock filled make way for the kind that refills it."""
        for weight in self.weights:
            for cover, kind in self.fillings(weight):
                if kind >= 0 and self.refilled(cover, kind) @ self.requests >= concurrency:
                    yield self._exchanged(rooms, cover, kind, concurrency)
                    break

    @property
    def weights(self) -> tuple[Floats, Floats]:
        """What replicas weigh: USD per hour, and USD until all the requests they hold are done."""
        return self.kinds.usd_per_h, self.kinds.usd_per_h * self.e2e_s

    def _exchanged(self, rooms: Rooms, cover: Integers, kind: int, concurrency: int) -> Integers:
        others = np.where(self.kinds.stock == self.kinds.stock[kind], 0, cover)

        def with_new(replicas: int) -> Integers:
            some: Integers = others + replicas * self.is_kind(kind)
            room = rooms.left(some)
            return some if room is None else some + np.minimum(room, cover - others)

        choices = range(1, int(self.kinds.most[kind]) + 1)
        enough = bisect_left(
            choices,
            True,
            key=lambda replicas: bool(with_new(replicas) @ self.requests >= concurrency),
        )
        return with_new(choices[min(enough, len(choices) - 1)])[None, :]

    def pairs(self, first: int, second: int, need: int, room: Integers) -> Integers:
        """Return replicas of one kind of each of two stocks that hold ``need`` requests together, in many proportions."""
        one, other = (
            np.flatnonzero((self.kinds.stock == stock) & (room > 0)) for stock in (first, second)
        )
        enough = np.minimum(room[one], np.maximum(-(-need // self.requests[one]) - 1, 1))
        tried = np.linspace(1, enough, REPLICAS_TRIED, axis=1).astype(np.int64)
        left = need - tried * self.requests[one][:, None]
        wanted = -(-left[:, :, None] // self.requests[other])
        a, step, b = np.nonzero((wanted > 0) & (wanted <= room[other]))
        covers = np.zeros((len(a), len(room)), dtype=np.int64)
        rows = np.arange(len(a))
        covers[rows, one[a]], covers[rows, other[b]] = tried[a, step], wanted[a, step, b]
        return covers

    def singles(self, need: int, room: Integers) -> Integers:
        """Return replicas of each kind that hold ``need`` requests alone."""
        wanted = -(-need // self.requests)
        return np.diag(wanted)[(wanted > 0) & (wanted <= room)]

    def shared(
        self, rooms: Rooms, base: Integers, stock: int, concurrency: int
    ) -> Iterator[Integers]:
        """Yield covers of ``base`` but for one stock that two kinds share: about as many of one as are needed, then another."""
        mine = self.kinds.stock == stock
        base = np.where(mine, 0, base)
        need, room = concurrency - int(base @ self.requests), rooms.left(base)
        for kind in np.flatnonzero(mine).tolist() if room is not None else []:
            enough = need // int(self.requests[kind])
            for replicas in range(
                max(1, enough - 1), min(enough, int(self.kinds.most[kind]), FEW) + 1
            ):
                some = base + replicas * self.is_kind(kind)
                left = rooms.left(some)
                if left is not None:
                    others = np.where(mine & ~self.is_kind(kind), left, 0)
                    yield self.singles(need - replicas * int(self.requests[kind]), others) + some


def splits(
    holds: Integers, covers: Integers, concurrency: int, filled: tuple[float, ...]
) -> tuple[Integers, Integers]:
    """Return covers and the requests of a replica of each kind, which ``holds`` so many: all equally full, or one kind fuller.

    That one is ``filled`` so far of the way from its even share to full; one that could carry all the requests leaves one of
    them. The others, equally full, have what that leaves.
    """
    whole = covers * holds
    total = whole.sum(axis=1)
    mixes, requests = [covers], [concurrency / total[:, None] * holds]
    for kind in np.flatnonzero(covers.any(axis=0)):
        some = np.flatnonzero((covers[:, kind] > 0) & (whole[:, kind] < total))
        replicas, even = covers[some, kind], requests[0][some, kind]
        most = np.minimum(holds[kind], (concurrency - 1) / replicas)
        for way in filled:
            mine = np.ceil(even + way * (most - even) - ROUNDING)
            split = ((concurrency - replicas * mine) / (total[some] - whole[some, kind]))[
                :, None
            ] * holds
            split[:, kind] = mine
            mixes.append(covers[some])
            requests.append(split)
    return np.concatenate(mixes), np.clip(
        np.ceil(np.concatenate(requests) - ROUNDING), 1, holds
    ).astype(np.int64)


def arrangement(kinds: Kinds, cover: Integers) -> list[HardwareGroup]:
    """Return where the replicas of each kind in a cover may lie, ascending by kind; no two share a device."""
    rooms, found = Rooms(kinds), dict[int, HardwareGroup]()
    for stock, group in enumerate(kinds.stocks):
        mine = rooms.layouts(cover, stock)
        found |= zip(
            (kind for kind, _ in mine), arranged(group, [layout for _, layout in mine]), strict=True
        )
    return [found[kind] for kind in sorted(found)]


def neighbours(kinds: Kinds) -> Integers:
    """Return how many replicas of each kind (columns) fit beside as many of each (rows) as its stock has room for."""
    rooms = Rooms(kinds)
    found = np.zeros((len(kinds.stock), len(kinds.stock)), dtype=np.int64)
    for kind, most in enumerate(kinds.most.tolist()):
        cover = np.zeros(len(kinds.stock), dtype=np.int64)
        cover[kind] = most
        room = rooms.left(cover)
        if room is not None:
            found[kind] = np.where(kinds.stock == kinds.stock[kind], room, 0)
    return found


def good_covers(held: Held, concurrency: int) -> Integers:
    """Return the covers that hold the traffic and look cheapest, one row each: some of every number of kinds.

    Nearly all devices of the stocks cheapest (or largest) first, one stock after another; then another kind for the rest, or two:
    of two stocks in every proportion (at most `REPLICAS_TRIED`), or of one stock.
    """
    rooms, found = Rooms(held.kinds), [np.zeros((0, len(held.requests)), dtype=np.int64)]

    def cheapest(covers: Integers) -> Integers:
        order = np.argsort(held.cost(covers, concurrency), kind="stable")
        sizes = (covers > 0).sum(axis=1)[order]
        return np.asarray(
            covers[
                np.concatenate(
                    [order[:0], *(order[sizes == size][:COVERS_KEPT] for size in np.unique(sizes))]
                )
            ]
        )

    for base in held.bases(rooms, concurrency):
        need, room = concurrency - int(base @ held.requests), rooms.left(base)
        if room is None:
            continue
        for first, second in combinations(np.unique(held.kinds.stock[room > 0]).tolist(), 2):
            found.append(cheapest(held.pairs(first, second, need, room) + base))
        if base.any():
            found.append(held.singles(need, room) + base)
        for stock in np.unique(held.kinds.stock).tolist():
            found.extend(held.shared(rooms, base, stock, concurrency))
    found.extend(held.exchanged(rooms, concurrency))
    distinct = np.unique(np.concatenate(found), axis=0)
    covers: Integers = cheapest(distinct[~held.kinds.repeats(distinct)])
    return covers[[rooms.left(cover) is not None for cover in covers]]
