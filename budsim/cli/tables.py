"""How answers are printed: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NO_TERMINAL_COLUMNS = 120
# Characters that a table's first column and a column of numbers take, about.
FIRST_COLUMN, NUMBER_COLUMN = 34, 12


def write_json(document: Mapping[str, Any]) -> None:
    """Print a document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def table(*columns: str) -> Table:
    """Return an empty table; columns whose name ends in ``>`` hold numbers, on the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        if column.endswith(">"):
            made.add_column(column.rstrip(">"), justify="right", overflow="fold")
        else:
            made.add_column(column, overflow="fold")
    return made


def fitted_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    spare: Sequence[str],
    first: int = FIRST_COLUMN,
) -> Table:
    """Return a table without the columns that the width does not allow; see `columns_that_fit`."""
    kept = columns_that_fit(headings, spare, first)
    made = table(*(headings[column] for column in kept))
    for row in rows:
        made.add_row(*(row[column] for column in kept))
    return made


def columns_that_fit(
    headings: Sequence[str], spare: Sequence[str], first: int = FIRST_COLUMN
) -> list[int]:
    """Return the indices of the columns to show: as many ``spare`` ones as the width allows.

    The first of ``spare`` is the first to be left out; the first column has ``first`` characters.
    """
    allowed = 1 + max(2, (console().width - first) // NUMBER_COLUMN)
    dropped = list(spare)[: max(0, len(headings) - allowed)]
    return [number for number, heading in enumerate(headings) if heading not in dropped]


def show(shown: Table) -> None:
    """Print a table."""
    console().print(shown)


def console() -> Console:
    """Return where answers are printed: as wide as the terminal, or 120 columns without one."""
    from rich.console import Console

    # Rich would colour every number; colour here means met or missed.
    return Console(highlight=False, width=None if sys.stdout.isatty() else NO_TERMINAL_COLUMNS)
