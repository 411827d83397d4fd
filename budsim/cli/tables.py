"""How answers look in the terminal: tables for people, JSON documents for programs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from budsim.commons.units import GIB, MILLI

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from budsim.simulator.planning.question import (
        Figure,
        Outcome,
        Plan,
        PredictedService,
        Question,
        Rejection,
        ReplicaGroup,
    )
    from budsim.simulator.planning.sizing import Capacity, Sized
    from budsim.simulator.planning.whatif import Changed

PLANS_SHOWN = 8
NO_TERMINAL_COLUMNS = 120
LEAST_SHARE_TOLD = 0.01
TARGETS = {"ttft_s": "TTFT", "e2e_s": "end to end", "tokens_per_s_per_user": "tokens/s per user"}


def write_json(document: Mapping[str, Any]) -> None:
    """Print a document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def outcome_document(question: Question, outcome: Outcome) -> dict[str, Any]:
    """Return the answer in the wire's names, without what differs between two runs (ids of runs, times)."""
    from budsim.simulator.schemas import ClusterMetrics, DeploymentConfiguration, stored_plans

    stored = stored_plans(outcome, question, keep=len(outcome.plans))
    best = {plan.cluster_id: plan for plan in reversed(stored)}
    return {
        "object": "cluster_recommendations",
        "model": question.architecture.model_id,
        "input_tokens": question.workload.input_tokens,
        "output_tokens": question.workload.output_tokens,
        "recommendations": [
            ClusterMetrics.of(plan).model_dump(mode="json")
            for plan in stored
            if plan is best[plan.cluster_id]
        ],
        "knees": [plan.groups[0].config_id for plan in outcome.plans if plan.is_knee],
        "configurations": [
            DeploymentConfiguration.of(plan).model_dump(mode="json") for plan in stored
        ],
        "reasons": _reasons(outcome.rejections),
        "evaluations": outcome.evaluations,
        "seed": question.seed,
    }


def capacity_document(question: Question, found: Iterable[Capacity]) -> dict[str, Any]:
    """Return what clusters carry, in the wire's names."""
    clusters = [
        {
            "cluster_id": each.cluster.cluster_id,
            "concurrency": each.concurrency,
            "configuration": _configuration(question, each.plan) if each.plan else None,
            "refused_concurrency": each.refused or None,
            "configuration_beyond": _configuration(question, each.beyond) if each.beyond else None,
            "reasons": _reasons(each.rejections),
        }
        for each in found
    ]
    return {
        "object": "capacities",
        "model": question.architecture.model_id,
        "clusters": clusters,
        "seed": question.seed,
    }


def sized_document(question: Question, found: Sized) -> dict[str, Any]:
    """Return device sets, in the wire's names."""
    sets = [
        {
            "device": each.device.name,
            "devices": each.plan.devices,
            "usd_per_hour": each.plan.cost_usd_per_h,
            "usd_per_hour_source": each.device.sources.get("price_usd_per_h"),
            "purchase_usd": each.purchase_usd,
            "configuration": _configuration(question, each.plan),
        }
        for each in found.sets
    ]
    return {
        "object": "device_sets",
        "model": question.architecture.model_id,
        "sets": sets,
        "reasons": _reasons(found.rejections),
        "evaluations": found.evaluations,
        "seed": question.seed,
    }


def changes_document(question: Question, changes: Iterable[Changed]) -> list[dict[str, Any]]:
    """Return what changed knobs do, each with the node group before and after."""
    from budsim.simulator.schemas import node_group

    return [
        {
            "knob": each.knob,
            "value": each.value,
            "before": node_group(each.before, question).model_dump(mode="json"),
            "after": node_group(each.after, question).model_dump(mode="json")
            if each.after
            else None,
            "problem": each.problem or None,
        }
        for each in changes
    ]


def print_outcome(question: Question, outcome: Outcome) -> None:
    """Print plans, how the best one is launched and why it is as good as it is, and what was rejected."""
    console = _console()
    names = {cluster.cluster_id: cluster.name for cluster in question.clusters}
    console.print(
        f"[bold]{question.architecture.model_id}[/bold]: {question.workload.concurrency} {_traffic(question)}; "
        f"{outcome.evaluations} configurations looked at"
    )
    if outcome.plans:
        console.print(_plan_table(question, outcome.plans[:PLANS_SHOWN], names))
        console.print("ranges in brackets hold 90 % of what will be measured", style="dim")
        _print_launch(console, outcome.plans[0])
        _print_explanation(console, outcome.plans[0])
    else:
        console.print("[bold red]nothing fits[/bold red]")
    _print_rejections(console, outcome.rejections, names)


def print_capacities(question: Question, found: Iterable[Capacity]) -> None:
    """Print what each cluster carries, the plan that does, and what gives way beyond."""
    console = _console()
    console.print(f"[bold]{question.architecture.model_id}[/bold]: {_traffic(question)}")
    for each in found:
        names = {each.cluster.cluster_id: each.cluster.name}
        if each.plan is None:
            console.print(f"\n[bold red]{each.cluster.name} carries none[/bold red]")
            _print_rejections(console, each.rejections, names)
            continue
        console.print(
            f"\n[bold]{each.cluster.name} carries {each.concurrency} requests at a time[/bold]"
        )
        console.print(_plan_table(question, (each.plan,), names))
        if each.beyond:
            missed = [
                TARGETS[name]
                for name, room in each.beyond.slowest.explanation.headroom.items()
                if room < 0
            ]
            console.print(
                f"{each.refused} are too many: the best plan for them misses {', '.join(missed)}"
            )


def print_sized(question: Question, found: Sized) -> None:
    """Print device sets, cheapest first."""
    console = _console()
    console.print(
        f"[bold]{question.architecture.model_id}[/bold]: {question.workload.concurrency} {_traffic(question)}"
    )
    sets = table(
        "devices",
        "targets",
        "TTFT ms>",
        _rate_column(question),
        "e2e s>",
        "USD/h>",
        "USD to buy>",
        "USD/Mtok>",
    )
    for number, each in enumerate(found.sets, start=1):
        sets.add_row(
            f"{number}. {each.plan.devices} x {each.device.name}\n   [dim]{_headline(each.plan, {})}[/dim]",
            *_service_cells(each.plan),
            f"{each.plan.cost_usd_per_h:.2f}" + ("*" if each.is_owned else ""),
            f"{each.purchase_usd:,.0f}",
            _price(each.plan.cost_per_million_tokens_usd),
        )
    console.print(sets)
    console.print(
        "ranges hold 90 % of what will be measured; prices are the catalog's, without the machines around",
        style="dim",
    )
    if any(each.is_owned for each in found.sets):
        console.print(
            "* no rent is known: what owning costs, which is less than renting", style="dim"
        )
    _print_rejections(console, found.rejections, {})


def print_changes(question: Question, changes: Iterable[Changed]) -> None:
    """Print the best plan's group before and after each change."""
    rows = table(
        "what if", "TTFT ms>", _rate_column(question), "e2e s>", "USD/Mtok>", "USD/h>", "bound by"
    )
    for number, each in enumerate(changes):
        if not number:
            rows.add_row(f"as it is: {_described(each.before)}", *_change_cells(each.before))
        what = f"{each.knob}={each.value}"
        rows.add_row(
            *((what, *_change_cells(each.after)) if each.after else (f"{what} {each.problem}",))
        )
    show(rows)


def table(*columns: str) -> Table:
    """Return an empty table; a column whose name ends in ``>`` is of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(
            column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold"
        )
    return made


def show(shown: Table) -> None:
    """Print a table."""
    _console().print(shown)


def _change_cells(group: ReplicaGroup) -> tuple[str, ...]:
    service = group.service
    return (
        _range(service.ttft_s, 1 / MILLI, ".0f"),
        _rate_cell([group]),
        _range(service.e2e_s, 1.0, ".2f"),
        _price(group.cost_per_million_tokens_usd),
        f"{group.cost_usd_per_h:.2f}",
        service.bound_by,
    )


def _reasons(rejections: Iterable[Rejection]) -> list[Any]:
    from budsim.simulator.schemas import Reason

    return [Reason.of(rejection).model_dump(mode="json") for rejection in rejections]


def _configuration(question: Question, plan: Plan) -> Any:
    """Return a plan as callers deploy it."""
    from budsim.simulator.planning.question import Outcome
    from budsim.simulator.schemas import DeploymentConfiguration, stored_plans

    outcome = Outcome(plans=(plan,), rejections=(), evaluations=0)
    return DeploymentConfiguration.of(stored_plans(outcome, question, keep=1)[0]).model_dump(
        mode="json"
    )


def _print_rejections(
    console: Console, rejections: tuple[Rejection, ...], names: Mapping[str, str]
) -> None:
    """Print why things are missing; ``names`` are those of clusters, where they matter."""
    if not rejections:
        return
    rejected = table("rejected", "devices>", "why")
    for each in rejections:
        where = f"{names.get(each.cluster_id, each.cluster_id)}: " if names else ""
        rejected.add_row(f"{where}{each.subject}", str(each.devices or "-"), each.reason)
    console.print(rejected)


def _traffic(question: Question) -> str:
    return f"requests of {question.workload} at a time; {_targets_text(question)}"


def _targets_text(question: Question) -> str:
    targets = question.targets
    parts = [
        f"TTFT <= {targets.ttft_s / MILLI:g} ms" if targets.ttft_s else "",
        f">= {targets.tokens_per_s_per_user:g} tokens/s per user"
        if targets.tokens_per_s_per_user
        else "",
        f"end to end <= {targets.e2e_s:g} s" if targets.e2e_s else "",
    ]
    return ", ".join(filter(None, parts)) or "no targets"


def _plan_table(question: Question, plans: tuple[Plan, ...], names: Mapping[str, str]) -> Table:
    rows = table(
        "plan",
        "targets",
        "TTFT ms>",
        _rate_column(question),
        "e2e s>",
        "USD/Mtok>",
        "USD/h>",
        "bound by",
    )
    for number, plan in enumerate(plans, start=1):
        service = plan.slowest.service
        rows.add_row(
            f"{number}. {_headline(plan, names)}"
            + ("\n   [dim]knee[/dim]" if plan.is_knee else ""),
            *_service_cells(plan),
            _price(plan.cost_per_million_tokens_usd),
            f"{plan.cost_usd_per_h:.2f}",
            f"{service.bound_by}\n[dim]{service.basis}{_novelty(service)}[/dim]",
        )
    return rows


def _service_cells(plan: Plan) -> tuple[str, ...]:
    """Return whether the targets are met, and TTFT, rate and latency of the groups where they are worst, with their ranges."""
    services = [group.service for group in plan.groups]
    return (
        "[green]met[/green]" if plan.meets_targets else f"[red]missed\n{plan.error_rate:.0%}[/red]",
        _range(
            max((each.ttft_s for each in services), key=lambda figure: figure.value),
            1 / MILLI,
            ".0f",
        ),
        _rate_cell(plan.groups),
        _range(max((each.e2e_s for each in services), key=lambda figure: figure.value), 1.0, ".2f"),
    )


def _rate_column(question: Question) -> str:
    return "tok/s/user>" if question.workload.output_tokens else "requests/s>"


def _rate_cell(groups: Sequence[ReplicaGroup]) -> str:
    """Return the output tokens/s of a user where they are fewest; of pooling models the requests/s of all replicas."""
    slowest = min(
        (group.service.tokens_per_s_per_user for group in groups), key=lambda figure: figure.value
    )
    if slowest.value:
        return _range(slowest, 1.0, ".1f")
    ends = ("value", "low90", "high90")
    value, low, high = (
        sum(each.replicas * getattr(each.service.requests_per_s, end) for each in groups)
        for end in ends
    )
    return f"{value:.1f}\n[dim]{low:.1f}-{high:.1f}[/dim]"


def _price(usd: float) -> str:
    """Return a price to the cent, small ones to two digits."""
    return f"{usd:.2f}" if usd >= 1.0 else f"{usd:#.2g}"


def _novelty(service: PredictedService) -> str:
    return "" if service.in_range or service.basis == "analytic" else ", outside training"


def _headline(plan: Plan, names: Mapping[str, str]) -> str:
    where = f"{names.get(plan.cluster_id, plan.cluster_id)}: " if len(names) > 1 else ""
    return where + "\n + ".join(_described(group) for group in plan.groups)


def _described(group: ReplicaGroup) -> str:
    config = group.config
    layout = (
        f"tp{config.tp}"
        + (f" pp{config.pp}" if config.pp > 1 else "")
        + (f" ep{config.ep}" if config.ep > 1 else "")
    )
    layout += f" dp{config.dp}" if config.dp > 1 else ""
    return (
        f"{group.replicas} x {config.device.name} {layout}\n   [dim]{group.engine}, {config.weight_precision} weights, "
        f"{config.kv_precision} KV[/dim]"
    )


def _range(figure: Figure, factor: float, spec: str) -> str:
    value, low, high = (
        format(x * factor, spec) for x in (figure.value, figure.low90, figure.high90)
    )
    return f"{value}\n[dim]{low}-{high}[/dim]"


def _print_launch(console: Console, plan: Plan) -> None:
    whole = sum(group.replicas * group.service.requests_per_s.value for group in plan.groups)
    for number, group in enumerate(plan.groups):
        share = (
            f" (each gets {group.service.requests_per_s.value / whole:.1%} of the requests)"
            if len(plan.groups) > 1
            else ""
        )
        nodes = dict.fromkeys(part.node_name for replica in group.placements for part in replica)
        named = "[bold]best plan[/bold]" if not number else "[bold]and[/bold]"
        console.print(
            f"\n{named}: {group.replicas} x {group.label.name} on {', '.join(nodes)}{share}; image {group.launch.image}"
        )
        settings = [f"{name}={shlex.quote(value)}" for name, value in group.launch.envs.items()]
        console.print(
            " ".join([*settings, shlex.join(group.launch.command)]), markup=False, soft_wrap=True
        )
        memory = group.memory
        parts = (
            f"weights {memory.weight_bytes / GIB:.1f}",
            f"KV cache {memory.kv_cache_bytes / GIB:.1f}",
            f"activations {memory.activation_bytes / GIB:.1f}",
            f"reserve {memory.reserved_bytes / GIB:.1f}",
        )
        console.print(
            f"memory of a device: {', '.join(parts)} of {memory.budget_bytes / GIB:.1f} GiB\n"
        )


def _print_explanation(console: Console, plan: Plan) -> None:
    """Say where the time of the plan's slowest group goes, what room its targets leave, and what one more replica would do."""
    group, explanation = plan.slowest, plan.slowest.explanation
    shares = sorted(explanation.time_shares.items(), key=lambda share: -share[1])
    told = [f"{cause} {share:.0%}" for cause, share in shares if share >= LEAST_SHARE_TOLD]
    console.print(f"a request's time: {', '.join(told)}")
    rooms = sorted(explanation.headroom.items(), key=lambda room: room[1])
    told = [
        f"{TARGETS[name]} {abs(room):.0%}" + (" missed" if room < 0 else "") for name, room in rooms
    ]
    if told:
        console.print(f"room before a target is missed: {', '.join(told)}; the first binds")
    after = explanation.next_replica
    if after:
        before, there = group.service, "free" if after.is_free else "not free in the cluster"
        rate = before.tokens_per_s_per_user.value
        changes = (
            f"TTFT {before.ttft_s.value / MILLI:.0f} -> {after.ttft_s / MILLI:.0f} ms",
            f"{rate:.1f} -> {after.tokens_per_s_per_user:.1f} tokens/s per user" if rate else "",
            f"{_price(group.cost_per_million_tokens_usd)} -> {_price(after.cost_per_million_tokens_usd)} USD/Mtok",
        )
        console.print(
            f"one more replica ({after.devices} x {group.label.name}, {there}): {', '.join(filter(None, changes))}"
        )
    console.print()


def _console() -> Console:
    """Return where answers are printed: as wide as the terminal, wide enough for the tables where there is none."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else NO_TERMINAL_COLUMNS)
