"""Which of several deployments is better where a prediction cannot tell them apart.

Costs that differ by less than the noise of a prediction are a toss-up. Then the simpler deployment
is preferred: the engine's defaults, more KV cache, fewer devices, no pipeline, one engine and one
format. Nobody should run an unusual setting for a gain of 0.04 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from budsim.performance.candidates import Integers
from budsim.simulator.evolution import Scores
from budsim.simulator.planning.choices import Choices, ServingOption
from budsim.simulator.planning.plans import Plan

# Relative difference of cost or miss that is a toss-up, at least; chosen by us. Predictions of one
# model on one device err alike, so that their ratio is surer than each of them.
NOISE: Final = 0.01


def rank(plan: Plan) -> tuple[float, float, int, float, str]:
    """Return what plans are sorted by.

    Least shortfall, cheapest, fewest devices, fastest. The id breaks ties.
    """
    return (
        plan.shortfall,
        plan.cost_per_million_tokens_usd,
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
        ordered += sorted(tied, key=lambda plan: (_effort(plan), rank(plan)))
        chosen = {id(plan) for plan in tied}
        left = [plan for plan in left if id(plan) not in chosen]
    return ordered


def is_toss_up(best: Plan, other: Plan) -> bool:
    """Return whether a plan, ranked behind the best, is as good as far as predictions can tell."""
    alike = other.shortfall <= best.shortfall * (1.0 + NOISE)
    cost, least = other.cost_per_million_tokens_usd, best.cost_per_million_tokens_usd
    return alike and cost <= least * (1.0 + NOISE)


def toss_ups(plans: Sequence[Plan]) -> list[Plan]:
    """Return the plans, given best first, that a prediction cannot tell from the first."""
    return [p for p in plans[1:] if is_toss_up(plans[0], p) and is_toss_up(p, plans[0])]


def without_filler_pipelines(plans: Sequence[Plan]) -> list[Plan]:
    """Return plans without the pipelines of a device type that also serves within a node.

    A pipeline adds latency and a link to go wrong. It stays where it is the front's best
    compromise, or costs less (per token or per hour) than every plan without one that meets the
    targets.
    """
    plain: dict[object, tuple[float, float]] = {}
    for plan in plans:
        if plan.meets_targets and not _has_pipeline(plan):
            known = plain.get(_device(plan), (np.inf, np.inf))
            token, hour = (min(pair) for pair in zip(known, _costs(plan), strict=True))
            plain[_device(plan)] = token, hour
    return [plan for plan in plans if not _is_filler(plan, plain.get(_device(plan)))]


def _is_filler(plan: Plan, least: tuple[float, float] | None) -> bool:
    """Return whether a plan is a pipeline beside plain ones that cost at most ``least``."""
    if least is None or plan.is_knee or not _has_pipeline(plan):
        return False
    pairs = zip(_costs(plan), least, strict=True)
    cheaper = any(cost * (1.0 + NOISE) < plain for cost, plain in pairs)
    return not (plan.meets_targets and cheaper)


def _costs(plan: Plan) -> tuple[float, float]:
    return plan.cost_per_million_tokens_usd, plan.cost_usd_per_h


def _device(plan: Plan) -> object:
    return plan.groups[0].config.device


def simplest_knobs(options: Sequence[ServingOption], choices: Choices, scores: Scores) -> int:
    """Return the row with the plainest knobs among those that are a toss-up with the best.

    ``choices`` are variants of one deployment that differ in knobs only, ``scores`` theirs.
    """
    miss, cost = scores.objectives[:, 0], scores.objectives[:, 1]
    fits = scores.violation <= 0.0
    least = miss[fits].min()
    near = fits & (miss <= least * (1.0 + NOISE))
    near &= cost <= cost[near].min() * (1.0 + NOISE)
    rows = np.flatnonzero(near)
    keys = _knob_keys(options, choices.rows(rows))
    return int(rows[np.lexsort((cost[rows], *keys[::-1]))[0]])


def nearest(values: Sequence[float], wanted: float) -> int:
    """Return the place of the value that is nearest to the wanted one."""
    return int(np.argmin(np.abs(np.array(values) - wanted)))


def _knob_keys(options: Sequence[ServingOption], choices: Choices) -> list[Integers]:
    """Return what makes knobs plain, the weightiest first; less is plainer."""
    profiles = [options[option].profile for option in choices.option.tolist()]
    fraction = np.array([profile.memory_fraction for profile in profiles])
    budget = np.array([profile.max_num_batched_tokens for profile in profiles])
    per_rank = -(-choices.concurrency // choices.dp)
    return [
        (choices.max_num_seqs < per_rank).astype(np.int64),
        (choices.memory_fraction != fraction).astype(np.int64),
        (choices.max_num_batched_tokens != budget).astype(np.int64),
        np.round(-1000 * choices.memory_fraction).astype(np.int64),
        choices.max_num_seqs,
    ]


def _has_pipeline(plan: Plan) -> bool:
    return any(group.config.pp > 1 for group in plan.groups)


def _effort(plan: Plan) -> tuple[int, ...]:
    """Return what makes a deployment harder to run, the weightiest first."""
    engines = {group.engine for group in plan.groups}
    formats = {(g.config.weight_precision, g.config.kv_precision) for g in plan.groups}
    return (
        len(plan.groups),
        plan.devices,
        max(group.config.pp for group in plan.groups),
        len(engines) + len(formats),
    )
