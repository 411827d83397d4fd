"""Tables fit the width there is."""

import io

import pytest
from rich.console import Console

from budsim.cli import tables

HEADINGS = ("plan", "targets", "a>", "b>", "c>", "d>")


@pytest.mark.parametrize(
    ("width", "shown"),
    [(120, HEADINGS), (80, ("plan", "targets", "a>", "b>")), (40, ("plan", "targets", "a>"))],
)
def test_spare_columns_are_left_out_where_they_do_not_fit(monkeypatch, width, shown):
    """The first of the spare columns goes first; what is not spare always stays."""
    monkeypatch.setattr(tables, "console", lambda: Console(width=width, file=io.StringIO()))
    kept = tables.columns_that_fit(HEADINGS, ("d>", "c>", "b>"))
    assert tuple(HEADINGS[column] for column in kept) == shown


def test_no_colour_is_printed_where_none_is_wanted(monkeypatch, capsys):
    """NO_COLOR and a stdout that is no terminal print plain text."""
    monkeypatch.setenv("NO_COLOR", "1")
    table = tables.table("what", "how much>")
    table.add_row("[green]met[/green]", "1")
    tables.show(table)
    assert "\x1b[" not in capsys.readouterr().out
