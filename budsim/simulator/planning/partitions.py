"""What of a cluster is searched by itself, one engine on one group of equal devices, and how what was found there travels.

A part's search depends on nothing that was found elsewhere: whoever searches it, at whatever time, finds the same. Side by side
they are only faster, for their generations are predicted together. Joined, they show which part is worth a longer look.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from budsim.performance.candidates import Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.evolution import (
    CHUNK,
    Explored,
    Progress,
    Scores,
    Searching,
    Settings,
    exploring,
    resuming,
    side_by_side,
)
from budsim.simulator.planning.question import Question, partition_name
from budsim.simulator.planning.space import KV, OFFER, PP, REPLICAS, TP, WEIGHTS, Offer, OfferSpace

GRID_LIMIT = 200_000
"""Genomes the exhaustive grid of `Question.analytic_only` may have before the genetic search takes over."""
PARTS_SHARE = 0.5
"""Of what a whole space may cost; the rest is spent where its parts, seen together, have their best."""
SMALL = 256
"""Parts of so few genomes are looked at in full, the smallest first, for half of what parts may cost."""
KEPT = 64
"""Ways to run a replica kept of each part, beside its front and the best of each layout: `mixes` tries 24."""
LONGEST_LABEL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What is worth keeping of a part's search, and all that was ``seen`` in it: genomes of a space of its own."""

    explored: Explored
    seen: Integers

    @property
    def evaluations(self) -> int:
        """How many candidates were predicted."""
        return len(self.seen)

    def packed(self) -> bytes:
        """Return it as bytes that are read back to the last digit."""
        found, packed = self.explored, io.BytesIO()
        np.savez_compressed(
            packed,
            genomes=found.genomes,
            objectives=found.objectives,
            violation=found.violation,
            seen=self.seen.astype(np.int16),
        )
        return packed.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> Searched:
        """Return what `packed` made bytes of."""
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            explored = Explored(
                genomes=found["genomes"],
                objectives=found["objectives"],
                violation=found["violation"],
            )
            return cls(explored=explored, seen=found["seen"].astype(np.int64))


Known = Mapping[str, Searched]


def part_names(question: Question, cluster_id: str, space: OfferSpace) -> list[str]:
    """Return the name of each offer's search: cluster, device, engine, and a digest of all else that decides what it finds.

    It changes when the inventory does, so what was found on devices that are gone is never taken for what is there.
    """
    return [_name(question, cluster_id, space, offer) for offer in space.offers]


def search_parts(
    question: Question,
    cluster_id: str,
    space: OfferSpace,
    predictor: Predictor,
    wanted: Sequence[str],
    *,
    settings: Settings | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Searched]:
    """Return what the search of each part of ``space`` found whose name is ``wanted``; ``settings`` are of the whole space."""
    numbers = {
        name: number
        for number, name in enumerate(part_names(question, cluster_id, space))
        if name in wanted
    }
    shares = [0.0] * len(numbers)

    def shared(at: int) -> Progress:
        def reached(share: float) -> None:
            shares[at] = share
            progress(sum(shares) / len(shares))

        return reached

    usual = settings or Settings()
    budgets = _budgets(question, space, usual)
    searches = [
        _search(question, name, space.offers[number], budgets[number], usual, shared(at))
        for at, (name, number) in enumerate(numbers.items())
    ]
    found = side_by_side(searches, _together(space, predictor, list(numbers.values())))
    return {
        name: Searched(explored=_worth_keeping(each), seen=each.genomes)
        for name, each in zip(numbers, found, strict=True)
    }


def joined(
    question: Question,
    space: OfferSpace,
    predictor: Predictor,
    parts: Sequence[Searched],
    *,
    settings: Settings | None = None,
) -> tuple[Explored, int]:
    """Return what was found of a whole space, whose ``parts`` are in the order of its offers, and how many were predicted.

    Where these were not looked at in full, the search goes on around the best of all of them.
    """
    usual = settings or Settings()
    found = Explored(
        genomes=np.concatenate(
            [_of_offer(part.explored.genomes, number) for number, part in enumerate(parts)]
        ),
        objectives=np.concatenate([part.explored.objectives for part in parts]),
        violation=np.concatenate([part.explored.violation for part in parts]),
    )
    seen = np.concatenate([_of_offer(part.seen, number) for number, part in enumerate(parts)])
    if _is_small(question, space.count, usual):
        return found, len(seen)
    budget, rng = usual.budget(space.count) - len(seen), np.random.default_rng(question.seed)
    search = resuming(space, found, seen, rng, budget=budget, settings=usual)
    after = side_by_side([search], lambda asked: {0: space.score(asked[0], predictor)})[0]
    return after, len(seen) + after.evaluations - found.evaluations


def _name(question: Question, cluster_id: str, space: OfferSpace, offer: Offer) -> str:
    group = offer.group
    decides = [
        [
            question.seed,
            space.count,
            group.device.name,
            group.memory_free_bytes,
            group.compute_share,
            group.sizes,
        ],
        [
            offer.engine.name,
            offer.engine.version,
            offer.tp,
            offer.pp,
            offer.ep,
            offer.dp,
            offer.weights,
            offer.kv,
        ],
        [offer.max_num_seqs, offer.max_num_batched_tokens, offer.memory_fraction],
    ]
    digest = sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return partition_name(cluster_id, group.label.name[:LONGEST_LABEL], offer.engine.name, digest)


def _is_small(question: Question, genomes: int, settings: Settings) -> bool:
    return genomes <= (GRID_LIMIT if question.analytic_only else settings.enumerate_below)


def _budgets(question: Question, space: OfferSpace, settings: Settings) -> list[int]:
    """Return how many genomes of each offer may be looked at: all of few, and of many as large a share as of any other."""
    counts = np.array(
        [OfferSpace([offer], question).count for offer in space.offers], dtype=np.int64
    )
    genomes = int(counts.sum())
    if _is_small(question, genomes, settings):
        return [int(count) for count in counts]
    budget, order = int(PARTS_SHARE * settings.budget(genomes)), np.argsort(counts, kind="stable")
    small = order[(counts[order] <= SMALL) & (np.cumsum(counts[order]) <= budget // 2)]
    rest = np.setdiff1d(order, small)
    counts[rest] = -(-(budget - counts[small].sum()) * counts[rest] // counts[rest].sum())
    return [int(count) for count in counts]


def _search(
    question: Question, name: str, offer: Offer, budget: int, usual: Settings, progress: Progress
) -> Searching:
    """Return the search of one offer, which looks at ``budget`` genomes at most."""
    settings = replace(usual, share=1.0, least=0, most=budget, enumerate_below=budget)
    rng = np.random.default_rng([question.seed, zlib.crc32(name.encode())])
    return exploring(OfferSpace([offer], question), rng, settings=settings, progress=progress)


def _together(
    space: OfferSpace, predictor: Predictor, offers: Sequence[int]
) -> Callable[[dict[int, Integers]], dict[int, Scores]]:
    """Return what scores the genomes of several parts in one table, or in a few where there are very many."""

    def scores(asked: dict[int, Integers]) -> dict[int, Scores]:
        genomes = np.concatenate([_of_offer(wanted, offers[at]) for at, wanted in asked.items()])
        tables = [
            space.score(genomes[start : start + CHUNK], predictor)
            for start in range(0, len(genomes), CHUNK)
        ]
        objectives = np.concatenate([table.objectives for table in tables])
        violation = np.concatenate([table.violation for table in tables])
        ends = np.cumsum([len(wanted) for wanted in asked.values()]).tolist()
        rows = {
            at: slice(end - len(wanted), end)
            for (at, wanted), end in zip(asked.items(), ends, strict=True)
        }
        return {
            at: Scores(objectives=objectives[each], violation=violation[each])
            for at, each in rows.items()
        }

    return scores


def _of_offer(genomes: Integers, number: int) -> Integers:
    numbered = genomes.copy()
    numbered[:, OFFER] = number
    return numbered


def _worth_keeping(found: Explored) -> Explored:
    """Return the front, the best ways to run a replica, the best of each layout, and what is nearest where nothing fits."""
    ranking = found.ranking()
    best = ranking[found.violation[ranking] <= 0] if found.feasible.any() else ranking[:1]
    genomes = found.genomes[best]
    ways = _firsts(np.delete(genomes, REPLICAS, axis=1))[:KEPT]
    layouts = _firsts(genomes[:, [TP, PP, WEIGHTS, KV]])
    rows = np.unique(np.concatenate([found.front(), best[ways], best[layouts]]))
    return Explored(
        genomes=found.genomes[rows],
        objectives=found.objectives[rows],
        violation=found.violation[rows],
    )


def _firsts(rows: Integers) -> Integers:
    """Return the first of each distinct row, ascending."""
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])
