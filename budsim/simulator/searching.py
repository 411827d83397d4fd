"""The search as worker processes import it, by name: it is loaded only where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from budsim.performance.predictor import Predictor
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question

if TYPE_CHECKING:
    from budsim.simulator.evolution import Progress


def simulate(
    question: Question,
    predictor: Predictor,
    *,
    known: Mapping[str, bytes] = MappingProxyType({}),
    progress: Progress = lambda _share: None,
) -> Outcome:
    """Answer a question: for the terminal, the routes and the durable runs alike. Pure and seeded.

    ``known`` holds what `search_part` found before; it saves time and does not change the answer.
    """
    from budsim.simulator.planning.answer import answer
    from budsim.simulator.planning.partitions import PartitionResult

    found = {name: PartitionResult.unpacked(content) for name, content in known.items()}
    return answer(question, predictor, known=found, progress=progress)


def parts_of(question: Question, _predictor: Predictor, _detail: object = None) -> tuple[str, ...]:
    """Return the names of the parts to search alone: cluster x equal devices x engine."""
    from budsim.simulator.planning.answer import partitions_of as names

    return names(question)


def search_part(question: Question, predictor: Predictor, name: str) -> bytes | None:
    """Return what the search of one part finds, packed for `simulate`; None without such a part."""
    from budsim.simulator.planning.answer import search_partition as search

    found = search(question, predictor, name)
    return found.packed() if found else None
