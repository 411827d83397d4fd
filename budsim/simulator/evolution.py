"""The search: NSGA-II over genomes of integers, every generation one matrix, nothing evaluated twice; small spaces in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import moocore  # type: ignore[import-untyped]
import numpy as np
from deap import base, tools

from budsim.performance.candidates import Booleans, Floats, Integers

OBJECTIVES = ("target miss", "cost per million output tokens", "devices", "latency over target")
PENALTY = 1e12
"""Added to every objective of an infeasible genome: any feasible one dominates it, and of two infeasible the less violating."""
CHAMPIONS = 2
"""Genomes of every class refined at the end: the runner-up may find what lies behind a hill before the best."""
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
    def linked(self) -> tuple[tuple[int, ...], ...]:
        """Genes worth changing together when a good genome is refined."""
        ...

    def repair(self, genomes: Integers) -> Integers:
        """Return the legal genomes these stand for; legal ones are returned as they are."""
        ...

    def loosened(self, genome: Integers) -> Integers:
        """Return the genome with those genes at their most generous that depend on the linked ones."""
        ...

    def classes(self, genomes: Integers) -> Integers:
        """Return which class each genome belongs to; the search keeps and refines the best of every class."""
        ...

    def starts(self) -> Integers:
        """Return genomes worth looking at first."""
        ...

    def legal(self, limit: int) -> Integers | None:
        """Return all distinct legal genomes, or None when there may be more than ``limit``."""
        ...


Evaluate = Callable[[Integers], Scores]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to search.

    ``patience`` generations whose front's hypervolume grows by less than ``tolerance`` (relative) end it; ``mutation`` is the
    mean number of genes changed in a child.
    """

    population: int = 64
    generations: int = 40
    patience: int = 3
    tolerance: float = 1e-3
    mutation: float = 1.5
    refinements: int = 12
    enumerate_below: int = 8192


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
    settings = settings or Settings()
    everything = space.legal(settings.enumerate_below)
    if everything is not None:
        return enumerate_all(everything, evaluate, progress=progress)
    return search(space, evaluate, rng, settings=settings, progress=progress)


def enumerate_all(genomes: Integers, evaluate: Evaluate, *, progress: Progress = lambda _: None) -> Explored:
    """Evaluate every genome given, in order."""
    parts = []
    for start in range(0, len(genomes), CHUNK):
        parts.append(evaluate(genomes[start : start + CHUNK]))
        progress(min(1.0, (start + CHUNK) / len(genomes)))
    return Explored(
        genomes=genomes,
        objectives=np.concatenate([part.objectives for part in parts]) if parts else np.empty((0, len(OBJECTIVES))),
        violation=np.concatenate([part.violation for part in parts]) if parts else np.empty(0),
    )


def search(
    space: Space, evaluate: Evaluate, rng: np.random.Generator, *, settings: Settings, progress: Progress = lambda _: None
) -> Explored:
    """Search ``space`` with NSGA-II, then refine the best of every class gene by gene until no neighbour is better.

    Selection and sorting are DEAP's (Deb et al. 2002); crossover and mutation draw from ``rng`` only. Same space and generator
    state, same result.
    """
    archive = _Archive(space, evaluate)
    strangers = rng.integers(0, space.sizes, size=(settings.population, len(space.sizes)))
    rows = archive.visit(np.concatenate([space.starts(), strangers]))
    population = tools.selNSGA2(archive.individuals(rows), settings.population)
    volume, stalled = archive.hypervolume(population), 0
    for generation in range(settings.generations):
        children = _children(archive.genomes[[one.row for one in population]], space.sizes, rng, settings)
        rows = np.setdiff1d(archive.visit(children), [one.row for one in population])
        population = tools.selNSGA2([*population, *archive.individuals(rows)], settings.population)
        before, volume = volume, archive.hypervolume(population)
        stalled = stalled + 1 if volume <= before * (1.0 + settings.tolerance) else 0
        progress(0.8 * (generation + 1) / settings.generations)
        if stalled >= settings.patience:
            break
    _refine(space, archive, settings.refinements)
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
    """Every genome evaluated so far, found again by the number its digits spell."""

    slack: ClassVar[float] = 1.05

    def __init__(self, space: Space, evaluate: Evaluate) -> None:
        self._space, self._evaluate = space, evaluate
        self._rows: dict[int, int] = {}
        self.genomes: Integers = np.empty((0, len(space.sizes)), dtype=np.int64)
        self.objectives: Floats = np.empty((0, len(OBJECTIVES)))
        self.violation: Floats = np.empty(0)
        self._reference: Floats | None = None

    def visit(self, genomes: Integers) -> Integers:
        """Repair and evaluate those not seen before; return the distinct rows they all have, ascending."""
        genomes = self._space.repair(genomes)
        keys, first = np.unique(np.ravel_multi_index(tuple(genomes.T), self._space.sizes), return_index=True)
        fresh = np.array(
            sorted(at for key, at in zip(keys.tolist(), first.tolist(), strict=True) if key not in self._rows), dtype=int
        )
        if len(fresh):
            new = genomes[fresh]
            scores = self._evaluate(new)
            names = np.ravel_multi_index(tuple(new.T), self._space.sizes).tolist()
            self._rows.update(zip(names, range(len(self.violation), len(self.violation) + len(new)), strict=True))
            self.genomes = np.concatenate([self.genomes, new])
            self.objectives = np.concatenate([self.objectives, scores.objectives])
            self.violation = np.concatenate([self.violation, scores.violation])
        return np.array(sorted(self._rows[key] for key in keys.tolist()), dtype=np.int64)

    def individuals(self, rows: Integers) -> list[_Individual]:
        """Return rows as individuals whose plain dominance is constraint domination."""
        violation = self.violation[rows, None]
        penalized = np.where(violation > 0, PENALTY * (1.0 + violation), self.objectives[rows])
        return [_Individual(int(row), values) for row, values in zip(rows, penalized.tolist(), strict=True)]

    def hypervolume(self, population: Sequence[_Individual]) -> float:
        """Return the hypervolume of the population's feasible members, each objective scaled by the worst first seen."""
        rows = [one.row for one in population if self.violation[one.row] <= 0]
        if not rows:
            return 0.0
        found = self.objectives[rows]
        if self._reference is None:
            self._reference = np.maximum(found.max(axis=0) * self.slack, 1e-9)
        return float(moocore.hypervolume(np.minimum(found / self._reference, 1.0), ref=np.ones(len(OBJECTIVES))))

    def explored(self) -> Explored:
        """Return everything as values."""
        return Explored(genomes=self.genomes, objectives=self.objectives, violation=self.violation)


def _children(parents: Integers, sizes: Sequence[int], rng: np.random.Generator, settings: Settings) -> Integers:
    """Return as many children as parents: genes from either of two, some of them moved by one or drawn anew."""
    count, genes = parents.shape
    mothers, fathers = parents[rng.integers(0, count, size=count)], parents[rng.integers(0, count, size=count)]
    children = np.where(rng.random((count, genes)) < 0.5, mothers, fathers)
    free = np.array(sizes) > 1
    mutated = (rng.random((count, genes)) < settings.mutation / max(1, free.sum())) & free
    stepped = np.clip(children + rng.choice((-1, 1), size=(count, genes)), 0, np.array(sizes) - 1)
    drawn = rng.integers(0, sizes, size=(count, genes))
    return np.asarray(np.where(mutated, np.where(rng.random((count, genes)) < 0.5, stepped, drawn), children))


def _refine(space: Space, archive: _Archive, rounds: int) -> None:
    """Look at all neighbours of the best genome of every class, until each is better than its neighbours."""
    settled: set[int] = set()
    for _ in range(rounds):
        ranking = _ranking(archive.objectives, archive.violation, archive.genomes)
        champions = [row for row in _best_of_classes(space.classes(archive.genomes[ranking]), ranking) if row not in settled]
        if not champions:
            return
        settled.update(champions)
        archive.visit(np.concatenate([_neighbours(archive.genomes[row], space) for row in champions]))


def _best_of_classes(classes: Integers, ranking: Integers) -> list[int]:
    """Return the first `CHAMPIONS` rows of every class in ``ranking``, whose classes are ``classes``."""
    return [int(row) for each in np.unique(classes) for row in ranking[classes == each][:CHAMPIONS]]


def _neighbours(genome: Integers, space: Space) -> Integers:
    """Return every genome that differs in one gene, or in one set of linked genes with the others as they are or loosened."""
    loose = space.loosened(genome)
    single = [_varied(genome, (gene,), space.sizes) for gene in range(1, len(space.sizes))]
    linked = [_varied(start, genes, space.sizes) for genes in space.linked for start in (genome, loose)]
    return np.concatenate([*single, *linked])


def _varied(genome: Integers, genes: tuple[int, ...], sizes: Sequence[int]) -> Integers:
    """Return the genome with every combination of values of ``genes``."""
    values = np.stack(np.meshgrid(*(np.arange(sizes[gene]) for gene in genes), indexing="ij"), axis=-1).reshape(-1, len(genes))
    varied = np.repeat(genome[None, :], len(values), axis=0)
    varied[:, genes] = values
    return varied


def _ranking(objectives: Floats, violation: Floats, genomes: Integers) -> Integers:
    return np.asarray(np.lexsort((*genomes.T[::-1], *objectives.T[::-1], np.maximum(violation, 0.0))))
