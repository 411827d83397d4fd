"""Plans for people: the table, how the best plan is started, and why it is as good as it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING

from budsim.api import words
from budsim.api.pools import router_command, router_of, router_text
from budsim.api.prices import energy_text, price_text
from budsim.cli import cells, hints, tables
from budsim.cli.replay_tables import print_requests
from budsim.commons.units import GIB, MILLI
from budsim.simulator.planning.taste import toss_ups

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from budsim.simulator.planning.plans import Explanation, Outcome, Plan, Rejection, ReplicaGroup
    from budsim.simulator.planning.question import Question

PLANS_SHOWN, REJECTIONS_SHOWN = 8, 8
# Smaller shares of a request's time are left out.
LEAST_SHARE_TOLD = 0.01


def print_outcome(question: Question, outcome: Outcome, *, explain: bool = False) -> None:
    """Print the plans, how the best one is started, why it is so good, and what was rejected.

    With ``explain`` every plan is explained, and every rejection is listed.
    """
    console = tables.console()
    names = {cluster.cluster_id: cluster.name for cluster in question.clusters}
    console.print(
        f"[bold]{question.architecture.model_id}[/bold]: {words.question_text(question)}; "
        f"{outcome.evaluations} configurations compared"
    )
    if outcome.plans:
        shown = outcome.plans[:PLANS_SHOWN]
        console.print(plan_table(question, shown, names))
        _print_notes(console, question, outcome)
        print_requests(console, question, shown)
        _print_launch(console, question, shown[0])
        console.print(f"price: {price_text(question, shown[0])}", soft_wrap=True)
        console.print(f"energy: {energy_text(question, shown[0])}\n", soft_wrap=True)
        _print_length_note(console, question)
        for number, plan in enumerate(shown if explain else shown[:1], start=1):
            _print_explanation(console, question, plan, number)
    else:
        console.print("[bold red]nothing fits[/bold red]")
    print_rejections(console, outcome.rejections, names, most=None if explain else REJECTIONS_SHOWN)


def plan_table(question: Question, plans: tuple[Plan, ...], names: Mapping[str, str]) -> Table:
    """Return a table of plans, best first; ``names`` are those of the clusters."""
    service = cells.service_columns(question)
    headings = ("plan", "targets", *service, "USD/Mtok>", "USD/h>")
    rows = [
        (
            f"{number}. {cells.headline(plan, names)}\n   [dim]{_remarks(plan, plans)}[/dim]",
            cells.verdict(question, plan),
            *cells.plan_service(plan),
            cells.price(plan.cost_per_million_tokens_usd),
            cells.hourly_price(plan),
        )
        for number, plan in enumerate(plans, start=1)
    ]
    # Without cost per hour, requests/s and latency a plan can still be chosen.
    return tables.fitted_table(headings, rows, ("USD/h>", service[-1], service[-2]))


def _remarks(plan: Plan, plans: Sequence[Plan]) -> str:
    """Return what limits a plan, what marks it, and how it differs from the first."""
    marks = [
        cells.limits(plan.slowest.service),
        "rent estimated" if plan.has_estimated_price else "",
        "knee" if plan.is_knee else "",
        "toss-up with 1" if any(plan is each for each in toss_ups(plans)) else "",
        cells.compared(plan, plans[0]),
    ]
    return "; ".join(filter(None, marks))


def print_rejections(
    console: Console,
    rejections: tuple[Rejection, ...],
    names: Mapping[str, str],
    most: int | None = None,
) -> None:
    """Print what is not in the answer and why; without ``names`` no cluster is named."""
    if not rejections:
        return
    rejected = tables.table("rejected", "devices>", "why")
    for each in rejections[:most]:
        where = f"{names.get(each.cluster_id, each.cluster_id)}: " if names else ""
        rejected.add_row(f"{where}{each.subject}", str(each.devices or "-"), each.reason)
    console.print(rejected)
    if most is not None and len(rejections) > most:
        console.print(f"and {len(rejections) - most} more: --explain lists them", style="dim")


def _print_notes(console: Console, question: Question, outcome: Outcome) -> None:
    console.print(cells.RANGE_NOTE, style="dim")
    if question.targets:
        console.print(
            f"sure: the chance that a measurement meets all targets; {words.risk_text(question)}",
            style="dim",
        )
    for note in _marks_told(outcome.plans[:PLANS_SHOWN]):
        console.print(note, style="dim")


def _marks_told(shown: Sequence[Plan]) -> Iterator[str]:
    """Yield what the marks in the table of plans stand for."""
    if any(plan.has_estimated_price for plan in shown):
        yield cells.ESTIMATE_NOTE
    if any(plan.is_knee for plan in shown):
        yield "knee: the best compromise of cost, number of devices and latency"
    if toss_ups(shown):
        yield (
            "toss-up: its cost differs by less than our predictions can tell; the simpler plan "
            "comes first"
        )
    if any(group.config.dp > 1 for plan in shown for group in plan.groups):
        yield (
            "tp counts all devices of a replica's stage. attn-dp4: attention runs in 4 ranks of "
            "tp/4 devices each\n(vLLM: --tensor-parallel-size tp/4 --data-parallel-size 4)"
        )


def _print_launch(console: Console, question: Question, plan: Plan) -> None:
    for number, group in enumerate(plan.groups):
        told = _part_text(plan, group)
        named = "[bold]and[/bold]" if number else "[bold]best plan[/bold]"
        nodes = dict.fromkeys(part.node_name for replica in group.placements for part in replica)
        console.print(
            f"\n{named}: {group.replicas} x {group.label.name} on {', '.join(nodes)}{told}; "
            f"image {group.launch.image}"
        )
        hints.print_quantization(console, question.architecture, group)
        settings = [f"{name}={shlex.quote(value)}" for name, value in group.launch.envs.items()]
        command = " ".join([*settings, shlex.join(group.launch.command)])
        # Neither colours nor line breaks: people copy it. Square brackets are no markup.
        console.print(command, markup=False, soft_wrap=True)
        console.print(f"memory of a device: {_memory_text(group)}")
        hints.print_guesses(console, group)
    if plan.is_disaggregated:
        _print_router(console, plan)


def _part_text(plan: Plan, group: ReplicaGroup) -> str:
    """Return which part of the work a replica of a group does, where there are several groups."""
    if plan.is_disaggregated:
        return f" ({group.role} workers)"
    whole = plan.requests_per_s
    share = group.service.requests_per_s.value / whole if whole else 0.0
    return f" (each gets {share:.1%} of the requests)" if len(plan.groups) > 1 else ""


def _print_router(console: Console, plan: Plan) -> None:
    """Print what starts the router before both pools."""
    told = router_text(router_of(plan), plan.groups[0].service.ttft_s.value)
    console.print(f"\n[bold]and[/bold]: the router before both pools: {told}", soft_wrap=True)
    console.print(shlex.join(router_command(plan)), markup=False, soft_wrap=True)
    console.print(
        "workers of one node need ports of their own, and vLLM's tell each other their nodes: "
        "budsim render --format command\nwrites each command in full",
        style="dim",
    )


def _print_length_note(console: Console, question: Question) -> None:
    """Say that longer requests are refused, where all were said to have the same length."""
    traffic, longest = question.traffic, question.traffic.context_tokens
    if longest == traffic.mean_tokens and traffic.output_tokens:
        console.print(
            f"The server refuses requests of more than {longest} tokens and a tenth: all were said "
            "to be of equal length.\nIf yours vary, say how: --max-input-tokens or --lengths.\n",
            style="dim",
        )


def _memory_text(group: ReplicaGroup) -> str:
    memory = group.memory
    parts = (
        f"weights {memory.weight_bytes / GIB:.1f}",
        f"KV cache {memory.kv_cache_bytes / GIB:.1f}",
        f"activations {memory.activation_bytes / GIB:.1f}",
        f"reserve {memory.reserved_bytes / GIB:.1f}",
    )
    return f"{', '.join(parts)} of {memory.budget_bytes / GIB:.1f} GiB"


def _print_explanation(console: Console, question: Question, plan: Plan, number: int) -> None:
    """Say where a request's time goes, how close each target is, and what more replicas change.

    All of it is about the plan's slowest group.
    """
    if number > 1:
        console.print(
            f"[bold]plan {number}[/bold]: memory of a device: {_memory_text(plan.slowest)}"
        )
    group, explanation = plan.slowest, plan.slowest.explanation
    shares = sorted(explanation.time_shares.items(), key=lambda share: -share[1])
    told = [f"{cause} {share:.0%}" for cause, share in shares if share >= LEAST_SHARE_TOLD]
    console.print(f"a request's time: {', '.join(told)}")
    reader = plan.prompt_reader
    _print_host_tier(console, reader)
    if reader.explanation.encoder_s:
        console.print(
            f"its images, video and audio: {question.traffic.item_tokens:,} prompt tokens; their "
            f"encoder takes {reader.explanation.encoder_s / MILLI:.0f} ms of the device"
        )
    _print_room(console, explanation)
    _print_next_replica(console, group)
    console.print()


def _print_host_tier(console: Console, group: ReplicaGroup) -> None:
    """Say where shared prefixes are found, and what host memory and a store gain."""
    tier = group.explanation.host_tier
    if tier is None:
        return
    found = f"prefixes: {tier.device_share:.0%} found on the device"
    again = f"{tier.missed_share:.0%} computed again"
    if not tier.host_bytes and not tier.store_bytes:
        console.print(f"{found}, {again} (--kv-offload-gib: none here)")
        return
    before = tier.ttft_without_s / MILLI
    without = "the traffic is not carried" if isnan(before) else f"TTFT is {before:.0f} ms"
    tiers = [
        (tier.host_share, tier.host_bytes, "host memory"),
        (tier.store_share, tier.store_bytes, "the store of all replicas"),
    ]
    parts = [
        f"{share:.0%} in {size / GIB:,.0f} GiB of {name}" for share, size, name in tiers if size
    ]
    names = " and ".join(name for _, size, name in tiers if size)
    console.print(f"{found}, {', '.join(parts)}, {again}; without {names} {without}")


def _print_room(console: Console, explanation: Explanation) -> None:
    rooms = sorted(explanation.headroom.items(), key=lambda room: room[1])
    told = [
        f"{words.figure_name(name)} {abs(room):.0%}" + (" (missed)" if room < 0 else "")
        for name, room in rooms
    ]
    if told:
        console.print(f"how much worse each may get before its target is missed: {', '.join(told)}")


def _print_next_replica(console: Console, group: ReplicaGroup) -> None:
    after = group.explanation.next_replica
    if not after:
        return
    before, there = group.service, "free" if after.is_free else "not free in the cluster"
    rate = before.tokens_per_s_per_user.value
    costs = (group.cost_per_million_tokens_usd, after.cost_per_million_tokens_usd)
    changes = (
        f"TTFT {before.ttft_s.value / MILLI:.0f} -> {after.ttft_s / MILLI:.0f} ms",
        f"{rate:.1f} -> {after.tokens_per_s_per_user:.1f} tokens/s per user" if rate else "",
        f"{cells.price(costs[0])} -> {cells.price(costs[1])} USD/Mtok",
    )
    console.print(
        f"one more replica ({after.devices} x {group.label.name}, {there}): "
        f"{', '.join(filter(None, changes))}"
    )
