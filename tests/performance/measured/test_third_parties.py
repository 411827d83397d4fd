"""The measurements of further parties that the project ships."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from budsim.performance.measured.clients import client_traffic
from budsim.performance.measured.importers import COLUMNS
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.protocols import client_entries

FOLDER = Path(__file__).parents[3] / "data"
REDISTRIBUTABLE = {"MIT", "Apache-2.0"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Return the shipped rows as text."""
    return pd.read_csv(FOLDER / "third_parties.csv", dtype=str, keep_default_na=False)


def test_at_least_300_rows_of_five_parties_may_be_redistributed(table: pd.DataFrame) -> None:
    """Every row has a license that allows to ship it."""
    assert len(table) >= 300
    assert table.source.nunique() >= 5
    assert set(table.license) <= REDISTRIBUTABLE


def test_every_row_can_be_read(table: pd.DataFrame) -> None:
    """Each row names a known model, device and engine, and traffic that can be."""
    measurements = read_measurements(table)
    assert [problem for problem in measurements.problems if problem] == []
    assert len(client_traffic(measurements)) == len(table)


def test_columns_are_those_of_the_measurements(table: pd.DataFrame) -> None:
    """Only the optional columns of a client stand beside the table's own."""
    assert list(table.columns) == [*COLUMNS, "length_law", "prefix_hit_share"]


def test_the_readme_counts_the_rows_of_every_party(table: pd.DataFrame) -> None:
    """Source, number of rows and license stand in one line of the README."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for (source, license_), rows in table.groupby(["source", "license"]).size().items():
        assert f"| `{source}` | {rows} | {license_} |" in readme


def test_the_protocols_know_the_client_of_every_party(table: pd.DataFrame) -> None:
    """What each party's client sent is not left to the default."""
    rows = table.assign(
        **{
            name: pd.to_numeric(table[name], errors="coerce")
            for name in ("input_tokens", "output_tokens", "concurrency", "tp", "dp")
        }
    )
    assert all("prompt_law" in entry for entry in client_entries(rows))
