"""Partitions of a search, one engine on one group of devices each, stored and merged.

The search of a partition depends on nothing found elsewhere: whoever searches it, at whatever time,
finds the same. Searched together, partitions are only faster, for their generations are predicted
in one table. Merged, they show where a longer look is worth most.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import numpy as np

from budsim.performance.candidates import Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.evolution import (
    CHUNK,
    Progress,
    SearchSettings,
    SearchSteps,
    resume_search,
    run_together,
    search_steps,
)
from budsim.simulator.planning.choices import ServingOption
from budsim.simulator.planning.genome import KV, OPTION, PP, REPLICAS, TP, WEIGHTS, SearchSpace
from budsim.simulator.planning.question import Question, partition_name
from budsim.simulator.search_result import Scores, SearchResult, first_of_each

# Genomes of `Question.analytic_only` up to which all are tried; the genetic search takes over
# above.
GRID_LIMIT: Final = 200_000
# Share of the evaluations of a whole space that its partitions get; the rest goes where, merged,
# they have their best.
PARTITIONS_SHARE: Final = 0.5
# Partitions of so few genomes are enumerated, the smallest first, for up to half of what partitions
# may cost.
SMALL: Final = 256
# Ways to run a replica kept of each partition, beside its front and the best of each layout; mixed
# deployments try 24.
KEPT: Final = 64

LONGEST_LABEL: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionResult:
    """What is worth keeping of a partition's search, and all genomes ``seen`` in it.

    Its only option has number 0.
    """

    found: SearchResult
    seen: Integers

    @property
    def evaluations(self) -> int:
        """How many candidates were predicted."""
        return len(self.seen)

    def packed(self) -> bytes:
        """Return it as bytes from which `unpacked` reads the same numbers."""
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            genomes=self.found.genomes,
            objectives=self.found.objectives,
            violation=self.found.violation,
            seen=self.seen.astype(np.int16),
        )
        return packed.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> PartitionResult:
        """Return what `packed` made bytes of."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            found = SearchResult(
                genomes=stored["genomes"],
                objectives=stored["objectives"],
                violation=stored["violation"],
            )
            return cls(found=found, seen=stored["seen"].astype(np.int64))


KnownResults = Mapping[str, PartitionResult]


def partition_names(cluster_id: str, space: SearchSpace) -> list[str]:
    """Return a name for the search of each option.

    Cluster, device, engine, and a digest of all else that decides its result.

    It changes when the inventory does, so a result on devices that are gone is never taken for one
    on those that are there.
    """
    return [_name(cluster_id, space, option) for option in space.options]


def search_partitions(
    cluster_id: str,
    space: SearchSpace,
    predictor: Predictor,
    wanted: Sequence[str],
    *,
    settings: SearchSettings | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, PartitionResult]:
    """Return the results of the partitions of ``space`` whose names are ``wanted``.

    ``settings`` are of the whole space.
    """
    names = partition_names(cluster_id, space)
    numbers = {name: number for number, name in enumerate(names) if name in wanted}
    usual = settings or SearchSettings()
    budgets = _budgets(space, usual)
    told = _shared_progress(len(numbers), progress)
    searches = [
        _search(space, name, number, budgets[number], usual, tell)
        for (name, number), tell in zip(numbers.items(), told, strict=True)
    ]
    found = run_together(searches, _scored_together(space, predictor, list(numbers.values())))
    return {
        name: PartitionResult(found=_worth_keeping(each), seen=each.genomes)
        for name, each in zip(numbers, found, strict=True)
    }


def merge_results(
    space: SearchSpace,
    predictor: Predictor,
    results: Sequence[PartitionResult],
    *,
    settings: SearchSettings | None = None,
) -> tuple[SearchResult, int]:
    """Return what was found in a whole space, and how many candidates were predicted.

    ``results`` are those of its partitions, in the order of its options. Where they were not
    enumerated, the search goes on around the best of all of them.
    """
    usual, question = settings or SearchSettings(), space.scoring.question
    found = SearchResult(
        genomes=np.concatenate(
            [of_option(each.found.genomes, number) for number, each in enumerate(results)]
        ),
        objectives=np.concatenate([each.found.objectives for each in results]),
        violation=np.concatenate([each.found.violation for each in results]),
    )
    seen = np.concatenate([of_option(each.seen, number) for number, each in enumerate(results)])
    if _is_small(question, space.count, usual):
        return found, len(seen)
    # What partitions left of the budget is spent around the best of all of them.
    budget, rng = usual.budget(space.count) - len(seen), np.random.default_rng(question.seed)
    search = resume_search(space, found, seen, rng, budget=budget, settings=usual)
    after = run_together([search], lambda asked: {0: space.score(asked[0], predictor)})[0]
    return after, len(seen) + after.evaluations - found.evaluations


def _name(cluster_id: str, space: SearchSpace, option: ServingOption) -> str:
    group, engine = option.group, option.engine
    left = [group.device.name, group.memory_free_bytes, group.compute_share, group.sizes]
    layouts = [option.tp, option.pp, option.ep, option.dp, option.weights, option.kv]
    decides = [
        [space.scoring.question.seed, space.count, *left],
        [engine.name, engine.version, *layouts],
        [option.max_num_seqs, option.max_num_batched_tokens, option.memory_fraction],
    ]
    # Sixteen hex digits tell billions of inventories apart and fit a database column.
    digest = sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return partition_name(cluster_id, group.label.name[:LONGEST_LABEL], engine.name, digest)


def _is_small(question: Question, genomes: int, settings: SearchSettings) -> bool:
    return genomes <= (GRID_LIMIT if question.analytic_only else settings.enumerate_below)


def _budgets(space: SearchSpace, settings: SearchSettings) -> list[int]:
    """Return how many genomes of each option may be evaluated.

    All of few, and of many the same share of each.

    Options of 100, 20,000 and 60,000 genomes with 4,000 evaluations for all partitions: 100, 975
    and 2,925.
    """
    question = space.scoring.question
    options = (SearchSpace([option], question) for option in space.options)
    counts = np.array([each.count for each in options], dtype=np.int64)
    genomes = int(counts.sum())
    if _is_small(question, genomes, settings):
        return [int(count) for count in counts]
    # Small partitions are enumerated first: their best is then certain for little.
    budget = int(PARTITIONS_SHARE * settings.budget(genomes))
    order = np.argsort(counts, kind="stable")
    small = order[(counts[order] <= SMALL) & (np.cumsum(counts[order]) <= budget // 2)]
    rest = np.setdiff1d(order, small)
    left = budget - counts[small].sum()
    counts[rest] = -(-left * counts[rest] // counts[rest].sum())
    return [int(count) for count in counts]


def _search(
    space: SearchSpace,
    name: str,
    number: int,
    budget: int,
    usual: SearchSettings,
    progress: Progress,
) -> SearchSteps:
    """Return the search of one option, which evaluates at most ``budget`` genomes."""
    question = space.scoring.question
    settings = replace(usual, share=1.0, least=0, most=budget, enumerate_below=budget)
    # The name is part of the seed: partitions draw alike whoever searches them, and unlike each
    # other.
    rng = np.random.default_rng([question.seed, zlib.crc32(name.encode())])
    alone = SearchSpace([space.options[number]], question)
    return search_steps(alone, rng, settings=settings, progress=progress)


def _shared_progress(count: int, progress: Progress) -> list[Progress]:
    """Return what ``count`` searches tell their progress to.

    ``progress`` is told the mean of them.
    """
    shares = [0.0] * count

    def of(search: int) -> Progress:
        """Return the progress of one search."""

        def reached(share: float) -> None:
            """Store the share of this search and report the mean of all searches."""
            shares[search] = share
            progress(sum(shares) / len(shares))

        return reached

    return [of(search) for search in range(count)]


def _scored_together(
    space: SearchSpace, predictor: Predictor, options: Sequence[int]
) -> Callable[[dict[int, Integers]], dict[int, Scores]]:
    """Return a function that scores the genomes of several partitions in one table."""

    def scores(asked: dict[int, Integers]) -> dict[int, Scores]:
        """Score the genomes of each partition, in chunks, and split the scores by partition."""
        genomes = np.concatenate([of_option(wanted, options[at]) for at, wanted in asked.items()])
        tables = [
            space.score(genomes[start : start + CHUNK], predictor)
            for start in range(0, len(genomes), CHUNK)
        ]
        objectives = np.concatenate([table.objectives for table in tables])
        violation = np.concatenate([table.violation for table in tables])
        ends = np.cumsum([len(wanted) for wanted in asked.values()])[:-1]
        parts = zip(np.split(objectives, ends), np.split(violation, ends), strict=True)
        return {
            at: Scores(objectives=each, violation=over)
            for at, (each, over) in zip(asked, parts, strict=True)
        }

    return scores


def of_option(genomes: Integers, number: int) -> Integers:
    """Return the genomes of a partition, whose only option is 0, as those of another option."""
    numbered = genomes.copy()
    numbered[:, OPTION] = number
    return numbered


def _worth_keeping(found: SearchResult) -> SearchResult:
    """Return the front, the best ways to run a replica and the best of each layout.

    The nearest where nothing fits.
    """
    ranking = found.ranking()
    best = ranking[found.violation[ranking] <= 0] if found.feasible.any() else ranking[:1]
    genomes = found.genomes[best]
    ways = first_of_each(np.delete(genomes, REPLICAS, axis=1))[:KEPT]
    layouts = first_of_each(genomes[:, [TP, PP, WEIGHTS, KV]])
    rows = np.unique(np.concatenate([found.front(), best[ways], best[layouts]]))
    return SearchResult(
        genomes=found.genomes[rows],
        objectives=found.objectives[rows],
        violation=found.violation[rows],
    )
