"""What every answer can do: show itself in a notebook, become a DataFrame or JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RANGE_NOTE = (
    "Each figure is a mean over requests. The range beside it says how sure we are of that mean: "
    "of 100 means you measure, about 90 lie in such a range. It is not a percentile of requests."
)
ROWS_SHOWN = 20


class Tabular(ABC):
    """An answer that is a table: one row for each plan, cluster or set of devices."""

    __slots__ = ()

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each row, with units in the names of its columns."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the answer as a document, in the names of the HTTP service."""

    @abstractmethod
    def summary(self) -> str:
        """Return what was asked and found, in a sentence or two."""

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def to_pandas(self) -> pd.DataFrame:
        """Return `rows` as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows())

    def __str__(self) -> str:
        """Return the summary and the rows as text."""
        lines = [self.summary()]
        for row in self.rows()[:ROWS_SHOWN]:
            told = (f"{name} {_cell(value)}" for name, value in _shown(row).items())
            lines.append("  " + ", ".join(told))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the answer as an HTML table, for notebooks; all text in it is escaped."""
        rows = [_shown(row) for row in self.rows()[:ROWS_SHOWN]]
        if not rows:
            return f"<p>{escape(self.summary())}</p>"
        head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
        body = "".join(f"<tr>{_cells(row.values())}</tr>" for row in rows)
        # Readers take a range for a percentile unless they are told.
        note = RANGE_NOTE if any(isinstance(cell, tuple) for cell in rows[0].values()) else ""
        return (
            f"<p>{escape(self.summary())}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p><small>{escape(note)}</small></p>"
        )


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with every figure and its range in one cell: (value, low, high)."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if f"{name}_low90" in row:
            shown[name] = (value, row[f"{name}_low90"], row[f"{name}_high90"])
        elif not name.endswith(("_low90", "_high90")):
            shown[name] = value
    return shown


def _cells(values: Sequence[Any] | Any) -> str:
    return "".join(f"<td>{escape(_cell(value))}</td>" for value in values)


def _cell(value: Any) -> str:
    """Return a cell's text; a figure with a range is ``value (low to high)``."""
    if isinstance(value, tuple):
        figure, low, high = (_cell(each) for each in value)
        return f"{figure} ({low} to {high})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
