"""Why a plan is as good as it is.

Where the time goes, the margin of each target, and what one more replica would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import BOUNDS, Predictions
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.choices import Choices, ServingOption, make_option
from budsim.simulator.planning.cost import usd_per_million_tokens
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.hardware_groups import HardwareGroup, usual_node
from budsim.simulator.planning.plans import Explanation, NextReplica
from budsim.simulator.planning.question import ParallelLayout
from budsim.simulator.planning.replays import ReplayedRows, replay_rows
from budsim.simulator.planning.scoring import Scoring
from budsim.simulator.planning.targets import MEANS, Figures
from budsim.simulator.planning.tier_effects import tier_effects

ROUNDING: Final = 1e-9
# How far the smallest layout that fits is looked for.
MOST_NODES: Final = 16
MOST_LAYOUTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What is explained: predictions as shown, figures with targets, and replayed requests."""

    shown: Predictions
    figures: Figures
    replayed: ReplayedRows

    @property
    def time_shares(self) -> Floats:
        """Shares of a request's time by cause, shape (len(`BOUNDS`), n).

        The replay says how long requests wait; physics shares out the rest of their time. A lone
        request in flight waits for no other: its wait is not counted as a queue.
        """
        shares: Floats = self.shown.time_s / self.shown.time_s.sum(axis=0)
        is_lone = np.isnan(self.replayed.served.rate) & (self.shown.service.concurrency <= 1.0)
        queue, waiting = BOUNDS.index("queue"), np.where(is_lone, 0.0, self.replayed.waiting_share)
        others = np.delete(shares, queue, axis=0).sum(axis=0)
        shares = shares * _ratio(1.0 - waiting, others)
        shares[queue] = waiting
        return shares


def explain(
    scoring: Scoring,
    choices: Choices,
    hardware: Sequence[HardwareGroup],
    found: Explained,
    shares: Floats,
    predictor: Predictor,
) -> tuple[Explanation, ...]:
    """Return the explanation of each row of ``choices``.

    ``hardware`` is where each may lie, and ``shares`` (0..1] of the traffic go to each.
    """
    targets, figures = scoring.question.targets, found.figures
    time_shares, towers_s = found.time_shares, encoder_s(scoring, choices)
    tiers = tier_effects(scoring, choices, shares, predictor)
    following = _next_replicas(scoring, choices, hardware, shares, predictor)
    return tuple(
        Explanation(
            time_shares=dict(zip(BOUNDS, time_shares[:, row].tolist(), strict=True)),
            headroom=targets.margins(figures, row),
            next_replica=following[row],
            encoder_s=float(towers_s[row]),
            host_tier=tiers[row],
        )
        for row in range(len(choices.tp))
    )


def encoder_s(scoring: Scoring, choices: Choices) -> Floats:
    """Return the seconds of towers for one request of each row."""
    if not scoring.question.traffic.media:
        return np.zeros(len(choices.tp))
    candidates = scoring.candidates(choices)
    return prepare(candidates).encoder_s_per_token * candidates.input_tokens


def _ratio(upper: Floats, lower: Floats) -> Floats:
    """Return the quotient, 1 where it has no meaning."""
    return np.divide(upper, lower, out=np.ones_like(lower), where=lower > 0)


def smallest_layout_that_fits(
    scoring: Scoring, option: ServingOption, predictor: Predictor
) -> ParallelLayout | None:
    """Return the smallest layout that holds one sequence, on however many devices; or None.

    Nodes are taken to hold as many devices as the largest there is, or as many as usual; sixteen
    nodes at most.
    """
    group = option.group
    # The cluster's own nodes may be small because others use them now.
    device = group.device_of_whole_servers
    node = max(group.largest_node, usual_node(device))
    question = replace(scoring.question.with_concurrency(1), analytic_only=True, layout=None)
    wide = replace(group, device=device, sizes=((node, MOST_NODES),), whole_node=0)
    space = SearchSpace([make_option(question, wide, option.engine, option.weights)], question)
    genomes = space.all_genomes(MOST_LAYOUTS)
    if genomes is None:
        return None
    choices = space.decode(genomes)
    memory, _ = predictor.predict(space.scoring.candidates(choices))
    fitting = np.flatnonzero(space.scoring.violation(choices, memory) <= 0)
    layouts = zip(choices.tp[fitting].tolist(), choices.pp[fitting].tolist(), strict=True)
    # Of equally many devices the one with the shallower pipeline is simpler.
    smallest = min(layouts, key=lambda layout: (layout[0] * layout[1], layout[1]), default=None)
    return ParallelLayout(tp=smallest[0], pp=smallest[1]) if smallest else None


def _next_replicas(
    scoring: Scoring,
    choices: Choices,
    hardware: Sequence[HardwareGroup],
    shares: Floats,
    predictor: Predictor,
) -> list[NextReplica | None]:
    """Return what one more replica does to each row.

    None where it would not lower the requests of any replica.
    """
    question, replicas = scoring.question, choices.replicas + 1
    load = choices.replicas * choices.concurrency
    # The new replica takes its part from all replicas of the deployment, of other groups too.
    in_flight = np.minimum(load / shares, np.where(shares < 1, np.inf, question.concurrency))
    after = in_flight + np.where(shares < 1, choices.concurrency, in_flight / choices.replicas)
    each = np.ceil(choices.concurrency * in_flight / after - ROUNDING)
    each = np.where(shares < 1, each, np.ceil(in_flight / replicas - ROUNDING)).astype(np.int64)
    shares = np.where(shares < 1, replicas * choices.concurrency / after, 1.0)
    more = replace(choices, replicas=replicas, concurrency=each)
    candidates = scoring.candidates(more)
    figures = replay_rows(question, predictor, candidates, more, shares)[1].figures
    # What comes at a rate is finished at that rate, however fast each request is.
    traffic = question.traffic
    finished_per_s = (
        traffic.rate * shares if traffic.is_open else in_flight * shares / figures["e2e_s"]
    )
    tokens_per_s = finished_per_s * traffic.counted_tokens
    per_h = scoring.usd_per_h(more, more.devices)
    cost: Floats = usd_per_million_tokens(per_h, tokens_per_s)
    return [
        NextReplica(
            devices=int(more.tp[row] * more.pp[row]),
            is_free=hardware[row].capacity(int(more.tp[row]), int(more.pp[row])) >= replicas[row],
            **{name: float(figures[name][row]) for name in MEANS},
            cost_per_million_tokens_usd=float(cost[row]),
        )
        if more.concurrency[row] < choices.concurrency[row]
        else None
        for row in range(len(replicas))
    ]
