"""Deployments of unequal replicas.

Several device types or layouts share the traffic where that is cheaper or the only way.

Within the targets a replica of each type serves so many requests: its capacity. A mixed deployment
loads all replicas to the same share of their capacity, so that none is the first to miss, or loads
one type more where that is cheaper. If the devices cannot meet the targets, the smallest equal miss
that carries the traffic is allowed. For the words see `budsim.simulator.planning.combinations`; for
the load curves `budsim.simulator.planning.load_curves`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from budsim.performance.candidates import Floats, Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.choices import COLUMNS, Choices
from budsim.simulator.planning.combinations import (
    LoadedTypes,
    ReplicaTypes,
    hardware_of_types,
    promising_combinations,
    split_requests,
)
from budsim.simulator.planning.cost import usd_per_million_tokens
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.load_curves import LoadModel, loaded_types
from budsim.simulator.planning.question import Question
from budsim.simulator.search_result import SearchResult, first_of_each

# Ways to run a replica that are tried on each group; besides, the best of every engine and layout.
TYPES_TRIED: Final = 12
# Combinations of each number of types whose split of the requests is refined.
POLISHED: Final = 4
# How far one type is filled from its even share of the load (0) to full (1): in any combination,
# and in the best of them.
ROUGHLY: Final = (0.5, 1.0)
FINELY: Final = tuple(np.linspace(0.0625, 1.0, 16).tolist())

DEPLOYMENTS_KEPT: Final = 3
# Columns of `Choices` that tell replica types apart.
HOW_RUN: Final = tuple(name for name in COLUMNS if name not in {"replicas", "concurrency"})
# A further type of replica is one thing more to look after: it has to save 2 % of the miss, or 1 %
# of the cost.
LESS_MISS: Final = 0.98
CHEAPER: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedDeployments:
    """Mixed deployments worth having, best first.

    ``choices`` has a row for every set of equal replicas, ``groups`` says where each of them may
    lie, and ``members`` names the rows of each deployment. ``evaluations`` counts predicted
    candidates, also where no deployment is worth having.
    """

    choices: Choices
    groups: tuple[HardwareGroup, ...]
    members: tuple[tuple[int, ...], ...]
    evaluations: int


def find_mixed_deployments(
    question: Question, space: SearchSpace, found: SearchResult, predictor: Predictor
) -> MixedDeployments | None:
    """Return mixed deployments better than the best one of equal replicas in ``found``.

    None where none is tried.

    None is tried without targets: whatever is cheapest then carries everything alone.
    """
    if not (question.mean_targets and question.allow_mixed):
        return None
    ranking = found.ranking()
    types = _replica_types(space, found.genomes[ranking[found.violation[ranking] <= 0]])
    if len(types) < 2:
        return None
    equal = found.objectives[ranking[0]]
    model = LoadModel(question, space.scoring, predictor)
    loaded = loaded_types(model, types, may_miss=bool(equal[0] > 0))
    if equal[0] <= 0 and _least_cost(question, loaded) >= CHEAPER * equal[1]:
        return MixedDeployments(
            choices=types.choices.rows(np.zeros(0, dtype=np.int64)),
            groups=(),
            members=(),
            evaluations=model.evaluations,
        )
    # Who names several engines may have them behind one endpoint.
    one_engine = len(question.engines) < 2
    counts = promising_combinations(loaded, question.concurrency, one_engine=one_engine)
    return _best(model, loaded, counts, equal)


def _least_cost(question: Question, loaded: LoadedTypes) -> float:
    """Return a bound of the cost of any mix, USD per million tokens.

    A mix costs the mean of its types by the tokens each makes, so never less than the cheapest of
    them at its capacity, where a replica makes the most tokens.
    """
    tokens_per_s = loaded.capacity * question.traffic.counted_tokens / loaded.e2e_s
    costs = usd_per_million_tokens(loaded.types.usd_per_h, tokens_per_s)
    return float(costs.min(initial=np.inf))


def _replica_types(space: SearchSpace, genomes: Integers) -> ReplicaTypes:
    """Return the best types of each group among genomes, which come best first."""
    groups, group_of_option = _disjoint_groups(space)
    choices = space.decode(genomes)
    binding = choices.max_num_seqs < choices.concurrency
    largest = np.array([o.max_num_seqs[-1] for o in space.options])[choices.option]
    # A limit that does not bind says nothing about how many sequences the type can run.
    choices = replace(choices, max_num_seqs=np.where(binding, choices.max_num_seqs, largest))
    distinct = first_of_each(_columns(choices, *HOW_RUN))
    layouts = _columns(choices, "option", "tp", "pp")
    group = group_of_option[choices.option]
    chosen: set[int] = set()
    for number in range(len(groups)):
        mine = distinct[group[distinct] == number]
        chosen.update(mine[:TYPES_TRIED].tolist(), mine[first_of_each(layouts[mine])].tolist())
    rows = np.array(sorted(chosen), dtype=np.int64)
    return _with_room(space, groups, choices.rows(rows), group[rows])


def _columns(choices: Choices, *names: str) -> Floats | Integers:
    """Return some columns as one array, shape (n, len(names))."""
    return np.stack([getattr(choices, name) for name in names], axis=1)


def _disjoint_groups(space: SearchSpace) -> tuple[tuple[HardwareGroup, ...], Integers]:
    """Return groups of devices that share none, and the number of each option's group.

    Time-sliced devices are in several groups, one for each level of what is left of them: a device
    belongs to the first. The number is -1 where all devices of an option belong to other groups.
    """
    groups = {id(option.group): option.group for option in space.options}
    disjoint: list[HardwareGroup] = []
    number: dict[int, int] = {}
    earlier: list[HardwareGroup] = []
    for key, group in groups.items():
        same = [other for other in earlier if other.device == group.device]
        own = group.without(free for other in same for free in other.free())
        earlier.append(group)
        if own.nodes:
            number[key] = len(disjoint)
            disjoint.append(own)
    of_option = [number.get(id(option.group), -1) for option in space.options]
    return tuple(disjoint), np.array(of_option, dtype=np.int64)


def _with_room(
    space: SearchSpace, groups: tuple[HardwareGroup, ...], choices: Choices, group: Integers
) -> ReplicaTypes:
    """Return the types of which the groups hold at least one replica."""
    layouts = zip(group.tolist(), choices.tp.tolist(), choices.pp.tolist(), strict=True)
    most = np.array([groups[at].capacity(tp, pp) for at, tp, pp in layouts], dtype=np.int64)
    per_h = space.scoring.usd_per_h(choices, choices.tp * choices.pp)
    names = np.array([option.engine.name for option in space.options])[choices.option]
    types = ReplicaTypes(
        groups=groups,
        choices=choices,
        group=group,
        most=most,
        usd_per_h=per_h,
        engine=np.unique(names, return_inverse=True)[1],
    )
    return types.rows(np.flatnonzero(most > 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """Combinations and how good they are.

    ``choices`` has a row for every type in a combination: row ``mix`` of ``counts``, column
    ``number``.
    """

    counts: Integers
    mix: Integers
    number: Integers
    choices: Choices
    miss: Floats
    cost: Floats

    @property
    def ranking(self) -> Integers:
        """Rows of ``counts``, least miss and then cheapest first."""
        return np.lexsort((self.cost, self.miss))

    @property
    def sizes(self) -> Integers:
        """Number of types in each combination."""
        return np.asarray((self.counts > 0).sum(axis=1))

    def best_of_each_size(self, count: int) -> list[int]:
        """Return the ``count`` best rows of each number of types."""
        ranking, sizes = self.ranking, self.sizes
        best = (ranking[sizes[ranking] == size][:count] for size in np.unique(sizes))
        return [row for rows in best for row in rows.tolist()]

    def worthwhile(self, equal: Floats) -> list[int]:
        """Return the rows, best first, in which every further type of replica is worth having.

        The objectives ``equal`` of the best deployment of equal replicas are the first to beat;
        three types have to beat the best two.
        """
        found: list[int] = []
        miss, cost = float(equal[0]), float(equal[1])
        ranking = self.ranking.tolist()
        for size in np.unique(self.sizes).tolist():
            less = self.miss < LESS_MISS * miss
            cheaper = (self.miss <= miss) & (self.cost < CHEAPER * cost)
            better = (self.sizes == size) & (less | cheaper)
            rows = [row for row in ranking if better[row]]
            if rows:
                found += rows
                miss, cost = float(self.miss[rows[0]]), float(self.cost[rows[0]])
        return sorted(found, key=ranking.index)


def _best(
    model: LoadModel, loaded: LoadedTypes, counts: Integers, equal: Floats
) -> MixedDeployments:
    """Return the deployments worth having beside the best of equal replicas (``equal``)."""
    concurrency = model.question.concurrency
    first = _scored(model, loaded, *split_requests(loaded.capacity, counts, concurrency, ROUGHLY))
    # Fine splits of a few finalists cost less than fine splits of all.
    finalists = np.unique(first.counts[first.best_of_each_size(POLISHED)], axis=0)
    last = _scored(model, loaded, *split_requests(loaded.capacity, finalists, concurrency, FINELY))
    by_groups: dict[frozenset[int], int] = {}
    for row in last.worthwhile(equal):
        groups = frozenset(loaded.types.group[last.counts[row] > 0].tolist())
        # One deployment for each set of groups: others differ by a replica or two.
        by_groups.setdefault(groups, row)
    kept = list(by_groups.values())[:DEPLOYMENTS_KEPT]
    members = [np.flatnonzero(last.mix == row) for row in kept]
    ends = np.cumsum([0, *map(len, members)]).tolist()
    hardware = (hardware_of_types(loaded.types, last.counts[row]) for row in kept)
    return MixedDeployments(
        choices=last.choices.rows(np.concatenate([np.zeros(0, dtype=np.int64), *members])),
        groups=tuple(group for groups in hardware for group in groups),
        members=tuple(tuple(range(start, end)) for start, end in pairwise(ends)),
        evaluations=model.evaluations,
    )


def _scored(model: LoadModel, loaded: LoadedTypes, counts: Integers, requests: Integers) -> _Scored:
    """Return miss and cost of each row of ``counts`` under so many ``requests`` a replica."""
    question = model.question
    mix, number = np.nonzero(counts)
    launched = model.launched_for(loaded.types.choices.rows(number), requests[mix, number])
    choices = replace(launched, replicas=counts[mix, number])
    service, missed = model.serve(choices, choices.concurrency[:, None])
    miss = np.zeros(len(counts))
    # A deployment misses by as much as its worst replicas: no user sees worse.
    np.maximum.at(miss, mix, missed)
    load = choices.replicas * choices.concurrency
    share = load / np.bincount(mix, load, minlength=len(counts))[mix]
    tokens_per_s = question.concurrency * share * question.traffic.counted_tokens / service.e2e_s
    all_tokens_per_s = np.bincount(mix, tokens_per_s, minlength=len(counts)).astype(float)
    cost = usd_per_million_tokens(counts @ loaded.types.usd_per_h, all_tokens_per_s)
    return _Scored(counts=counts, mix=mix, number=number, choices=choices, miss=miss, cost=cost)
