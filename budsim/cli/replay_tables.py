"""What single requests see, for people: percentiles, goodput, load and the room to the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from budsim.cli import cells, tables
from budsim.commons.units import MILLI

if TYPE_CHECKING:
    from rich.console import Console

    from budsim.performance.serving.replay import Spread
    from budsim.simulator.planning.plans import Plan, ReplayedRequests, ReplicaGroup
    from budsim.simulator.planning.question import Question

# Characters of a plan's number and layout, about.
PLAN_COLUMN = 24
PERCENTILE_NOTE = (
    "p50 / p95 / p99: of 100 requests, 50 / 95 / 99 see at most this (gaps: of 100 gaps between "
    "two tokens).\nThey come from replaying requests one by one. busy: share of time in which the "
    "engine computes."
)


def print_requests(console: Console, question: Question, plans: Sequence[Plan]) -> None:
    """Print what single requests of each plan see, where they were replayed."""
    groups = [(number, plan.slowest) for number, plan in enumerate(plans, start=1)]
    if not any(group.replayed for _, group in groups):
        return
    latency, load = "e2e s\np50 / p95 / p99>", "running\n+ waiting>"
    headings = (
        "what single requests see",
        "TTFT ms\np50 / p95 / p99>",
        "gap ms\np50 / p99>",
        latency,
        *(("good>",) if question.targets.goodput else ()),
        load,
        "busy>",
        *(("carries at most\nrequests/s>",) if question.traffic.is_open else ()),
    )
    rows = [
        (f"{number}. {_short(group)}", *_cells(question, group, group.replayed))
        for number, group in groups
        if group.replayed
    ]
    console.print(tables.fitted_table(headings, rows, ("busy>", load, latency), PLAN_COLUMN))
    console.print(PERCENTILE_NOTE, style="dim")
    if question.traffic.is_open:
        console.print(
            "carries at most: the largest rate all replicas serve for ever; beyond it queues grow "
            "without end",
            style="dim",
        )


def _cells(question: Question, group: ReplicaGroup, found: ReplayedRequests) -> tuple[str, ...]:
    good = (f"{found.good_share:.1%}",) if question.targets.goodput else ()
    return (
        _percentiles(found.ttft_s, 1 / MILLI, ".0f", (50, 95, 99)),
        _percentiles(found.itl_s, 1 / MILLI, ".1f", (50, 99)),
        _percentiles(found.e2e_s, 1.0, ".2f", (50, 95, 99)),
        *good,
        f"{found.running:.1f} + {found.waiting:.1f}",
        f"{found.utilisation:.0%}",
        *((_carried(group, found),) if question.traffic.is_open else ()),
    )


def _carried(group: ReplicaGroup, found: ReplayedRequests) -> str:
    """Return the largest stable rate of all replicas, and what is left of it."""
    if math.isnan(found.margin):
        return "-"
    rate = group.replicas * found.largest_stable_rate
    return f"{rate:.3g}\n[dim]{found.margin:.0%} left[/dim]"


def _percentiles(spread: Spread, factor: float, spec: str, percents: Sequence[int]) -> str:
    values = [getattr(spread, f"p{percent}") for percent in percents]
    return " / ".join("-" if math.isnan(each) else format(each * factor, spec) for each in values)


def _short(group: ReplicaGroup) -> str:
    return cells.described(group).partition("\n")[0]
