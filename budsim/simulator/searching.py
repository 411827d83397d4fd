"""The search as worker processes import it, by name: it is loaded only where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from budsim.performance.predictor import Predictor
from budsim.simulator.planning.days import AskedDay
from budsim.simulator.planning.plans import Outcome, Rejection
from budsim.simulator.planning.question import Question

if TYPE_CHECKING:
    from budsim.simulator.evolution import Progress
    from budsim.simulator.planning.daily_replicas import DayAnswer
    from budsim.simulator.planning.sizing import Capacity


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


def capacities_of(
    question: Question, predictor: Predictor, _detail: object
) -> tuple[Capacity, ...]:
    """Return how many requests each cluster of a question serves; errors as `capacities`."""
    from budsim.simulator.planning.sizing import capacities

    return capacities(question, predictor)


def replicas_of_day(question: Question, predictor: Predictor, day: AskedDay) -> DayAnswer:
    """Return the replicas that each hour needs; the question's traffic is that of one hour."""
    from budsim.simulator.planning.daily_replicas import hours_of, replicas_over_a_day

    hours = hours_of(question.traffic, day.rates)
    return replicas_over_a_day(question, hours, predictor, lead_time_s=day.lead_time_s)


def parts_of(question: Question, _predictor: Predictor, _detail: object = None) -> tuple[str, ...]:
    """Return the names of the parts to search alone: cluster x equal devices x engine."""
    from budsim.simulator.planning.answer import partitions_of as names

    return names(question)


def search_part(question: Question, predictor: Predictor, name: str) -> bytes | None:
    """Return what the search of one part finds, packed for `simulate`; None without such a part."""
    from budsim.simulator.planning.answer import search_partition as search

    found = search(question, predictor, name)
    return found.packed() if found else None


def offered_checkpoint(
    question: Question, predictor: Predictor, own_usd: float | None
) -> Rejection | None:
    """Return in words a quantized checkpoint of the model that meets the targets for much less.

    ``own_usd`` is the cost of the model's own best plan per million tokens, None without one.
    """
    from budsim.simulator.planning.checkpoint_offers import checkpoint_below

    offer = checkpoint_below(question, own_usd, predictor)
    if offer is None:
        return None
    group = offer.plan.groups[0]
    return Rejection(
        cluster_id=offer.plan.cluster_id,
        subject=offer.model_id,
        reason=f"a quantized checkpoint of this model; it {offer.does} "
        f"{offer.plan.cost_per_million_tokens_usd:.2f} USD per million tokens ({offer.saving}) on "
        f"{offer.plan.devices} x {group.config.device.name}; test its quality for your task",
        devices=offer.plan.devices,
    )
