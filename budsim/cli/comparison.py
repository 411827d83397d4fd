"""`budsim explain`: two plans of an answer side by side."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budsim.cli import tables
from budsim.cli.files import read_plan
from budsim.commons.units import MILLI
from budsim.engine_ops.base import PoolRole

if TYPE_CHECKING:
    from budsim.simulator.schemas import NodeGroup

Document = Annotated[
    Path, typer.Argument(help="What `budsim simulate --json` printed; - reads it from stdin.")
]
First = Annotated[int, typer.Argument(min=1, help="Number of a plan, best first.")]
Second = Annotated[int, typer.Argument(min=1, help="Number of the plan to compare it with.")]

# Smaller relative differences are not told.
LEAST_TOLD = 0.01
# Figures of a plan, their unit, and whether less is better; by their name in the document.
FIGURES: tuple[tuple[str, str, bool], ...] = (
    ("ttft", "TTFT, ms", True),
    ("throughput_per_user", "tokens/s per user", False),
    ("e2e_latency", "end to end, s", True),
    ("cost_per_million_tokens", "USD/Mtok of output", True),
)


def explain(plan: Document, first: First = 1, second: Second = 2) -> None:
    """Compare two plans of an answer: what each costs and gives, and which flags differ."""
    from budsim.simulator.rendering.plan_document import (
        chosen_plan,
        node_groups_of,
        parsed_document,
    )

    text = read_plan(plan)
    document = parsed_document(text)
    plans = [chosen_plan(document, number) for number in (first, second)]
    groups = [node_groups_of(each) for each in plans]
    console = tables.console()
    rows = tables.table("", f"plan {first}>", f"plan {second}>", "change>")
    for row in (*_layout_rows(groups), *_figure_rows(plans)):
        rows.add_row(*row)
    console.print(rows)
    console.print(_verdict((first, second), plans), markup=False)
    for line in _flag_lines(*groups):
        console.print(f"  {line}", markup=False)
    in_pools = {
        number: plan
        for number, plan, each in zip((first, second), plans, groups, strict=True)
        if any(group.role is PoolRole.PREFILL for group in each)
    }
    for number, chosen in in_pools.items():
        for line in _router_lines(text, number, float(chosen["ttft"]) * MILLI):
            console.print(line, markup=False, soft_wrap=True)


def _layout_rows(groups: Sequence[Sequence[NodeGroup]]) -> Iterator[tuple[str, ...]]:
    """Yield what runs in both plans, and how many devices it takes."""
    yield "what runs", *("\n+ ".join(map(_layout, each)) for each in groups), ""
    devices = [sum(_devices(group) for group in each) for each in groups]
    yield "devices", *map(str, devices), _change(*map(float, devices))


def _router_lines(text: str, number: int, ttft_s: float) -> Iterator[str]:
    """Yield what the router of a plan's pools does, its part of TTFT, and its command."""
    from budsim.api.pools import router_text
    from budsim.simulator.rendering import NOTHING
    from budsim.simulator.rendering.deployments import read_deployment

    deployment = read_deployment(text, number, NOTHING)
    yield f"router of plan {number}: {router_text(deployment.pool_router, ttft_s)}"
    yield f"  {shlex.join(deployment.pool_router_command())}"


def _figure_rows(plans: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield label, both values and the change of every figure that a plan has."""
    for name, label, _ in FIGURES:
        values = [float(each.get(name) or 0.0) for each in plans]
        if any(values):
            yield (label, *(f"{value:.4g}" for value in values), _change(*values))


def _layout(group: NodeGroup) -> str:
    stages = f" pp{group.pp_size}" if group.pp_size > 1 else ""
    return f"{group.replicas} x {group.name} tp{group.tp_size}{stages}, {group.engine_type}"


def _devices(group: NodeGroup) -> int:
    return group.replicas * group.tp_size * group.pp_size


def _change(before: float, after: float) -> str:
    return f"{after / before - 1.0:+.0%}" if before else "-"


def _verdict(numbers: Sequence[int], plans: Sequence[Mapping[str, Any]]) -> str:
    """Return in one sentence what the second plan buys for its price."""
    changes = list(_changes(plans))
    told = [
        f"{word} in {', '.join(of_them)}"
        for word in ("better", "worse")
        if (of_them := [text for each, text in changes if each == word])
    ]
    words = " and ".join(told)
    return f"Plan {numbers[1]} beside plan {numbers[0]}: {words or 'no difference of 1 %'}."


def _changes(plans: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield better or worse and the change of every figure that differs by enough to be told."""
    for name, label, less_is_better in FIGURES:
        before, after = (float(each.get(name) or 0.0) for each in plans)
        if before and abs(after / before - 1.0) >= LEAST_TOLD:
            is_better = (after < before) == less_is_better
            yield "better" if is_better else "worse", f"{label} {after / before - 1.0:+.0%}"


def _flag_lines(first: Sequence[NodeGroup], second: Sequence[NodeGroup]) -> Iterator[str]:
    """Yield the flags that differ between the groups of two plans, in their order.

    A plan of one group is compared with every group of the other: plain replicas with prefill
    workers, then with decode workers.
    """
    for at in range(max(len(first), len(second))):
        one, other = (each[min(at, len(each) - 1)] for each in (first, second))
        pool = other.role or one.role
        part = f"{pool.value}: " if pool else ""
        for flag, before, after in _different_flags(one, other):
            yield f"{part}{flag}: {before} -> {after}"


def _different_flags(one: NodeGroup, other: NodeGroup) -> list[tuple[str, str, str]]:
    """Return the flags that differ between two groups, with both values."""
    flags = [{name: str(value) for name, value in each.args.items()} for each in (one, other)]
    names = sorted({*flags[0], *flags[1]})
    pairs = ((name, *(each.get(name, "not given") for each in flags)) for name in names)
    return [(f"--{name}", before, after) for name, before, after in pairs if before != after]
