"""Replicas of several types that carry the traffic together.

What fits side by side, and which combinations look cheapest.

Words used here:

* a *group* is a set of equal devices, none of which is in another group;
* a *replica type* is one way to run a replica on a group (engine, layout, formats, knobs);
* the *capacity* of a type is how many requests one replica of it serves within the targets;
* a *combination* is a row of counts: how many replicas of each type. With the types (A, B), ``(2,
  3)`` is two A and three B.

Example: 90 requests; A has a capacity of 40 on four H100 at 2 USD/h, B one of 15 on four A10 at
0.5 USD/h. Three A would do for 6 USD/h; six B would do for 3, but only four fit; one A and four B
carry 100 for 4 USD/h.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.simulator.planning.choices import Choices
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.placement import EqualReplicas, free_after, groups_for_sets

# Of each way to fill groups, so many combinations that are just too small are completed by further
# types.
BASES: Final = 3
# Proportions tried of two types of two groups.
PROPORTIONS: Final = 32
# Largest count of a type for which its group is also shared with another type: past it one smaller
# last replica saves little.
MOST_BESIDE: Final = 32
# Combinations kept of each number of types, by estimated cost.
KEPT_OF_EACH_SIZE: Final = 24

ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaTypes:
    """Ways to run a replica, one row each.

    Attributes
    ----------
    groups : tuple of HardwareGroup
        Groups of devices; no device is in two of them.
    choices : Choices
        How a replica is run. Its ``max_num_seqs`` is the most the type ever allows: with fewer
        requests it starts with fewer.
    group : int array, shape (n,)
        Place in ``groups`` of each type.
    most : int array, shape (n,)
        Replicas its group has room for.
    usd_per_h : float array, shape (n,)
        Price of one replica.
    engine : int array, shape (n,)
        A number for the engine of each type.
    """

    groups: tuple[HardwareGroup, ...]
    choices: Choices
    group: Integers
    most: Integers
    usd_per_h: Floats
    engine: Integers

    def __len__(self) -> int:
        """Return the number of types."""
        return len(self.group)

    def layout(self, number: int) -> tuple[int, int]:
        """Return TP and PP of a type."""
        return int(self.choices.tp[number]), int(self.choices.pp[number])

    def only(self, number: int) -> Booleans:
        """Return which column of a combination is a type's."""
        return np.asarray(np.arange(len(self)) == number)

    def repeat_a_layout(self, counts: Integers) -> Booleans:
        """Return which rows of ``counts`` use a layout twice on one group.

        Equal devices should be loaded equally.
        """
        columns = np.stack([self.group, self.choices.tp, self.choices.pp])
        layout = np.unique(columns, axis=1, return_inverse=True)[1]
        in_layout = np.eye(len(layout), dtype=np.int64)[layout]
        return np.asarray((((counts > 0) @ in_layout) > 1).any(axis=1))

    def mix_formats(self, counts: Integers) -> Booleans:
        """Return which rows of ``counts`` have weights in several formats behind one endpoint."""
        formats = np.unique(self.choices.weights, return_inverse=True)[1]
        in_format = np.eye(len(formats), dtype=np.int64)[formats]
        return np.asarray((((counts > 0) @ in_format) > 0).sum(axis=1) > 1)

    def mix_engines(self, counts: Integers) -> Booleans:
        """Return which rows of ``counts`` have several engines behind one endpoint."""
        in_engine = np.eye(int(self.engine.max(initial=0)) + 1, dtype=np.int64)[self.engine]
        return np.asarray((((counts > 0) @ in_engine) > 0).sum(axis=1) > 1)

    def rows(self, rows: Integers) -> ReplicaTypes:
        """Return some of the types."""
        return replace(
            self,
            choices=self.choices.rows(rows),
            group=self.group[rows],
            most=self.most[rows],
            usd_per_h=self.usd_per_h[rows],
            engine=self.engine[rows],
        )


class FitTable:
    """What fits beside what on the devices of each group.

    Every way to fill a group is worked out once.
    """

    def __init__(self, types: ReplicaTypes) -> None:
        self._types = types
        self._free: dict[tuple[int, tuple[EqualReplicas, ...]], HardwareGroup | None] = {}

    def free_beside(self, counts: Integers) -> Integers | None:
        """Return how many replicas of each type fit beside a combination.

        None where that does not fit itself.

        One node of three devices and the types (TP 2, TP 1): beside (1, 0) there is room for (0,
        1), beside (0, 2) for (0, 1).
        """
        room = np.zeros_like(counts)
        for number, group in enumerate(self._types.groups):
            sets = tuple(each for _, each in self.sets_on(counts, number))
            if (number, sets) not in self._free:
                self._free[number, sets] = free_after(group, sets)
            left = self._free[number, sets]
            if left is None:
                return None
            for each in np.flatnonzero(self._types.group == number).tolist():
                room[each] = left.capacity(*self._types.layout(each))
        return room

    def sets_on(self, counts: Integers, group: int) -> list[tuple[int, EqualReplicas]]:
        """Return the types a combination has on one group, and their replicas, largest first."""
        mine = np.flatnonzero((self._types.group == group) & (counts > 0)).tolist()
        found = [
            (each, EqualReplicas(*self._types.layout(each), int(counts[each]))) for each in mine
        ]
        return sorted(found, key=lambda pair: pair[1], reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTypes:
    """Replica types and what one replica of each does at its capacity; arrays of shape (n,).

    ``capacity`` counts requests, ``e2e_s`` is the latency with so many, ``half_e2e_s`` with half of
    them.
    """

    types: ReplicaTypes
    capacity: Integers
    e2e_s: Floats
    half_e2e_s: Floats

    @property
    def prices(self) -> tuple[Floats, Floats]:
        """Two prices of a replica.

        USD per hour, and USD until all requests it holds are done (up to a constant).
        """
        return self.types.usd_per_h, self.types.usd_per_h * self.e2e_s

    def estimated_cost(self, counts: Integers, concurrency: int) -> Floats:
        """Return about what a request costs with each row of ``counts``, up to a constant.

        The latency at the combination's load is taken from the line through those at full and at
        half capacity.
        """
        # Replicas below capacity answer faster; half a load is the only other point known.
        idle = 1.0 - concurrency / (counts @ self.capacity)
        e2e_s = self.e2e_s + (self.half_e2e_s - self.e2e_s) * 2.0 * idle[:, None]
        per_s = (counts * self.capacity / e2e_s).sum(axis=1) * (1.0 - idle)
        return np.asarray(counts @ self.types.usd_per_h / per_s)

    def filled_groups(self, price: Floats) -> Iterator[tuple[Integers, int]]:
        """Yield combinations of full groups, cheapest first, and the type that fills one next.

        A group is used in full or not at all. The next type is the one whose further requests cost
        least by ``price`` (of a replica). A group may be filled again by a type that carries more
        there, though each further request costs more. Example: a group holds four A (capacity 10,
        price 1) or two B (capacity 30, price 4). It is filled by A first (40 requests at 0.1 each),
        then again by B, whose 20 further requests cost (8 - 4) / 20 = 0.2 each.
        """
        steps = []
        capacities, prices = self.capacity * self.types.most, price * self.types.most
        for group in np.unique(self.types.group):
            left, carried, paid = np.flatnonzero(self.types.group == group), 0, 0.0
            # The lower convex hull of cost over requests carried: what lies above it is never best.
            while len(left := left[capacities[left] > carried]):
                each = (prices[left] - paid) / (capacities[left] - carried)
                best = int(left[np.argmin(each)])
                steps.append((float(each.min()), best))
                carried, paid = capacities[best], prices[best]
        counts = np.zeros(len(self.types), dtype=np.int64)
        for _, number in sorted(steps):
            yield counts, number
            counts = self.refill(counts, number)
        yield counts, -1

    def refill(self, counts: Integers, number: int) -> Integers:
        """Return a combination with the group of type ``number`` full of that type alone."""
        same_group = self.types.group == self.types.group[number]
        return np.where(same_group, self.types.most * self.types.only(number), counts)

    def just_too_small(self, fits: FitTable, concurrency: int) -> list[Integers]:
        """Return combinations that carry not quite the traffic.

        Nothing, and the largest of those that fill whole groups.
        """
        found = [np.zeros(len(self.types), dtype=np.int64)]
        for price in self.prices:
            steps = [counts for counts, _ in self.filled_groups(price)]
            while (
                (room := fits.free_beside(steps[-1])) is not None
                and room.any()
                and steps[-1] @ self.capacity < concurrency
            ):
                each = np.where(room > 0, price / self.capacity, np.inf)
                number = int(np.argmin(each))
                steps.append(steps[-1] + room * self.types.only(number))
            found += [counts for counts in steps if counts @ self.capacity < concurrency][-BASES:]
        return list(np.unique(found, axis=0))

    def partly_refilled(self, fits: FitTable, concurrency: int) -> Iterator[Integers]:
        """Yield combinations whose last group is refilled only as far as the traffic needs."""
        for price in self.prices:
            for counts, number in self.filled_groups(price):
                if number >= 0 and self.refill(counts, number) @ self.capacity >= concurrency:
                    yield self._partly_refilled(fits, counts, number, concurrency)
                    break

    def _partly_refilled(
        self, fits: FitTable, counts: Integers, number: int, concurrency: int
    ) -> Integers:
        """Return ``counts`` with just enough of them replaced by type ``number``."""
        others = np.where(self.types.group == self.types.group[number], 0, counts)

        def with_new(replicas: int) -> Integers:
            """Return the counts with this many new replicas and those others that still fit."""
            some: Integers = others + replicas * self.types.only(number)
            room = fits.free_beside(some)
            return some if room is None else some + np.minimum(room, counts - others)

        def carries(replicas: int) -> bool:
            """Say whether the counts with this many new replicas carry the concurrency."""
            return bool(with_new(replicas) @ self.capacity >= concurrency)

        tried = range(1, int(self.types.most[number]) + 1)
        enough = bisect_left(tried, True, key=carries)
        return with_new(tried[min(enough, len(tried) - 1)])[None, :]

    def largest(self) -> Integers:
        """Return the combination that fills every group with the types that carry most there.

        It is what the least miss is allowed for where the targets cannot be met: nothing smaller
        may carry the traffic then.
        """
        counts = np.zeros(len(self.types), dtype=np.int64)
        beside = room_beside_each(self.types)
        carried = self.capacity * self.types.most + (beside * self.capacity).max(axis=1)
        for group in np.unique(self.types.group):
            mine = np.flatnonzero(self.types.group == group)
            best = int(mine[np.argmax(carried[mine])])
            other = int(np.argmax(beside[best] * self.capacity))
            counts[other] = beside[best, other]
            counts[best] = self.types.most[best]
        return counts

    def pairs(self, first: int, second: int, needed: int, room: Integers) -> Integers:
        """Return pairs of types, one of each of two groups, that carry ``needed`` requests.

        Capacities of 10 and 12, 17 requests needed, room for (2, 2): one of the first needs one of
        the second for the other 7.
        """
        one, other = (
            np.flatnonzero((self.types.group == group) & (room > 0)) for group in (first, second)
        )
        # At least one of the second type is needed, or it would be no pair.
        nearly = np.maximum(-(-needed // self.capacity[one]) - 1, 1)
        tried = np.linspace(1, np.minimum(room[one], nearly), PROPORTIONS, axis=1).astype(np.int64)
        left = needed - tried * self.capacity[one][:, None]
        wanted = -(-left[:, :, None] // self.capacity[other])
        a, step, b = np.nonzero((wanted > 0) & (wanted <= room[other]))
        counts, rows = np.zeros((len(a), len(room)), dtype=np.int64), np.arange(len(a))
        counts[rows, one[a]], counts[rows, other[b]] = tried[a, step], wanted[a, step, b]
        return counts

    def single_types(self, needed: int, room: Integers) -> Integers:
        """Return combinations of one type that carry ``needed`` requests.

        Capacities (10, 12), 25 requests: (3, 0), (0, 3).
        """
        wanted = -(-needed // self.capacity)
        return np.diag(wanted)[(wanted > 0) & (wanted <= room)]

    def sharing_a_group(
        self, fits: FitTable, base: Integers, group: int, concurrency: int
    ) -> Iterator[Integers]:
        """Yield ``base`` with one group shared by two types.

        Nearly enough of the one, and the other for the rest.
        """
        mine = self.types.group == group
        base = np.where(mine, 0, base)
        needed, room = concurrency - int(base @ self.capacity), fits.free_beside(base)
        for number in np.flatnonzero(mine).tolist() if room is not None else []:
            capacity = int(self.capacity[number])
            enough = needed // capacity
            most = min(enough, int(self.types.most[number]), MOST_BESIDE)
            for replicas in range(max(1, enough - 1), most + 1):
                some = base + replicas * self.types.only(number)
                left = fits.free_beside(some)
                if left is not None:
                    others = np.where(mine & ~self.types.only(number), left, 0)
                    yield self.single_types(needed - replicas * capacity, others) + some


def split_requests(
    capacity: Integers, counts: Integers, concurrency: int, fullness: tuple[float, ...]
) -> tuple[Integers, Integers]:
    """Return ways to split the requests over combinations.

    Rows of counts, and of requests of one replica of each type.

    First all replicas equally full. Then, of every combination, one type fuller than the others by
    each value of ``fullness``: 0 is its even share, 1 is full; the others share what is left,
    equally full. A type that could carry everything alone leaves one request to the others.

    Capacity (10, 12), one replica of each, 17 requests, fullness 1: evenly (8, 10); the first type
    full (10, 7); the second type full (5, 12).
    """
    whole = counts * capacity
    total = whole.sum(axis=1)
    rows, requests = [counts], [concurrency / total[:, None] * capacity]
    for number in np.flatnonzero(counts.any(axis=0)):
        some = np.flatnonzero((counts[:, number] > 0) & (whole[:, number] < total))
        replicas, even = counts[some, number], requests[0][some, number]
        most = np.minimum(capacity[number], (concurrency - 1) / replicas)
        others = total[some] - whole[some, number]
        for share in fullness:
            mine = np.ceil(even + share * (most - even) - ROUNDING)
            split = ((concurrency - replicas * mine) / others)[:, None] * capacity
            split[:, number] = mine
            rows.append(counts[some])
            requests.append(split)
    # Requests are whole: rounding up leaves no request without a place.
    rounded = np.ceil(np.concatenate(requests) - ROUNDING)
    return np.concatenate(rows), np.clip(rounded, 1, capacity).astype(np.int64)


def hardware_of_types(types: ReplicaTypes, counts: Integers) -> list[HardwareGroup]:
    """Return where the replicas of each type of a combination may lie, ascending by type.

    No two share a device.
    """
    fits, found = FitTable(types), dict[int, HardwareGroup]()
    for number, group in enumerate(types.groups):
        mine = fits.sets_on(counts, number)
        places = groups_for_sets(group, [each for _, each in mine])
        found |= zip((each for each, _ in mine), places, strict=True)
    return [found[number] for number in sorted(found)]


def room_beside_each(types: ReplicaTypes) -> Integers:
    """Return how many replicas of each type (columns) fit beside a full group of each (rows)."""
    fits = FitTable(types)
    found = np.zeros((len(types), len(types)), dtype=np.int64)
    for number, most in enumerate(types.most.tolist()):
        room = fits.free_beside(most * types.only(number))
        if room is not None:
            found[number] = np.where(types.group == types.group[number], room, 0)
    return found


def promising_combinations(
    loaded: LoadedTypes, concurrency: int, *, one_engine: bool = True
) -> Integers:
    """Return the combinations that carry the traffic and look cheapest, one row each.

    Some of every number of types; of one format each, and of one engine unless told otherwise.

    They complete combinations that are just too small: by one type, by one of each of two groups in
    many proportions, or by two types that share a group; and some refill a group by a type that
    carries more there.
    """
    fits, groups = FitTable(loaded.types), np.unique(loaded.types.group).tolist()
    found = [np.zeros((0, len(loaded.types)), dtype=np.int64)]
    for base in loaded.just_too_small(fits, concurrency):
        needed, room = concurrency - int(base @ loaded.capacity), fits.free_beside(base)
        if room is None:
            continue
        for first, second in combinations(np.unique(loaded.types.group[room > 0]).tolist(), 2):
            pairs = loaded.pairs(first, second, needed, room) + base
            found.append(_cheapest_of_each_size(loaded, pairs, concurrency))
        if base.any():
            found.append(loaded.single_types(needed, room) + base)
        for group in groups:
            found.extend(loaded.sharing_a_group(fits, base, group, concurrency))
    found.extend(loaded.partly_refilled(fits, concurrency))
    largest = loaded.largest()
    if largest @ loaded.capacity >= concurrency:
        found.append(largest[None, :])
    distinct = np.unique(np.concatenate(found), axis=0)
    distinct = distinct[~loaded.types.repeat_a_layout(distinct)]
    distinct = distinct[~loaded.types.mix_formats(distinct)]
    if one_engine:
        distinct = distinct[~loaded.types.mix_engines(distinct)]
    counts = _cheapest_of_each_size(loaded, distinct, concurrency)
    return counts[[fits.free_beside(each) is not None for each in counts]]


def _cheapest_of_each_size(loaded: LoadedTypes, counts: Integers, concurrency: int) -> Integers:
    """Return the `KEPT_OF_EACH_SIZE` rows of each number of types that look cheapest."""
    order = np.argsort(loaded.estimated_cost(counts, concurrency), kind="stable")
    sizes = (counts > 0).sum(axis=1)[order]
    chosen = [order[sizes == size][:KEPT_OF_EACH_SIZE] for size in np.unique(sizes)]
    return np.asarray(counts[np.concatenate([order[:0], *chosen])])
