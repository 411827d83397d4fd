"""Disaggregated deployments of a cluster: which pools may be joined, the best as plans, reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from budsim.hardware_ops.cluster import Cluster, HardwareMode
from budsim.performance.candidates import Integers
from budsim.performance.prefixes import PrefixSet
from budsim.simulator.planning.choices import ServingOption
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.plans import Outcome, Plan, Rejection
from budsim.simulator.planning.pool_finalists import Groups, closer_look, finalists, no_more_workers
from budsim.simulator.planning.pool_groups import pool_plans
from budsim.simulator.planning.pool_search import (
    JudgedPools,
    PairedPools,
    as_launched,
    judge_pools,
    pair_workers,
    replayed_pools,
    starting,
)
from budsim.simulator.planning.pool_workers import (
    DecodeWorkers,
    PrefillWorkers,
    decode_workers,
    prefill_workers,
    why_no_pipelines,
)
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.scoring import Scoring
from budsim.simulator.planning.taste import in_order, without_filler_pipelines

# Deployments of a cluster that are shown.
SHOWN: Final = 4
# Pairs of device types and engine whose best deployments are launched and placed.
PAIRS_LAUNCHED: Final = 6

SUBJECT: Final = "prefill and decode pools"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Deployments of two options on ``groups``, and the rows of the ``best`` that can be placed."""

    name: str
    groups: Groups
    judged: JudgedPools
    best: Integers

    @property
    def rank(self) -> tuple[float, float]:
        """Shortfall and cost of the best deployment, by which pairs are compared."""
        row = self.best[0]
        judged = self.judged
        return float(judged.judged.shortfall[row]), float(judged.usd_per_million_tokens[row])


@dataclass(frozen=True, kw_only=True)
class PoolSearch:
    """What may be chosen on a cluster, and the workers that may be made of it."""

    question: Question
    cluster: Cluster
    options: tuple[ServingOption, ...]

    def answer(self) -> Outcome:
        """Return the best disaggregated plans, and reasons for pools that are in none."""
        reason = why_no_pools(self.question)
        if reason:
            return Outcome(plans=(), rejections=(self._rejection(SUBJECT, reason),), evaluations=0)
        found, reasons = list[_Pair](), list[Rejection]()
        for prefill, decode in self._pairs():
            reason = self._why_not(prefill, decode)
            pair = None if reason else self._judged(prefill, decode)
            if pair:
                found.append(pair)
            # What the whole cluster says of these devices is not said again of one rack.
            elif prefill not in self._racks:
                named = _named(self.options[prefill], self.options[decode])
                why = reason or self._why_none(prefill, decode)
                reasons.append(self._rejection(named, why))
        plans, unplanned = list[Plan](), list[Rejection]()
        # The best pairs are launched and placed; the others are known to be worse.
        for pair in sorted(found, key=lambda pair: pair.rank)[:PAIRS_LAUNCHED]:
            made = self._plans(pair)
            plans += made
            if not made:
                unplanned.append(self._rejection(pair.name, self._why_no_plan()))
        plans = without_filler_pipelines(in_order(plans))
        return Outcome(
            plans=tuple(plans[:SHOWN]),
            rejections=(*reasons, *(() if plans else unplanned)),
            evaluations=sum(len(pair.judged.paired) for pair in found),
        )

    @cached_property
    def _scoring(self) -> Scoring:
        return Scoring(self.question, self.options)

    @cached_property
    def _prefill(self) -> dict[int, PrefillWorkers]:
        return {at: prefill_workers(self._scoring, at) for at in self._able}

    @cached_property
    def _decode(self) -> dict[int, DecodeWorkers]:
        return {at: decode_workers(self._scoring, at) for at in self._able}

    @cached_property
    def _able(self) -> list[int]:
        """Options whose devices can be both pools."""
        return [at for at in range(len(self.options)) if not self._why_not(at, at)]

    @cached_property
    def _racks(self) -> set[int]:
        """Options that are others within one rack, see `with_racks`."""
        parts = {
            (option.engine.name, option.group.largest_domain.nodes)
            for option in self.options
            if option.group.largest_domain is not option.group
        }
        pairs = enumerate((each.engine.name, each.group.nodes) for each in self.options)
        return {at for at, part in pairs if part in parts}

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Yield options of one engine: on the same devices, or on two types of device."""
        alone = [at for at in self._able if at not in self._racks]
        for at, first in enumerate(self.options):
            yield at, at
            for other in alone if at in alone else ():
                second = self.options[other]
                if first.engine is second.engine and first.group.device != second.group.device:
                    yield at, other

    def _why_not(self, prefill: int, decode: int) -> str:
        """Return why the pools of two options cannot be joined, or nothing."""
        first, second = self.options[prefill], self.options[decode]
        reason = first.engine.why_no_pools(
            self.question.architecture, first.group.device, second.group.device
        )
        if not reason and link_between(first.group, second.group) <= 0:
            reason = "no link joins these devices: KV caches cannot be transferred"
        return reason or ""

    def _why_none(self, prefill: int, decode: int) -> str:
        """Return why two options have no plan."""
        traffic = self.question.traffic
        if traffic.is_open and len(self._prefill[prefill]) and len(self._decode[decode]):
            most = self._largest_rate(prefill, decode)
            if most > traffic.rate:
                return f"unstable: no whole numbers of workers carry {traffic.rate:,.4g} requests/s"
            return (
                f"unstable: {traffic.rate:,.4g} requests/s come and pools on these devices carry "
                f"{most:,.3g} at most"
            )
        return self._why_too_large(prefill, decode)

    def _why_no_plan(self) -> str:
        """Return why none of the best deployments of two options is a plan."""
        traffic = self.question.traffic
        if traffic.is_open:
            return f"unstable: {traffic.rate:,.4g} requests/s come, and queues grow without end"
        return "no worker holds its drafter and one sequence: ask for no speculation, or another"

    def _why_too_large(self, prefill: int, decode: int) -> str:
        """Return why two options have no workers, no pair of workers, or no room for both."""
        first, second = self._prefill[prefill], self._decode[decode]
        groups = self.options[prefill].group, self.options[decode].group
        for role, workers, at in (("prefill", first, prefill), ("decode", second, decode)):
            if not len(workers):
                return self._why_no_workers(role, at)
        needed = [int(each.choices.replica_devices.min()) for each in (first, second)]
        if groups[0] is groups[1] and sum(needed) > groups[0].devices:
            return (
                f"a prefill worker takes {needed[0]} devices at least and a decode worker "
                f"{needed[1]}, and there are {groups[0].devices}"
            )
        return "no prefill and decode worker of one format have room beside each other"

    def _why_no_workers(self, role: str, at: int) -> str:
        """Return why no worker of a pool holds the model."""
        option = self.options[at]
        most, pipelines = max(option.tp), "decode workers are no pipelines"
        if role == "prefill":
            pipelines = why_no_pipelines(self._scoring, at)
            most = most if pipelines else option.group.devices
        told = f"no {role} worker of up to {most} devices holds the weights and one sequence"
        return f"{told}; {pipelines}" if pipelines else told

    def _largest_rate(self, prefill: int, decode: int) -> float:
        """Return about how many requests/s the best pools of two options carry.

        A request takes a prefill worker for its prompt, and its share of a full decode worker.
        """
        first, second = self._prefill[prefill], self._decode[decode]
        prompt_s = float((first.times.prompt_s * first.choices.replica_devices).min())
        token_s = second.curves.of(np.arange(len(second)))(second.places)
        further = max(self.question.traffic.output_tokens - 1.0, 1.0)
        decode_s = float((further * token_s / second.places * second.choices.tp).min())
        groups = self.options[prefill].group, self.options[decode].group
        if groups[0] is groups[1]:
            return groups[0].devices / (prompt_s + decode_s)
        return min(groups[0].devices / prompt_s, groups[1].devices / decode_s)

    def _judged(self, prefill: int, decode: int) -> _Pair | None:
        """Return the deployments of two options, or None where none can be placed."""
        groups = self.options[prefill].group, self.options[decode].group
        paired = pair_workers(
            self.question,
            self._prefill[prefill],
            self._decode[decode],
            groups,
            link_between(*groups),
            same_ranks=self.options[prefill].engine.needs_equal_pools(self.question.architecture),
        )
        if not len(paired):
            return None
        judged = judge_pools(self.question, paired)
        if not self.question.traffic.is_open:
            judged = closer_look(self.question, judged)
        best = finalists(self.question, judged, groups, judged.ranking())
        name = _named(self.options[prefill], self.options[decode])
        return _Pair(name=name, groups=groups, judged=judged, best=best) if len(best) else None

    def _plans(self, pair: _Pair) -> list[Plan]:
        """Return the best deployments of a pair as plans, predicted as they are launched."""
        launched = self._launched(pair)
        if not len(launched):
            return []
        judged = replayed_pools(self.question, judge_pools(self.question, launched))
        return pool_plans(self._scoring, self.cluster, judged, pair.groups)

    def _launched(self, pair: _Pair) -> PairedPools:
        """Return the best deployments of a pair that start, with the limits they start with.

        A drafter that gains with few requests of each worker takes memory of both. Where one does
        not start, those of its layouts with no more workers are not tried either.
        """
        judged, order, best = pair.judged, pair.judged.ranking(), pair.best
        while True:
            in_flight = judged.pools.concurrency[best]
            launched = as_launched(self._scoring, judged.paired.rows(best), in_flight)
            starts = starting(self._scoring, launched) if len(best) else np.ones(0, dtype=bool)
            if starts.all():
                return launched
            for row in best[~starts].tolist():
                order = order[~no_more_workers(judged.paired, order, row)]
            best = finalists(self.question, judged, pair.groups, order)

    def _rejection(self, subject: str, reason: str) -> Rejection:
        return Rejection(cluster_id=self.cluster.cluster_id, subject=subject, reason=reason)


def why_no_pools(question: Question) -> str:
    """Return why no pools are proposed for a question whatever the devices, or nothing."""
    if question.mode is HardwareMode.SHARED:
        return "workers of pools take whole devices, and shares of devices are asked for"
    if question.layout and question.layout.pp > 1:
        return (
            f"a layout of {question.layout.pp} stages (pp) is asked for, and decode workers are no "
            "pipelines: ask for pp 1"
        )
    prefix = question.traffic.prefix
    if isinstance(prefix, PrefixSet) and prefix.by_prefix:
        return (
            "routers of pools send prompts in turn, and route_by_prefix sends them by prefix: ask "
            "for one of both"
        )
    if question.traffic.output.most == 1:
        return "one output token comes from prefill: nothing is left to decode"
    return ""


def without_adapters(
    question: Question, options: Sequence[ServingOption]
) -> tuple[ServingOption, ...]:
    """Return options whose workers are started without the LoRA slots that a deployer adds.

    Those that the question asks for stay, in both pools.
    """
    if question.max_loras:
        return tuple(options)
    return tuple(replace(option, max_loras=0) for option in options)


def with_racks(options: Sequence[ServingOption]) -> tuple[ServingOption, ...]:
    """Return options, and beside those over several racks the same within one, which is linked.

    Between racks caches go over the network. Two NVL72 are pools over both, or in either.
    """
    racks = [
        replace(option, group=rack)
        for option in options
        if (rack := option.group.largest_domain) is not option.group
    ]
    return (*options, *racks)


def with_better_pools(question: Question, plain: Sequence[Plan], found: Outcome) -> Outcome:
    """Return plans of both kinds, best first; pools only where they rank before every plain plan.

    Why the best pools are not shown is one reason more.
    """
    plans = in_order([*plain, *found.plans])
    if question.disaggregation is Disaggregation.ONLY or not plain or not found.plans:
        return replace(found, plans=tuple(plans))
    if plans[0].is_disaggregated:
        return replace(found, plans=tuple(plans))
    return replace(found, plans=tuple(plain), rejections=(*found.rejections, _needless(plans)))


def link_between(prefill: HardwareGroup, decode: HardwareGroup) -> float:
    """Return bytes per second between a device of each group.

    Over the network between nodes. Where all devices of both are in one node or one rack-scale
    domain (NVL72), over its own link.
    """
    devices = (prefill.device, decode.device)
    nodes = {each.node.node_id for each in (*prefill.nodes, *decode.nodes)}
    if len(nodes) == 1 or (prefill is decode and prefill.is_one_domain):
        return min(device.scale_up.bandwidth_bytes_per_s for device in devices)
    return min(device.scale_out.bandwidth_bytes_per_s for device in devices)


def _needless(plans: Sequence[Plan]) -> Rejection:
    """Return why the best pools are not shown beside a plain plan that ranks before them."""
    best = next(plan for plan in plans if plan.is_disaggregated)
    prefill, decode = best.groups
    layout = " + ".join(
        f"{group.replicas} x {group.label.name} tp={group.config.tp}"
        + (f" pp={group.config.pp}" if group.config.pp > 1 else "")
        for group in (prefill, decode)
    )
    return Rejection(
        cluster_id=best.cluster_id,
        subject=SUBJECT,
        reason=f"not better than a plain plan: {_behind(best, plans[0])}; nearest: {layout}",
    )


def _behind(pools: Plan, plain: Plan) -> str:
    """Return what ranks pools behind a plain plan: the targets, or else the cost."""
    if not pools.meets_targets and plain.meets_targets:
        return f"they meet the targets with a chance of {pools.chance:.0%} only"
    misses = [f"{each.error_rate:.0%}" for each in (pools, plain)]
    if pools.error_rate > plain.error_rate and misses[0] != misses[1]:
        return f"they miss the targets by {misses[0]}, a plain plan by {misses[1]}"
    chances = [f"{each.chance:.0%}" for each in (pools, plain)]
    if pools.shortfall > plain.shortfall and chances[0] != chances[1]:
        return f"they meet the targets with a chance of {chances[0]}, a plain plan of {chances[1]}"
    cost = pools.cost_per_million_tokens_usd / plain.cost_per_million_tokens_usd - 1.0
    if f"{abs(cost):.0%}" == "0%":
        return "they cost as much"
    return f"they cost {cost:.0%} more" if cost > 0 else f"they save {-cost:.0%}, too little"


def _named(prefill: ServingOption, decode: ServingOption) -> str:
    """Return the name of two pools: ``H100-SXM -> L40S pools, vllm``."""
    names = dict.fromkeys(option.group.label.name for option in (prefill, decode))
    return f"{' -> '.join(names)} pools, {prefill.engine.name}"
