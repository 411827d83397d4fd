"""Why a plan is in the answer, and what limits it, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from budsim.api import words
from budsim.commons.units import MILLI
from budsim.page.charts import number
from budsim.simulator.planning.plans import HostTierEffect, NextReplica, Outcome, Plan, ReplicaGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.taste import toss_ups

# Smaller relative differences of two plans are not told.
LEAST_TOLD = 0.01


def why(question: Question, outcome: Outcome, index: int) -> tuple[str, ...]:
    """Return what a plan is best at, and what it changes against the first plan."""
    plan, best = outcome.plans[index], outcome.plans[0]
    told = _best_at(question, outcome, plan)
    if plan.is_knee:
        told.append("The knee: the best compromise of cost, number of devices and latency.")
    if any(plan is each for each in toss_ups(outcome.plans)):
        told.append("A toss-up with plan 1: its cost differs by less than predictions can tell.")
    if index:
        told.append(f"Against plan 1: {_difference(best, plan)}.")
    return tuple(told)


def _best_at(question: Question, outcome: Outcome, plan: Plan) -> list[str]:
    """Return in what a plan is the best of those that meet the targets, or of all."""
    meeting = [each for each in outcome.plans if each.meets_targets]
    rivals = meeting or list(outcome.plans)
    if not any(plan is each for each in rivals):
        return []
    if len(meeting) == 1 and question.targets:
        return ["The only plan that meets the targets."]
    among = "plans that meet the targets" if meeting and question.targets else "plans"
    return [f"{best_in} of the {among}." for best_in in _superlatives(plan, rivals)]


def limits(plan: Plan) -> tuple[str, ...]:
    """Return what bounds a plan's speed, which target is nearest, and what a replica adds."""
    group = plan.slowest
    explanation = group.explanation
    told = [f"Speed is bound by {group.service.bound_by}."]
    rooms = sorted(explanation.headroom.items(), key=lambda room: room[1])
    for name, room in rooms:
        figure = words.figure_name(name)
        told.append(
            f"{figure} misses its target by {-room:.0%}."
            if room < 0
            else f"{figure} may get {room:.0%} worse before its target is missed."
        )
    if tier := plan.prompt_reader.explanation.host_tier:
        told.append(_prefixes(tier))
    if explanation.next_replica:
        told.append(_next_replica(group, explanation.next_replica))
    return tuple(told)


def _prefixes(tier: HostTierEffect) -> str:
    """Return where shared prefixes are found."""
    host = f", {tier.host_share:.0%} in host memory" if tier.host_bytes else ""
    store = f", {tier.store_share:.0%} in the store of all replicas" if tier.store_bytes else ""
    return (
        f"Prefixes: {tier.device_share:.0%} on the device{host}{store}, "
        f"{tier.missed_share:.0%} computed again."
    )


def _superlatives(plan: Plan, rivals: Sequence[Plan]) -> list[str]:
    """Return in which figures no rival is better."""
    figures = (
        ("Cheapest per token", plan.cost_per_million_tokens_usd, "cost_per_million_tokens_usd", 1),
        ("Cheapest per hour", plan.cost_usd_per_h, "cost_usd_per_h", 1),
        ("Fewest devices", plan.devices, "devices", 1),
        ("Shortest TTFT", plan.ttft_s, "ttft_s", 1),
        ("Most tokens/s per user", plan.tokens_per_s_per_user, "tokens_per_s_per_user", -1),
        ("Surest", plan.chance, "chance", -1),
    )
    return [
        name
        for name, value, field, sign in figures
        if sign * value <= min(sign * getattr(each, field) for each in rivals)
    ]


def _difference(best: Plan, plan: Plan) -> str:
    """Return how a plan's cost, TTFT and speed differ from the first plan's."""
    pairs = (
        ("cost per token", best.cost_per_million_tokens_usd, plan.cost_per_million_tokens_usd),
        ("TTFT", best.ttft_s, plan.ttft_s),
        ("tokens/s per user", best.tokens_per_s_per_user, plan.tokens_per_s_per_user),
    )
    told = [
        f"{name} {100 * (after / before - 1):+.0f} %"
        for name, before, after in pairs
        if before and abs(after / before - 1) >= LEAST_TOLD
    ]
    devices = plan.devices - best.devices
    told += [f"{abs(devices)} {'more' if devices > 0 else 'fewer'} devices"] if devices else []
    return ", ".join(told) or "no difference of 1 %"


def _next_replica(group: ReplicaGroup, after: NextReplica) -> str:
    before, there = group.service, "free" if after.is_free else "not free in the cluster"
    rate = before.tokens_per_s_per_user.value
    changes = (
        f"TTFT {number(before.ttft_s.value / MILLI)} to {number(after.ttft_s / MILLI)} ms",
        f"{number(rate)} to {number(after.tokens_per_s_per_user)} tokens/s per user"
        if rate
        else "",
        f"{number(group.cost_per_million_tokens_usd)} to "
        f"{number(after.cost_per_million_tokens_usd)} USD per million tokens",
    )
    told = ", ".join(filter(None, changes))
    return f"One more replica ({after.devices} x {group.label.name}, {there}): {told}."
