"""Reasons why rows cannot be used."""

from __future__ import annotations

import pandas as pd

from budsim.performance.measured.problems import mark


def test_a_row_keeps_its_first_reason() -> None:
    """Of three rows the first two are wrong, and the first was wrong before."""
    problems = pd.Series(["model: is unknown", "", ""])
    mark(problems, pd.Series([True, True, False]), "tp: is 0")
    assert problems.tolist() == ["model: is unknown", "tp: is 0", ""]
