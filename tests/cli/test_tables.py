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


@pytest.mark.parametrize(("first", "columns"), [(24, 5), (34, 4)])
def test_a_table_has_the_columns_that_fit(monkeypatch, first, columns):
    """At 80 characters a short first column leaves room for one more; rows lose the same ones."""
    monkeypatch.setattr(tables, "console", lambda: Console(width=80, file=io.StringIO()))
    made = tables.fitted_table(HEADINGS, [tuple("123456")], ("d>", "c>", "b>"), first)
    assert [str(column.header) for column in made.columns][:2] == ["plan", "targets"]
    assert [list(column.cells) for column in made.columns] == [
        [each] for each in "123456"[:columns]
    ]


def test_no_colour_is_printed_where_none_is_wanted(monkeypatch, capsys):
    """NO_COLOR and a stdout that is no terminal print plain text."""
    monkeypatch.setenv("NO_COLOR", "1")
    table = tables.table("what", "how much>")
    table.add_row("[green]met[/green]", "1")
    tables.show(table)
    assert "\x1b[" not in capsys.readouterr().out
