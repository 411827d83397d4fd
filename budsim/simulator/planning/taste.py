"""Which of several deployments is better where a prediction cannot tell them apart.

Costs that differ by less than the noise of a prediction are a toss-up. Then the simpler deployment
is preferred: the engine's defaults, more KV cache, fewer devices, no pipeline, one engine and one
format. Nobody should run an unusual setting for a gain of 0.04 %.

What is harder to run has to be worth it: see `effort_factor`. Three replicas of TP 4 for 3.64 USD
come before one of TP 4 beside one of TP 8 for 3.37 USD, 7 % cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from budsim.performance.candidates import Integers
from budsim.simulator.planning.choices import Choices, ServingOption
from budsim.simulator.planning.cost import PIPELINE, pipeline_effort
from budsim.simulator.planning.plans import Plan, ReplicaGroup
from budsim.simulator.search_result import Scores, best_compromise

# Relative difference of cost or miss that is a toss-up, at least; chosen by us. Predictions of one
# model on one device err alike, so that their ratio is surer than each of them.
NOISE: Final = 0.01
# What a deployment has to save to come before a simpler one, as a pipeline has (`cost.PIPELINE`);
# chosen by us. The uneven load of attention ranks is not predicted, unlike replicas need a router
# that knows their capacities, and a replica on several nodes a network for remote memory access.
ATTENTION_RANKS: Final = 0.05
UNLIKE_REPLICAS: Final = 0.10
ACROSS_NODES: Final = 0.05
# Two pools need a router of their own and a fast network, and stop where either pool does.
POOLS: Final = 0.15

# Share of a request's time in the queue from which a plan is said to make users wait; chosen by us.
QUEUE_SHARE: Final = 0.25
# A pipeline that saves less is not shown beside a plain deployment.
FILLER: Final = 0.05


def effort_factor(plan: Plan) -> float:
    """Return by what factor the cost of a plan counts, for what is harder to run.

    A pipeline of two stages for 1.00 USD counts as 1.15 USD, one of four as 1.30 USD: each stage is
    one more place where tokens wait and a failure stops all.
    """
    stages = np.array([max(group.config.pp for group in plan.groups)])
    return (
        float(pipeline_effort(stages)[0])
        + ATTENTION_RANKS * any(group.config.dp > 1 for group in plan.groups)
        + (POOLS if plan.is_disaggregated else UNLIKE_REPLICAS * (len(plan.groups) > 1))
        + ACROSS_NODES * any(_spans_nodes(group) for group in plan.groups)
    )


def counted_cost(plan: Plan) -> float:
    """Return the cost per million tokens a plan is ranked by, USD; see `effort_factor`."""
    return effort_factor(plan) * plan.cost_per_million_tokens_usd


def rank(plan: Plan) -> tuple[float, float, int, float, str]:
    """Return what plans are sorted by.

    Least shortfall, cheapest, fewest devices, fastest. The id breaks ties.
    """
    return (
        effort_factor(plan) * plan.shortfall,
        counted_cost(plan),
        plan.devices,
        plan.e2e_s,
        plan.groups[0].config_id,
    )


def in_order(plans: Sequence[Plan]) -> list[Plan]:
    """Return plans best first; of those that are a toss-up the simplest first.

    Costs of 1.000, 1.004 and 1.012 USD: the first two are a toss-up, the third is not, although it
    is one with the second.
    """
    left, ordered = sorted(plans, key=rank), list[Plan]()
    while left:
        first = left[0]
        tied = [plan for plan in left if is_toss_up(first, plan)]
        ordered += sorted(tied, key=_simplest_first)
        chosen = {id(plan) for plan in tied}
        left = [plan for plan in left if id(plan) not in chosen]
    return ordered


def _simplest_first(plan: Plan) -> tuple[object, ...]:
    """Return what plans of a toss-up are sorted by: prices that can be paid, then simple plans."""
    return (plan.has_estimated_price, _effort(plan), rank(plan))


def is_toss_up(best: Plan, other: Plan) -> bool:
    """Return whether a plan, ranked behind the best, is as good as far as predictions can tell."""
    least, miss = (effort_factor(plan) * plan.shortfall for plan in (best, other))
    alike = miss <= least * (1.0 + NOISE) + _slack(least)
    return alike and counted_cost(other) <= counted_cost(best) * (1.0 + NOISE)


def toss_ups(plans: Sequence[Plan]) -> list[Plan]:
    """Return the plans, given best first, that a prediction cannot tell from the first."""
    return [p for p in plans[1:] if is_toss_up(plans[0], p) and is_toss_up(p, plans[0])]


def with_knee(plans: Sequence[Plan]) -> list[Plan]:
    """Return plans with the best compromise of cost, devices and latency marked.

    Only plans that miss the targets least are compared; see `best_compromise`.
    """
    if not plans:
        return []
    least = min(plan.shortfall for plan in plans)
    rows = [row for row, plan in enumerate(plans) if plan.shortfall == least]
    figures = np.array(
        [
            (plans[row].cost_per_million_tokens_usd, plans[row].devices, plans[row].e2e_s)
            for row in rows
        ]
    )
    knee = rows[best_compromise(figures)]
    return [replace(plan, is_knee=row == knee) for row, plan in enumerate(plans)]


def without_repeats(plans: Sequence[Plan]) -> list[Plan]:
    """Return plans, given best first, without those that differ from an earlier one in flags only.

    They would stand in a table as equal rows.
    """
    seen = dict[object, Plan]()
    for plan in plans:
        seen.setdefault(tuple(sorted(map(_looks, plan.groups))), plan)
    return list(seen.values())


def _looks(group: ReplicaGroup) -> tuple[str | int, ...]:
    """Return what people tell replicas apart by."""
    return (*way_of(group), group.replicas)


def way_of(group: ReplicaGroup) -> tuple[str | int, ...]:
    """Return the engine, device, formats and layout of a replica: how it is run, but for knobs."""
    config = group.config
    sizes = (config.tp, config.pp, config.ep, config.dp)
    return (group.engine, group.label.name, config.weight_precision, config.kv_precision, *sizes)


def without_filler_pipelines(plans: Sequence[Plan]) -> list[Plan]:
    """Return plans without the pipelines of a device type that also serves within a node.

    A pipeline adds latency and a link to go wrong. It stays where no plan without one comes as
    near to the targets, or where it meets them for less (per token or per hour) than every plan
    without one that does.
    """
    plain: dict[object, list[Plan]] = {}
    for plan in plans:
        if not _has_pipeline(plan):
            plain.setdefault(_device(plan), []).append(plan)
    return [plan for plan in plans if not _is_filler(plan, plain.get(_device(plan), []))]


def _is_filler(plan: Plan, plain: Sequence[Plan]) -> bool:
    """Return whether a plan is a pipeline beside plans without one that do as well."""
    if not plain or not _has_pipeline(plan):
        return False
    if not plan.meets_targets:
        least = min(each.shortfall for each in plain)
        return (1.0 + FILLER) * plan.shortfall >= least
    costs = [_costs(each) for each in plain if each.meets_targets]
    least_costs = [min(of_each) for of_each in zip(*costs, strict=True)]
    pairs = zip(_costs(plan), least_costs, strict=False)
    return bool(costs) and not any((1.0 + FILLER) * cost < least for cost, least in pairs)


def _costs(plan: Plan) -> tuple[float, float]:
    return plan.cost_per_million_tokens_usd, plan.cost_usd_per_h


def _device(plan: Plan) -> object:
    return plan.groups[0].config.device


def plainest(options: Sequence[ServingOption], choices: Choices, scores: Scores) -> int:
    """Return the plainest row among those that are a toss-up with the best.

    ``choices`` are variants of one deployment in layout and knobs, ``scores`` theirs.
    """
    factor = 1.0 + PIPELINE * (choices.pp > 1) + ATTENTION_RANKS * (choices.dp > 1)
    miss, cost = factor * scores.objectives[:, 0], factor * scores.objectives[:, 1]
    fits = scores.violation <= 0.0
    if not fits.any():
        return int(np.argmin(scores.violation))
    least = float(miss[fits].min())
    near = fits & (miss <= least * (1.0 + NOISE) + _slack(least))
    near &= cost <= cost[near].min() * (1.0 + NOISE)
    rows = np.flatnonzero(near)
    keys = _plain_keys(options, choices.rows(rows))
    return int(rows[np.lexsort((cost[rows], *keys[::-1]))[0]])


def _slack(least: float) -> float:
    """Return which chance more or less is noise; none where the targets are met."""
    return NOISE if least > 0.0 else 0.0


def nearest(values: Sequence[float], wanted: float) -> int:
    """Return the place of the value that is nearest to the wanted one."""
    return int(np.argmin(np.abs(np.array(values) - wanted)))


def _plain_keys(options: Sequence[ServingOption], choices: Choices) -> list[Integers]:
    """Return what makes a row plain, the weightiest first; less is plainer."""
    mine = [options[option] for option in choices.option.tolist()]
    fraction = np.array([option.profile.memory_fraction for option in mine])
    budget, sequences = np.array([option.default_limits for option in mine]).T
    per_rank = -(-choices.concurrency // choices.dp)
    return [
        choices.devices,
        choices.pp,
        choices.dp,
        choices.ep,
        (choices.max_num_seqs < per_rank).astype(np.int64),
        (choices.memory_fraction != fraction).astype(np.int64),
        (choices.max_num_batched_tokens != budget).astype(np.int64),
        (choices.max_num_seqs != sequences).astype(np.int64),
        np.round(-1000 * choices.memory_fraction).astype(np.int64),
        choices.max_num_seqs,
    ]


def _spans_nodes(group: ReplicaGroup) -> bool:
    """Return whether a replica lies on several nodes: a network that carries each step."""
    return any(len({part.node_id for part in replica}) > 1 for replica in group.placements)


def _has_pipeline(plan: Plan) -> bool:
    return any(group.config.pp > 1 for group in plan.groups)


def _queues(group: ReplicaGroup) -> bool:
    """Return whether requests spend much of their time waiting for a place."""
    return group.explanation.time_shares.get("queue", 0.0) > QUEUE_SHARE


def _effort(plan: Plan) -> tuple[int, ...]:
    """Return what makes a deployment harder to run or its users wait, the weightiest first."""
    engines = {group.engine for group in plan.groups}
    formats = {(g.config.weight_precision, g.config.kv_precision) for g in plan.groups}
    return (
        int(any(_queues(group) for group in plan.groups)),
        len(plan.groups),
        plan.devices,
        max(group.config.pp for group in plan.groups),
        len(engines) + len(formats),
    )
