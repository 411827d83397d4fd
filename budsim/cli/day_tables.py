"""Replicas over a day for people: a table of hours, what it costs, and when to add one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from budsim.api import words
from budsim.cli import cells, tables
from budsim.cli.plan_tables import print_rejections
from budsim.commons.units import MILLI

if TYPE_CHECKING:
    from rich.console import Console

    from budsim.simulator.planning.daily_replicas import DayAnswer
    from budsim.simulator.planning.days import DayOfReplicas, HourOfDay
    from budsim.simulator.planning.question import Question

# Widest bar of replicas, characters.
WIDEST = 24
# Heading of the bars.
BAR = ""


def print_day(question: Question, found: DayAnswer) -> None:
    """Print the replicas of each hour, or why nothing serves the busiest one."""
    console = tables.console()
    console.print(
        f"[bold]{question.architecture.model_id}[/bold]: requests {words.lengths_text(question)}; "
        f"{words.targets_text(question.targets)}"
    )
    names = {cluster.cluster_id: cluster.name for cluster in question.clusters}
    if found.day is None:
        console.print("[bold red]nothing serves the busiest hour[/bold red]")
        print_rejections(console, found.rejections, names)
        return
    day = found.day
    noun = "workers" if day.plan.is_disaggregated else "replicas"
    count = f"{day.fewest} to {day.most} {noun}" if day.most > 1 else "1 replica"
    console.print(f"\n[bold]{count}[/bold], cheapest over the day:")
    console.print(cells.headline(day.plan, names))
    console.print(_hours(day))
    _print_cost(console, day)
    _print_rule(console, day)


def _hours(day: DayOfReplicas) -> object:
    pools = day.plan.is_disaggregated
    load, latency = f"in flight\nper {'worker' if pools else 'replica'}>", "e2e s\np50 / p99>"
    headings = (
        "hour>",
        "requests/s>",
        "prefill + decode\nworkers>" if pools else "replicas>",
        BAR,
        "TTFT ms\np50 / p99>",
        latency,
        load,
        "targets",
    )
    rows = [
        (
            f"{hour.hour}",
            f"{hour.rate:.3g}",
            f"{hour.prefill_workers} + {hour.replicas}" if pools else f"{hour.replicas}",
            "#" * math.ceil(WIDEST * hour.workers / day.most),
            *_latencies(hour),
            _verdict(hour),
        )
        for hour in day.hours
    ]
    return tables.fitted_table(headings, rows, (BAR, load, latency), first=WIDEST)


def _latencies(hour: HourOfDay) -> tuple[str, str, str]:
    seen = hour.seen
    if seen is None:
        return "-", "-", "-"
    return (
        f"{seen.ttft_s.p50 / MILLI:.0f} / {seen.ttft_s.p99 / MILLI:.0f}",
        f"{seen.e2e_s.p50:.2f} / {seen.e2e_s.p99:.2f}",
        f"{seen.running + seen.waiting:.1f}",
    )


def _verdict(hour: HourOfDay) -> str:
    if hour.seen is None:
        return "[red]not carried[/red]"
    sure = f"[dim]{'>99%' if hour.chance > cells.CERTAIN else f'{hour.chance:.0%}'} sure[/dim]"
    return f"[green]met[/green] {sure}" if hour.meets_targets else f"[red]missed[/red] {sure}"


def _print_cost(console: Console, day: DayOfReplicas) -> None:
    from budsim.simulator.planning.days import DAYS_PER_MONTH

    console.print(
        "p50 / p99: of 100 requests of the hour, 50 / 99 see at most this, as a replay says.",
        style="dim",
    )
    console.print(
        f"as many as each hour needs: {day.usd_per_day:,.2f} USD a day, "
        f"{day.usd_per_day * DAYS_PER_MONTH:,.0f} USD a month"
    )
    console.print(
        f"{day.most} all the time: {day.constant_usd_per_day:,.2f} USD a day, "
        f"{day.constant_usd_per_day * DAYS_PER_MONTH:,.0f} USD a month; "
        f"following the load saves {day.saved_share:.0%}"
    )


def _print_rule(console: Console, day: DayOfReplicas) -> None:
    rule = day.rule
    if day.plan.is_disaggregated:
        console.print(
            "two pools have no load of one replica in common: scale them by the clock, "
            f"{day.lead_time_s:.0f} s before each hour (--lead-time-s)"
        )
        return
    if rule is None:
        console.print("no load of one replica meets the targets, so none says when to add one")
        return
    console.print(
        f"one replica meets the targets up to {rule.largest_rate:.3g} requests/s, "
        f"{rule.largest_in_flight:.1f} requests running and waiting"
    )
    console.print(
        f"a new one serves {day.lead_time_s:.0f} s after it is asked for (--lead-time-s); the load "
        f"grows by up to {rule.growth:.1%} meanwhile, so add one at {rule.trigger_in_flight:.1f} "
        "running and waiting a replica"
    )
    console.print(
        "autoscalers: budsim day ... --json | budsim render - --format keda (or hpa)", style="dim"
    )
