"""What a changed setting does to the best plan, for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from budsim.cli import cells, tables

if TYPE_CHECKING:
    from budsim.simulator.planning.plans import ReplicaGroup
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.whatif import KnobChange


def print_changes(question: Question, changes: Iterable[KnobChange]) -> None:
    """Print the best plan's group before and after each change."""
    rows = tables.table("what if", *cells.service_columns(question), "USD/Mtok>", "USD/h>")
    for number, each in enumerate(changes):
        if not number:
            what = f"as it is: {cells.described(each.before)}"
            rows.add_row(what, *_cells(each.before))
        change = each.change
        if each.after:
            what = f"{change}\n   [dim]{cells.limits(each.after.service)}[/dim]"
            rows.add_row(what, *_cells(each.after))
        else:
            rows.add_row(f"{change} {each.problem}")
    tables.show(rows)


def _cells(group: ReplicaGroup) -> tuple[str, ...]:
    return (
        *cells.group_service(group),
        cells.price(group.cost_per_million_tokens_usd),
        f"{group.cost_usd_per_h:.2f}",
    )
