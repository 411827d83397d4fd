"""Capacities and sets of devices for people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from budsim.api import words
from budsim.api.prices import energy_text, price_text
from budsim.cli import cells, tables
from budsim.cli.plan_tables import plan_table, print_rejections
from budsim.cli.replay_tables import print_requests
from budsim.simulator.planning.chances import chance_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from budsim.simulator.planning.device_sets import DeviceSet, SizingResult
    from budsim.simulator.planning.plans import Plan
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.sizing import Capacity


# Characters of the devices of a set, about.
SET_COLUMN = 24
# Devices named for each reason.
NAMED = 4


def print_capacities(question: Question, found: Iterable[Capacity]) -> None:
    """Print how many requests each cluster serves, by which plan, and what fails beyond."""
    console = tables.console()
    console.print(
        f"[bold]{question.architecture.model_id}[/bold]: requests {words.lengths_text(question)}; "
        f"{words.targets_text(question.targets)}"
    )
    for each in found:
        names = {each.cluster.cluster_id: each.cluster.name}
        if each.plan is None:
            console.print(f"\n[bold red]{each.cluster.name} serves none[/bold red]")
            print_rejections(console, each.rejections, names)
            continue
        console.print(f"\n[bold]{each.cluster.name} serves {_served(each, each.plan)}[/bold]")
        console.print(plan_table(question, (each.plan,), names))
        print_requests(console, question, (each.plan,))
        if each.refused or each.refused_rate:
            _print_beyond(console, each)
    console.print(cells.RANGE_NOTE, style="dim")


def _served(capacity: Capacity, plan: Plan) -> str:
    """Return what is served, in flight and in requests/s."""
    if math.isnan(capacity.rate):
        return f"{capacity.concurrency} requests at a time, {plan.requests_per_s:.1f} requests/s"
    replayed = plan.slowest.replayed
    in_flight = plan.slowest.replicas * (replayed.running + replayed.waiting) if replayed else 0.0
    return f"{capacity.rate:.3g} requests/s, about {in_flight:.0f} requests in flight"


def _print_beyond(console: Console, capacity: Capacity) -> None:
    at_a_rate = not math.isnan(capacity.rate)
    refused = f"{capacity.refused_rate:.3g} requests/s" if at_a_rate else str(capacity.refused)
    console.print(f"{refused} are too many: the best plan found {_what_fails(capacity.beyond)}")


def _what_fails(plan: Plan | None) -> str:
    """Return in words what a plan under too much load does; none is not stable."""
    if plan is None:
        return "has queues without end"
    headroom = plan.slowest.explanation.headroom
    missed = [words.figure_name(name) for name, room in headroom.items() if room < 0]
    return f"misses {', '.join(missed)}" if missed else f"is only {chance_text(plan.chance)} sure"


def print_sized(question: Question, found: SizingResult, *, explain: bool = False) -> None:
    """Print sets of devices, cheapest first, and how many others there are for each reason.

    With ``explain`` all others are named.
    """
    console = tables.console()
    console.print(f"[bold]{question.architecture.model_id}[/bold]: {words.question_text(question)}")
    console.print(_sets(question, found))
    _print_notes(console, question, found)
    print_requests(console, question, [each.plan for each in found.sets])
    _print_others(console, found, None if explain else NAMED)


def _sets(question: Question, found: SizingResult) -> Table:
    service = cells.service_columns(question)
    headings = ("devices", "targets", *service, "USD/h>", "USD to buy>", "USD/Mtok>")
    rows = [
        (
            f"{number}. {cells.headline(each.plan, {})}" + _device_count(each),
            cells.verdict(question, each.plan),
            *cells.plan_service(each.plan),
            cells.hourly_price(each.plan),
            f"{each.purchase_usd:,.0f}",
            cells.price(each.plan.cost_per_million_tokens_usd),
        )
        for number, each in enumerate(found.sets, start=1)
    ]
    spare = ("USD to buy>", service[-1], service[-2], "USD/Mtok>")
    return tables.fitted_table(headings, rows, spare, first=SET_COLUMN)


def _device_count(found: DeviceSet) -> str:
    estimated = "; rent estimated" if found.plan.has_estimated_price else ""
    nodes = found.device.numa_nodes
    count = f"sockets: {found.devices} of {nodes} NUMA nodes each"
    told = count if nodes > 1 else f"devices: {found.devices}"
    return f"\n   [dim]{told}{estimated}[/dim]"


def _print_others(console: Console, found: SizingResult, most: int | None) -> None:
    """Print the reasons why devices are not in the answer, with some of their names."""
    if not found.rejections:
        return
    others = tables.table("not in the answer", "devices>", "such as")
    for reason, names in found.reasons().items():
        told = ", ".join(names[:most]) + (", ..." if len(names[:most]) < len(names) else "")
        others.add_row(reason, str(len(names)), told)
    console.print(others)


def _print_notes(console: Console, question: Question, found: SizingResult) -> None:
    console.print(cells.RANGE_NOTE, style="dim")
    if found.sets:
        best = found.sets[0].plan
        console.print(f"price of the first: {price_text(question, best)}", soft_wrap=True)
        console.print(f"energy of the first: {energy_text(question, best)}", soft_wrap=True)
    if any(each.plan.has_estimated_price for each in found.sets):
        console.print(cells.ESTIMATE_NOTE, style="dim")
