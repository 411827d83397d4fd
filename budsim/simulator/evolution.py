"""The search: NSGA-II over genomes of integers, every generation one matrix, nothing evaluated twice; small spaces in full."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import moocore  # type: ignore[import-untyped]
import numpy as np
from deap import base, tools

from budsim.performance.candidates import Booleans, Floats, Integers

OBJECTIVES = ("target miss", "cost per million output tokens", "devices", "latency over target")
PENALTY = 1e12
"""Added to every objective of an infeasible genome: any feasible one dominates it, and of two infeasible the less violating."""
FRONT_PER_NICHE = 3
"""The front shows more of what is good than niches do, which show what it might yet be made of."""
CHUNK = 8192
"""Rows predicted at a time when a space is enumerated: bounds memory, not speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Objectives of genomes, shape (n, 4), to be made small, in the order of `OBJECTIVES`; ``violation`` > 0 is infeasible."""

    objectives: Floats
    violation: Floats


class Space(Protocol):
    """What may be chosen: genomes are rows of indices, one column per gene."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Largest number of choices of each gene."""
        ...

    @property
    def count(self) -> int:
        """Number of distinct legal genomes."""
        ...

    @property
    def knobs(self) -> tuple[int, ...]:
        """Genes of which every value is tried around a good genome; of the others, those near it."""
        ...

    def repair(self, genomes: Integers) -> Integers:
        """Return the legal genomes these stand for; legal ones are returned as they are."""
        ...

    def niches(self, genomes: Integers) -> Integers:
        """Return which niche of the front each genome belongs to; the search looks around the best of each."""
        ...

    def starts(self, limit: int) -> Integers:
        """Return genomes worth looking at first, about ``limit`` or fewer."""
        ...

    def legal(self, limit: int) -> Integers | None:
        """Return all distinct legal genomes, or None when there may be more than ``limit``."""
        ...


Evaluate = Callable[[Integers], Scores]
Searching = Generator[Integers, Scores, "Explored"]
"""A search under way: it yields the genomes it wants scored, is sent their scores, and returns what it explored."""
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to search.

    At most ``share`` of the space's genomes and never more than ``most`` are evaluated, of small spaces up to ``least`` and
    ``largest_share``. The search ends sooner when the front's hypervolume grew by less than ``tolerance`` (relative) in each of
    ``patience`` generations, or in the last one while all that lies around good genomes was looked at. ``mutation`` is the mean
    number of genes changed in a child. Spaces of up to ``enumerate_below`` genomes are looked at in full.
    """

    share: float = 0.05
    most: int = 8000
    least: int = 1024
    largest_share: float = 0.095
    patience: int = 40
    tolerance: float = 1e-3
    mutation: float = 1.5
    enumerate_below: int = 8192

    def budget(self, genomes: int) -> int:
        """Return how many of a space's ``genomes`` may be evaluated."""
        few = min(self.least, int(self.largest_share * genomes))
        return max(few, min(int(self.share * genomes), self.most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """Every genome that was evaluated, once each, in order of evaluation."""

    genomes: Integers
    objectives: Floats
    violation: Floats

    @property
    def evaluations(self) -> int:
        """Number of distinct genomes evaluated."""
        return len(self.violation)

    @property
    def feasible(self) -> Booleans:
        """Which rows are feasible."""
        return np.asarray(self.violation <= 0.0)

    def front(self) -> Integers:
        """Return the rows no feasible row dominates, of equals the first, ascending."""
        rows = np.flatnonzero(self.feasible)
        if not len(rows):
            return rows
        kept: Booleans = moocore.is_nondominated(self.objectives[rows])
        return np.asarray(rows[kept])

    def knee(self) -> int | None:
        """Return the row of the front that gives up least overall, of those with the least target miss; None without a front.

        Each objective is scaled from the front's best (0) to its worst (1): the least sum lies farthest below the plane through
        the extremes (Das, On characterizing the "knee" of the Pareto curve, 1999).
        """
        rows = self.front()
        if not len(rows):
            return None
        rows = rows[self.objectives[rows, 0] == self.objectives[rows, 0].min()]
        found = self.objectives[rows]
        span = np.maximum(found.max(axis=0) - found.min(axis=0), 1e-12)
        return int(rows[np.argmin(((found - found.min(axis=0)) / span).sum(axis=1))])

    def ranking(self) -> Integers:
        """Return all rows best first: feasible, then least target miss, cheapest, fewest devices, fastest, and least genes."""
        return _ranking(self.objectives, self.violation, self.genomes)


def explore(
    space: Space,
    evaluate: Evaluate,
    rng: np.random.Generator,
    *,
    settings: Settings | None = None,
    progress: Progress = lambda _: None,
) -> Explored:
    """Return what was found in ``space``: all of it when it is small, else what the genetic search looked at."""
    return _alone(exploring(space, rng, settings=settings, progress=progress), evaluate)


def exploring(
    space: Space,
    rng: np.random.Generator,
    *,
    settings: Settings | None = None,
    progress: Progress = lambda _: None,
) -> Searching:
    """Do what `explore` does, for who scores the genomes of several searches together; see `side_by_side`."""
    settings = settings or Settings()
    everything = space.legal(settings.enumerate_below)
    if everything is not None:
        return _enumerating(everything, progress)
    return _searching(space, rng, settings, progress)


def enumerate_all(
    genomes: Integers, evaluate: Evaluate, *, progress: Progress = lambda _: None
) -> Explored:
    """Evaluate every genome given, in order."""
    return _alone(_enumerating(genomes, progress), evaluate)


def search(
    space: Space,
    evaluate: Evaluate,
    rng: np.random.Generator,
    *,
    settings: Settings,
    progress: Progress = lambda _: None,
) -> Explored:
    """Search ``space`` with NSGA-II whose generations also look around the best genomes found.

    It begins with the genomes the space proposes, on which it spends three quarters of the evaluations at most. A generation
    holds children of the population and neighbours of the archive's front and of the best of every niche. Selection and sorting
    are DEAP's (Deb et al. 2002); crossover and mutation draw from ``rng`` only. Same space and generator state, same result.
    """
    return _alone(_searching(space, rng, settings, progress), evaluate)


def resuming(
    space: Space,
    found: Explored,
    seen: Integers,
    rng: np.random.Generator,
    *,
    budget: int,
    settings: Settings,
) -> Searching:
    """Go on as `search` does from what others ``found``, and look at ``budget`` more genomes; none that was ``seen``."""
    archive = _Archive(space, budget)
    archive.recall(found, seen)
    return _improving(archive, rng, settings, lambda _: None)


def side_by_side(
    searches: Sequence[Searching], evaluate: Callable[[dict[int, Integers]], dict[int, Scores]]
) -> list[Explored]:
    """Return what each search explored, as if it were alone; what all ask in a round is scored together, by their numbers.

    A prediction costs little more for many rows than for few.
    """
    found: dict[int, Explored] = {}

    def on(number: int, scores: Scores | None) -> Integers | None:
        try:
            return searches[number].send(scores)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            found[number] = end.value
            return None

    asked = {
        number: wanted
        for number in range(len(searches))
        if (wanted := on(number, None)) is not None
    }
    while asked:
        scores = evaluate(asked)
        asked = {
            number: wanted for number in asked if (wanted := on(number, scores[number])) is not None
        }
    return [found[number] for number in range(len(searches))]


def _alone(searching: Searching, evaluate: Evaluate) -> Explored:
    return side_by_side(
        [searching], lambda asked: {number: evaluate(genomes) for number, genomes in asked.items()}
    )[0]


def _enumerating(genomes: Integers, progress: Progress) -> Searching:
    parts = []
    for start in range(0, len(genomes), CHUNK):
        parts.append((yield genomes[start : start + CHUNK]))
        progress(min(1.0, (start + CHUNK) / len(genomes)))
    return Explored(
        genomes=genomes,
        objectives=np.concatenate([part.objectives for part in parts])
        if parts
        else np.empty((0, len(OBJECTIVES))),
        violation=np.concatenate([part.violation for part in parts]) if parts else np.empty(0),
    )


def _searching(
    space: Space, rng: np.random.Generator, settings: Settings, progress: Progress
) -> Searching:
    archive = _Archive(space, settings.budget(space.count))
    most = 3 * archive.budget // 4
    yield from archive.visit(_sample(space.starts(most), most, rng))
    some = max(0, archive.population - len(archive.violation))
    yield from archive.visit(rng.integers(0, space.sizes, size=(some, len(space.sizes))))
    return (yield from _improving(archive, rng, settings, progress))


def _improving(
    archive: _Archive, rng: np.random.Generator, settings: Settings, progress: Progress
) -> Searching:
    population: list[_Individual] = []
    volume, stalled = -PENALTY, 0
    while archive.left > 0:
        population = _survivors(archive, population, archive.population)
        before, volume = volume, archive.hypervolume()
        stalled = stalled + 1 if volume <= before + settings.tolerance * abs(before) else 0
        around = archive.neighbours(max(1, archive.budget // 200))
        if stalled >= (settings.patience if len(around) else 1):
            break
        parents = archive.genomes[[one.row for one in population]]
        children = _children(parents, archive.space.sizes, rng, settings)[: archive.population // 4]
        yield from archive.visit(np.concatenate([around, children]))
        progress(1.0 - archive.left / archive.budget)
    progress(1.0)
    return archive.explored()


class _Fitness(base.Fitness):  # type: ignore[misc]  # DEAP ships no types
    """Four objectives, all to be made small."""

    weights = (-1.0,) * len(OBJECTIVES)


class _Individual:
    """A row of the archive, as DEAP's selection wants to see it."""

    __slots__ = ("fitness", "row")

    def __init__(self, row: int, objectives: Sequence[float]) -> None:
        self.row = row
        self.fitness = _Fitness(objectives)


class _Archive:
    """Every genome evaluated so far, found again by the number its digits spell, and whether its surroundings were looked at.

    ``newest`` is the first row of the last visit, ``left`` how many of the ``budget`` of evaluations are left.
    """

    slack: ClassVar[float] = 1.05

    def __init__(self, space: Space, budget: int) -> None:
        self.space, self.budget = space, budget
        self._seen: set[int] = set()
        self._reference: Floats | None = None
        self._keys: Integers = np.empty(0, dtype=np.int64)
        self._niches: Integers = np.empty(0, dtype=np.int64)
        self._looked: Booleans = np.empty(0, dtype=bool)
        self.genomes: Integers = np.empty((0, len(space.sizes)), dtype=np.int64)
        self.objectives: Floats = np.empty((0, len(OBJECTIVES)))
        self.violation: Floats = np.empty(0)
        self.newest = 0
        self.left = budget

    @property
    def population(self) -> int:
        """How many genomes the next generation comes from."""
        return min(max(self.budget // 60, 8), 32)

    def recall(self, found: Explored, seen: Integers) -> None:
        """Take over what was evaluated elsewhere, and never look at what was seen there."""
        self._add(found.genomes, Scores(objectives=found.objectives, violation=found.violation))
        self._seen.update(self._numbers(seen).tolist())

    def visit(self, genomes: Integers) -> Generator[Integers, Scores, None]:
        """Repair and have scored those not seen before, in their order, while there are evaluations left."""
        self.newest = len(self.violation)
        genomes = self.space.repair(genomes)
        keys = self._numbers(genomes)
        firsts = np.sort(np.unique(keys, return_index=True)[1])
        fresh = [at for at in firsts.tolist() if int(keys[at]) not in self._seen][: self.left]
        if not fresh:
            return
        self.left -= len(fresh)
        self._add(genomes[fresh], (yield genomes[fresh]))

    def _add(self, new: Integers, scores: Scores) -> None:
        keys = self._numbers(new)
        self._seen.update(keys.tolist())
        self._keys = np.concatenate([self._keys, keys])
        self._niches = np.concatenate([self._niches, self.space.niches(new)])
        self._looked = np.concatenate([self._looked, np.zeros(len(new), dtype=bool)])
        self.genomes = np.concatenate([self.genomes, new])
        self.objectives = np.concatenate([self.objectives, scores.objectives])
        self.violation = np.concatenate([self.violation, scores.violation])

    def _numbers(self, genomes: Integers) -> Integers:
        return np.asarray(np.ravel_multi_index(tuple(genomes.T), self.space.sizes))

    def penalized(self, rows: Integers) -> Floats:
        """Return objectives of rows whose plain dominance is constraint domination."""
        violation = self.violation[rows, None]
        return np.where(violation > 0, PENALTY * (1.0 + violation), self.objectives[rows])

    def hypervolume(self) -> float:
        """Return the hypervolume of the front, each objective scaled by the worst in the first front seen.

        Where nothing is feasible yet: minus the least violation.
        """
        found = self.objectives[self._front()]
        if not len(found):
            return -float(self.violation.min())
        if self._reference is None:
            self._reference = np.maximum(found.max(axis=0) * self.slack, 1e-9)
        return float(
            moocore.hypervolume(
                np.minimum(found / self._reference, 1.0), ref=np.ones(len(OBJECTIVES))
            )
        )

    def neighbours(self, count: int) -> Integers:
        """Return what lies around ``count`` of the best of niches, and `FRONT_PER_NICHE` times as many of the front.

        Of those that were not looked around yet; nothing when all were.
        """
        ranking = _ranking(self.objectives, self.violation, self._keys[:, None])
        place = np.empty(len(ranking), dtype=np.int64)
        place[ranking] = np.arange(len(ranking))
        front = self._front()
        front = front[np.argsort(place[front])] if len(front) else ranking[:count]
        niches = ranking[_firsts(self._niches[ranking])]
        wanted = ((front, FRONT_PER_NICHE * count), (niches, count))
        chosen = np.union1d(*(rows[~self._looked[rows]][:most] for rows, most in wanted))
        self._looked[chosen] = True
        around = [_around(genome, self.space) for genome in self.genomes[chosen]]
        return np.concatenate([np.empty((0, self.genomes.shape[1]), dtype=np.int64), *around])

    def explored(self) -> Explored:
        """Return everything as values."""
        return Explored(genomes=self.genomes, objectives=self.objectives, violation=self.violation)

    def _front(self) -> Integers:
        return self.explored().front()


def _sample(genomes: Integers, count: int, rng: np.random.Generator) -> Integers:
    """Return all genomes, or ``count`` of them where there are more."""
    return (
        genomes
        if len(genomes) <= count
        else genomes[np.sort(rng.permutation(len(genomes))[:count])]
    )


def _survivors(
    archive: _Archive, population: Sequence[_Individual], size: int
) -> list[_Individual]:
    """Return the ``size`` best of the population and the newest rows; DEAP sorts twice as many, of the first fronts, at most."""
    rows = np.array(
        [*(one.row for one in population), *range(archive.newest, len(archive.violation))],
        dtype=np.int64,
    )
    values = archive.penalized(rows)
    if len(rows) > 2 * size:
        first = np.argsort(moocore.pareto_rank(values), kind="stable")[: 2 * size]
        rows, values = rows[first], values[first]
    everyone = [
        _Individual(int(row), each) for row, each in zip(rows, values.tolist(), strict=True)
    ]
    survivors: list[_Individual] = tools.selNSGA2(everyone, min(size, len(everyone)))
    return survivors


def _children(
    parents: Integers, sizes: Sequence[int], rng: np.random.Generator, settings: Settings
) -> Integers:
    """Return as many children as parents: genes from either of two, some of them moved by one or drawn anew."""
    count, genes = parents.shape
    mothers, fathers = (
        parents[rng.integers(0, count, size=count)],
        parents[rng.integers(0, count, size=count)],
    )
    children = np.where(rng.random((count, genes)) < 0.5, mothers, fathers)
    free = np.array(sizes) > 1
    mutated = (rng.random((count, genes)) < settings.mutation / max(1, free.sum())) & free
    stepped = np.clip(children + rng.choice((-1, 1), size=(count, genes)), 0, np.array(sizes) - 1)
    drawn = rng.integers(0, sizes, size=(count, genes))
    return np.asarray(
        np.where(mutated, np.where(rng.random((count, genes)) < 0.5, stepped, drawn), children)
    )


def _firsts(values: Integers) -> Integers:
    """Return the index of the first of each distinct value, ascending."""
    return np.sort(np.unique(values, return_index=True)[1])


def _around(genome: Integers, space: Space) -> Integers:
    """Return genomes that differ in one gene: knobs in any value, other genes by a power of two."""
    found = []
    for gene, size in enumerate(space.sizes):
        others = np.arange(size) if gene in space.knobs else _spread(int(genome[gene]), size)
        varied = np.repeat(genome[None, :], len(others), axis=0)
        varied[:, gene] = others
        found.append(varied)
    return np.concatenate(found)


def _spread(value: int, size: int) -> Integers:
    """Return the values below ``size`` that are a power of two away."""
    away = 2 ** np.arange(max(size - 1, 1).bit_length())
    others = np.concatenate([value - away, value + away])
    return others[(others >= 0) & (others < size)]


def _ranking(objectives: Floats, violation: Floats, genomes: Integers) -> Integers:
    order: Integers = np.lexsort(
        (*genomes.T[::-1], *objectives.T[::-1], np.maximum(violation, 0.0))
    )
    return order
