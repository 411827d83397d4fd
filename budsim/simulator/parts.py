"""What of a cluster is searched by itself, one engine on one group of equal devices, and how what was found there travels.

A part's search depends on nothing that was found elsewhere: whoever searches it, at whatever time, finds the same. Side by side
they are only faster, for their generations are predicted together.
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
from budsim.simulator.evolution import CHUNK, Explored, Progress, Scores, Searching, Settings, exploring, side_by_side
from budsim.simulator.offers import KV, OFFER, PP, REPLICAS, TP, WEIGHTS, Offer, OfferSpace
from budsim.simulator.plans import Question, part_name

GRID_LIMIT = 200_000
"""Genomes the exhaustive grid of `Question.analytic_only` may have before the genetic search takes over."""
SMALL = 256
"""Parts of so few genomes are always looked at in full."""
KEPT = 64
"""Ways to run a replica kept of each part, beside its front and the best of each layout: `mixes` tries 24."""
LONGEST_LABEL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What is worth keeping of a part's search, genomes of a space of its own, and how many candidates were predicted."""

    explored: Explored
    evaluations: int

    def packed(self) -> bytes:
        """Return it as bytes that are read back to the last digit."""
        found, packed = self.explored, io.BytesIO()
        np.savez_compressed(
            packed,
            genomes=found.genomes,
            objectives=found.objectives,
            violation=found.violation,
            evaluations=np.array(self.evaluations),
        )
        return packed.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> Searched:
        """Return what `packed` made bytes of."""
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            explored = Explored(genomes=found["genomes"], objectives=found["objectives"], violation=found["violation"])
            return cls(explored=explored, evaluations=int(found["evaluations"]))


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
    numbers = {name: number for number, name in enumerate(part_names(question, cluster_id, space)) if name in wanted}
    shares = [0.0] * len(numbers)

    def shared(at: int) -> Progress:
        def reached(share: float) -> None:
            shares[at] = share
            progress(sum(shares) / len(shares))

        return reached

    usual = settings or Settings()
    searches = [_search(question, name, space, number, usual, shared(at)) for at, (name, number) in enumerate(numbers.items())]
    found = side_by_side(searches, _together(space, predictor, list(numbers.values())))
    return {
        name: Searched(explored=_worth_keeping(each), evaluations=each.evaluations)
        for name, each in zip(numbers, found, strict=True)
    }


def merged(names: Sequence[str], found: Known) -> tuple[Explored, int]:
    """Return what was found of a whole space, offer by offer, and how many candidates were predicted."""
    parts = [found[name] for name in names]
    return Explored(
        genomes=np.concatenate([_of_offer(part.explored.genomes, number) for number, part in enumerate(parts)]),
        objectives=np.concatenate([part.explored.objectives for part in parts]),
        violation=np.concatenate([part.explored.violation for part in parts]),
    ), sum(part.evaluations for part in parts)


def _name(question: Question, cluster_id: str, space: OfferSpace, offer: Offer) -> str:
    group = offer.group
    decides = [
        [question.seed, space.count, group.device.name, group.memory_free_bytes, group.compute_share, group.sizes],
        [offer.engine.name, offer.engine.version, offer.tp, offer.pp, offer.ep, offer.dp, offer.weights, offer.kv],
        [offer.max_num_seqs, offer.max_num_batched_tokens, offer.memory_fraction],
    ]
    digest = sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return part_name(cluster_id, group.label.name[:LONGEST_LABEL], offer.engine.name, digest)


def _search(question: Question, name: str, space: OfferSpace, number: int, usual: Settings, progress: Progress) -> Searching:
    """Return the search of one offer; of what a whole space may cost it takes the share its genomes are of all."""
    part = OfferSpace([space.offers[number]], question)
    is_small = space.count <= (GRID_LIMIT if question.analytic_only else usual.enumerate_below)
    least, most = (-(-limit * part.count // space.count) for limit in (usual.least, usual.most))
    settings = replace(usual, least=least, most=most, enumerate_below=part.count if is_small else SMALL)
    rng = np.random.default_rng([question.seed, zlib.crc32(name.encode())])
    return exploring(part, rng, settings=settings, progress=progress)


def _together(
    space: OfferSpace, predictor: Predictor, offers: Sequence[int]
) -> Callable[[dict[int, Integers]], dict[int, Scores]]:
    """Return what scores the genomes of several parts in one table, or in a few where there are very many."""

    def scores(asked: dict[int, Integers]) -> dict[int, Scores]:
        genomes = np.concatenate([_of_offer(wanted, offers[at]) for at, wanted in asked.items()])
        tables = [space.score(genomes[start : start + CHUNK], predictor) for start in range(0, len(genomes), CHUNK)]
        objectives = np.concatenate([table.objectives for table in tables])
        violation = np.concatenate([table.violation for table in tables])
        ends = np.cumsum([len(wanted) for wanted in asked.values()]).tolist()
        rows = {at: slice(end - len(wanted), end) for (at, wanted), end in zip(asked.items(), ends, strict=True)}
        return {at: Scores(objectives=objectives[each], violation=violation[each]) for at, each in rows.items()}

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
    return Explored(genomes=found.genomes[rows], objectives=found.objectives[rows], violation=found.violation[rows])


def _firsts(rows: Integers) -> Integers:
    """Return the first of each distinct row, ascending."""
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])
