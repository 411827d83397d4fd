"""The genetic search: NSGA-II over genomes of integers.

Small spaces are enumerated, and nothing is evaluated twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import moocore  # type: ignore[import-untyped]
import numpy as np
from deap import base, tools

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.simulator.search_result import (
    OBJECTIVES,
    Scores,
    SearchResult,
    best_first,
    first_of_each,
)

PENALTY = 1e12
"""Objective of an infeasible genome, times 1 + its violation: feasible genomes dominate it, and so
do those that violate less."""
FRONT_PER_NICHE = 3
"""Members of the front expanded for each niche champion: most improvements lie near the front, a
few come from elsewhere."""
CHUNK = 8192
"""Rows predicted at a time when a space is enumerated: bounds memory, not speed."""


class Space(Protocol):
    """What may be chosen: genomes are rows of non-negative integers, one column a gene."""

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
        """Genes of which every value is tried around a good genome.

        Of other genes only values near its own.
        """
        ...

    def repair(self, genomes: Integers) -> Integers:
        """Return legal genomes in place of these; legal ones are returned as they are."""
        ...

    def niches(self, genomes: Integers) -> Integers:
        """Return a number for the niche each genome belongs to.

        The search expands the best of each.
        """
        ...

    def first_genomes(self, limit: int) -> Integers:
        """Return genomes to begin with, about ``limit`` or fewer."""
        ...

    def all_genomes(self, limit: int) -> Integers | None:
        """Return all distinct legal genomes, or None when there may be more than ``limit``."""
        ...


SearchSteps = Generator[Integers, Scores, "SearchResult"]
"""A search in steps: it yields genomes to be scored, is sent their scores, and returns its result.
"""
Progress = Callable[[float], None]
"""Told the share of the work that is done, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How long to search; chosen by us on `tests/benchmarks/search.py`.

    Attributes
    ----------
    share, most : float, int
        Evaluate at most this share (0..1) of a space's genomes, and at most so many.
    least, largest_share : int, float
        In a small space evaluate up to ``least`` genomes, but at most ``largest_share`` of them.
    patience, tolerance : int, float
        Stop when the front's hypervolume grew by less than ``tolerance`` (relative) in each of so
        many generations; already after one such generation when nothing is left to expand.
    mutation : float
        Mean number of genes changed in a child.
    enumerate_below : int
        Spaces of up to so many genomes are enumerated.
    """

    share: float = 0.05
    most: int = 8000
    least: int = 1024
    largest_share: float = 0.06
    patience: int = 40
    tolerance: float = 1e-3
    mutation: float = 1.5
    enumerate_below: int = 8192

    def budget(self, genomes: int) -> int:
        """Return how many of a space's ``genomes`` may be evaluated."""
        few = min(self.least, int(self.largest_share * genomes))
        return max(few, min(int(self.share * genomes), self.most))


def search_steps(
    space: Space,
    rng: np.random.Generator,
    *,
    settings: SearchSettings | None = None,
    progress: Progress = lambda _: None,
) -> SearchSteps:
    """Search ``space`` with NSGA-II whose generations also expand the best genomes found.

    Small spaces are enumerated.

    It begins with `Space.first_genomes`, which get at most three quarters of the evaluations. A
    generation holds children of the population and neighbours of the front and of the best of every
    niche. Selection and sorting are DEAP's (Deb et al. 2002); crossover and mutation draw from
    ``rng`` only. Same space and generator state, same result. Run it with `run_together`.
    """
    settings = settings or SearchSettings()
    # Small spaces are cheaper to enumerate than to search, and then the best is certain.
    everything = space.all_genomes(settings.enumerate_below)
    if everything is not None:
        return _enumerating(everything, progress)
    return _searching(space, rng, settings, progress)


def resume_search(
    space: Space,
    found: SearchResult,
    seen: Integers,
    rng: np.random.Generator,
    *,
    budget: int,
    settings: SearchSettings,
) -> SearchSteps:
    """Continue a search from what was ``found`` before.

    Evaluate at most ``budget`` further genomes, none of those ``seen``.
    """
    archive = _Archive(space, budget)
    archive.recall(found, seen)
    return _improving(archive, rng, settings, lambda _: None)


def run_together(
    searches: Sequence[SearchSteps], evaluate: Callable[[dict[int, Integers]], dict[int, Scores]]
) -> list[SearchResult]:
    """Return the result of each search, as if it had run alone.

    ``evaluate`` gets the genomes that all searches ask for in a round, by the number of the search:
    a prediction costs little more for many rows than for few.
    """
    found: dict[int, SearchResult] = {}

    def advance(number: int, scores: Scores | None) -> Integers | None:
        """Send the scores to one search and return the genomes it asks for, or None at its end."""
        try:
            # None starts a generator.
            return searches[number].send(scores)  # type: ignore[arg-type]
        except StopIteration as end:
            found[number] = end.value
            return None

    asked = {
        number: wanted
        for number in range(len(searches))
        if (wanted := advance(number, None)) is not None
    }
    while asked:
        scores = evaluate(asked)
        asked = {
            number: wanted
            for number in asked
            if (wanted := advance(number, scores[number])) is not None
        }
    return [found[number] for number in range(len(searches))]


def _enumerating(genomes: Integers, progress: Progress) -> SearchSteps:
    parts = []
    for start in range(0, len(genomes), CHUNK):
        parts.append((yield genomes[start : start + CHUNK]))
        progress(min(1.0, (start + CHUNK) / len(genomes)))
    return SearchResult(
        genomes=genomes,
        objectives=np.concatenate([part.objectives for part in parts])
        if parts
        else np.empty((0, len(OBJECTIVES))),
        violation=np.concatenate([part.violation for part in parts]) if parts else np.empty(0),
    )


def _searching(
    space: Space, rng: np.random.Generator, settings: SearchSettings, progress: Progress
) -> SearchSteps:
    archive = _Archive(space, settings.budget(space.count))
    # A quarter of the budget is kept, so that the search can improve on its first genomes.
    most = 3 * archive.budget // 4
    yield from archive.visit(_sample(space.first_genomes(most), most, rng))
    # Too few first genomes would leave NSGA-II nothing to cross.
    some = max(0, archive.population - len(archive.violation))
    yield from archive.visit(rng.integers(0, space.sizes, size=(some, len(space.sizes))))
    return (yield from _improving(archive, rng, settings, progress))


def _improving(
    archive: _Archive, rng: np.random.Generator, settings: SearchSettings, progress: Progress
) -> SearchSteps:
    population: list[_Individual] = []
    volume, stalled = -PENALTY, 0
    while archive.left > 0:
        population = _survivors(archive, population, archive.population)
        # Hypervolume measures the front as a whole: it grows when any trade-off improves.
        before, volume = volume, archive.hypervolume()
        stalled = stalled + 1 if volume <= before + settings.tolerance * abs(before) else 0
        # Half a per cent of the budget for each generation leaves room for about a hundred of them.
        around = archive.neighbours(max(1, archive.budget // 200))
        # Without anything left to expand only chance would help, and one more try is enough.
        if stalled >= (settings.patience if len(around) else 1):
            break
        parents = archive.genomes[[one.row for one in population]]
        children = _children(parents, archive.space.sizes, rng, settings)[: archive.population // 4]
        yield from archive.visit(np.concatenate([around, children]))
        progress(1.0 - archive.left / archive.budget)
    progress(1.0)
    return archive.result()


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
    """Every genome evaluated so far, and which of them were expanded.

    A genome is recognized by the number its genes spell. ``newest`` is the first row of the last
    visit, ``left`` how many of the ``budget`` of evaluations are left.
    """

    slack: ClassVar[float] = 1.05
    """The reference of the hypervolume lies 5 % beyond the worst of the first front, so that its
    extremes count too."""

    def __init__(self, space: Space, budget: int) -> None:
        self.space, self.budget = space, budget
        self._seen: set[int] = set()
        self._reference: Floats | None = None
        self._keys: Integers = np.empty(0, dtype=np.int64)
        self._niches: Integers = np.empty(0, dtype=np.int64)
        self._expanded: Booleans = np.empty(0, dtype=bool)
        self.genomes: Integers = np.empty((0, len(space.sizes)), dtype=np.int64)
        self.objectives: Floats = np.empty((0, len(OBJECTIVES)))
        self.violation: Floats = np.empty(0)
        self.newest = 0
        self.left = budget

    @property
    def population(self) -> int:
        """Size of the population: a sixtieth of the budget, 8 to 32."""
        return min(max(self.budget // 60, 8), 32)

    def recall(self, found: SearchResult, seen: Integers) -> None:
        """Take over what was evaluated before, and never evaluate what was seen then."""
        self._add(found.genomes, Scores(objectives=found.objectives, violation=found.violation))
        self._seen.update(self._numbers(seen).tolist())

    def visit(self, genomes: Integers) -> Generator[Integers, Scores, None]:
        """Repair genomes and have the new ones scored, in order, while evaluations are left."""
        self.newest = len(self.violation)
        genomes = self.space.repair(genomes)
        keys = self._numbers(genomes)
        # Children often repeat each other: a genome is scored once, in the order it came.
        firsts = np.sort(np.unique(keys, return_index=True)[1])
        fresh = [at for at in firsts.tolist() if int(keys[at]) not in self._seen][: self.left]
        if not fresh:
            return
        self.left -= len(fresh)
        self._add(genomes[fresh], (yield genomes[fresh]))

    def _add(self, new: Integers, scores: Scores) -> None:
        # A genome's genes are the digits of one number, so that a set of integers recognizes it.
        keys = self._numbers(new)
        self._seen.update(keys.tolist())
        self._keys = np.concatenate([self._keys, keys])
        self._niches = np.concatenate([self._niches, self.space.niches(new)])
        self._expanded = np.concatenate([self._expanded, np.zeros(len(new), dtype=bool)])
        self.genomes = np.concatenate([self.genomes, new])
        self.objectives = np.concatenate([self.objectives, scores.objectives])
        self.violation = np.concatenate([self.violation, scores.violation])

    def _numbers(self, genomes: Integers) -> Integers:
        return np.asarray(np.ravel_multi_index(tuple(genomes.T), self.space.sizes))

    def penalized(self, rows: Integers) -> Floats:
        """Return objectives with which DEAP, which knows no constraints, heeds ours."""
        # Deb's constraint domination, written as objectives no feasible genome can reach.
        violation = self.violation[rows, None]
        return np.where(violation > 0, PENALTY * (1.0 + violation), self.objectives[rows])

    def hypervolume(self) -> float:
        """Return the hypervolume of the front, scaled by the worst of the first front seen.

        Minus the least violation while nothing is feasible.
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
        """Return the neighbours of ``count`` niche champions and of more members of the front.

        `FRONT_PER_NICHE` times as many; only of genomes not expanded yet, nothing when all were.
        """
        ranking = best_first(self.objectives, self.violation, self._keys[:, None])
        place = np.empty(len(ranking), dtype=np.int64)
        place[ranking] = np.arange(len(ranking))
        front = self._front()
        # Without a feasible genome the least violating ones are the way to one.
        front = front[np.argsort(place[front])] if len(front) else ranking[:count]
        niches = ranking[first_of_each(self._niches[ranking])]
        wanted = ((front, FRONT_PER_NICHE * count), (niches, count))
        chosen = np.union1d(*(rows[~self._expanded[rows]][:most] for rows, most in wanted))
        self._expanded[chosen] = True
        around = [_neighbours_of(genome, self.space) for genome in self.genomes[chosen]]
        return np.concatenate([np.empty((0, self.genomes.shape[1]), dtype=np.int64), *around])

    def result(self) -> SearchResult:
        """Return everything evaluated."""
        return SearchResult(
            genomes=self.genomes, objectives=self.objectives, violation=self.violation
        )

    def _front(self) -> Integers:
        return self.result().front()


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
    """Return the ``size`` best of the population and the newest rows.

    DEAP's sorting is slow, so it gets at most twice as many rows, those of the first fronts.
    """
    rows = np.array(
        [*(one.row for one in population), *range(archive.newest, len(archive.violation))],
        dtype=np.int64,
    )
    values = archive.penalized(rows)
    # DEAP compares all pairs in Python; moocore ranks thousands of rows in a millisecond.
    if len(rows) > 2 * size:
        first = np.argsort(moocore.pareto_rank(values), kind="stable")[: 2 * size]
        rows, values = rows[first], values[first]
    everyone = [
        _Individual(int(row), each) for row, each in zip(rows, values.tolist(), strict=True)
    ]
    survivors: list[_Individual] = tools.selNSGA2(everyone, min(size, len(everyone)))
    return survivors


def _children(
    parents: Integers, sizes: Sequence[int], rng: np.random.Generator, settings: SearchSettings
) -> Integers:
    """Return as many children as parents.

    A child has genes of two parents; a few genes are moved by one or drawn anew.
    """
    count, genes = parents.shape
    mothers, fathers = (
        parents[rng.integers(0, count, size=count)],
        parents[rng.integers(0, count, size=count)],
    )
    children = np.where(rng.random((count, genes)) < 0.5, mothers, fathers)
    # Genes with one value cannot change, and must not use up mutations.
    free = np.array(sizes) > 1
    mutated = (rng.random((count, genes)) < settings.mutation / max(1, free.sum())) & free
    stepped = np.clip(children + rng.choice((-1, 1), size=(count, genes)), 0, np.array(sizes) - 1)
    drawn = rng.integers(0, sizes, size=(count, genes))
    return np.asarray(
        np.where(mutated, np.where(rng.random((count, genes)) < 0.5, stepped, drawn), children)
    )


def _neighbours_of(genome: Integers, space: Space) -> Integers:
    """Return the genomes that differ from one in a single gene.

    A knob takes any value, another gene moves by a power of two.
    """
    found = []
    for gene, size in enumerate(space.sizes):
        # A knob has few values and no order that matters; a layout's gene is best moved a little.
        others = np.arange(size) if gene in space.knobs else _spread(int(genome[gene]), size)
        varied = np.repeat(genome[None, :], len(others), axis=0)
        varied[:, gene] = others
        found.append(varied)
    return np.concatenate(found)


def _spread(value: int, size: int) -> Integers:
    """Return the values below ``size`` that are a power of two away.

    From 5 with a size of 8: 4, 3, 1, 6 and 7.
    """
    away = 2 ** np.arange(max(size - 1, 1).bit_length())
    others = np.concatenate([value - away, value + away])
    return others[(others >= 0) & (others < size)]
