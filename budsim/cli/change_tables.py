"""What a changed setting does to the best plan, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from budsim.cli import cells, tables

if TYPE_CHECKING:
    from budsim.simulator.planning.knob_changes import KnobChange
    from budsim.simulator.planning.plans import ReplicaGroup
    from budsim.simulator.planning.question import Question


def print_changes(question: Question, changes: Iterable[KnobChange]) -> None:
    """Print the best plan's group, or both its pools, before and after each change."""
    rows = tables.table("what if", *cells.service_columns(question), "USD/Mtok>", "USD/h>")
    for number, each in enumerate(changes):
        if not number:
            what = "\n + ".join(map(cells.described, each.groups_before))
            rows.add_row(f"as it is: {what}", *_cells(each.groups_before))
        change = each.change
        if each.after:
            what = f"{change}\n   [dim]{cells.limits(each.after.service)}[/dim]"
            rows.add_row(what, *_cells(each.groups_after))
        else:
            rows.add_row(f"{change} {each.problem}")
    tables.show(rows)


def _cells(groups: Sequence[ReplicaGroup]) -> tuple[str, ...]:
    from budsim.simulator.planning.knob_changes import cost_per_million_tokens_usd, cost_usd_per_h

    return (
        # Both pools see the same requests: the decode workers stand for them.
        *cells.group_service(groups[-1]),
        cells.price(cost_per_million_tokens_usd(groups)),
        f"{cost_usd_per_h(groups):.2f}",
    )
