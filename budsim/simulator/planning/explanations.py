"""Why a plan is as good as it is: where the time goes, how much room each target leaves, and what one more replica would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.predictions import BOUNDS, Predictions
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.cost import usd_per_h, usd_per_million_tokens
from budsim.simulator.planning.placement import HardwareGroup, usual_node
from budsim.simulator.planning.plans import Explanation, NextReplica
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.space import (
    Choices,
    Offer,
    OfferSpace,
    make_offer,
)

MOST_NODES, MOST_LAYOUTS = 16, 10_000


def explained(
    question: Question,
    space: OfferSpace,
    choices: Choices,
    hardware: Sequence[HardwareGroup],
    predictions: Predictions,
    predictor: Predictor,
) -> tuple[Explanation, ...]:
    """Return the explanation of each row of ``choices``; ``hardware`` is where each may lie."""
    shares = predictions.time_s / predictions.time_s.sum(axis=0)
    judged = question.judged(predictions)
    following = _next_replicas(question, space, choices, hardware, predictor)
    return tuple(
        Explanation(
            time_shares=dict(zip(BOUNDS, shares[:, row].tolist(), strict=True)),
            headroom=question.targets.margins(judged, row),
            next_replica=following[row],
        )
        for row in range(len(choices.tp))
    )


def enough_devices(
    question: Question, offer: Offer, predictor: Predictor
) -> tuple[int, int] | None:
    """Return TP and PP of the fewest devices of an offer's type that hold one sequence, however many the cluster has; or None.

    Nodes are taken to hold as many as the largest there is, or eight where their link reaches so many; sixteen nodes at most.
    """
    group = offer.group
    node = max(group.largest_node, usual_node(group.device))
    one = replace(question.with_concurrency(1), analytic_only=True, layout=None)
    wide = make_offer(one, replace(group, sizes=((node, MOST_NODES),)), offer.engine, offer.weights)
    space = OfferSpace([wide], one)
    genomes = space.legal(MOST_LAYOUTS)
    if genomes is None:
        return None
    choices = space.read(genomes)
    memory, _ = predictor.predict(space.candidates(choices))
    fitting = np.flatnonzero(space.violation(choices, memory) <= 0)
    layouts = zip(choices.tp[fitting].tolist(), choices.pp[fitting].tolist(), strict=True)
    return min(layouts, key=lambda layout: (layout[0] * layout[1], layout[1]), default=None)


def _next_replicas(
    question: Question,
    space: OfferSpace,
    choices: Choices,
    hardware: Sequence[HardwareGroup],
    predictor: Predictor,
) -> list[NextReplica | None]:
    requests = np.minimum(choices.replicas * choices.concurrency, question.workload.concurrency)
    replicas = choices.replicas + 1
    more = replace(choices, replicas=replicas, concurrency=-(-requests // replicas))
    _, predictions = predictor.predict(space.candidates(more))
    service = predictions.service
    per_h = usd_per_h(more.devices, *space.prices(more))
    cost: Floats = usd_per_million_tokens(
        per_h, requests * question.workload.counted_tokens / service.e2e_s
    )
    return [
        NextReplica(
            devices=int(more.tp[row] * more.pp[row]),
            is_free=hardware[row].capacity(int(more.tp[row]), int(more.pp[row])) >= replicas[row],
            ttft_s=float(service.ttft_s[row]),
            tokens_per_s_per_user=float(service.tokens_per_s_per_user[row]),
            e2e_s=float(service.e2e_s[row]),
            cost_per_million_tokens_usd=float(cost[row]),
        )
        if more.concurrency[row] < choices.concurrency[row]
        else None
        for row in range(len(replicas))
    ]
