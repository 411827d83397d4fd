"""Ranges of strangers: from residuals of others, by what they scatter with within each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from budsim.performance.candidates import Floats
from budsim.performance.learned.features import NAMES
from budsim.performance.learned.scatter import SCATTER_BY
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.training.rows import Rows, training_rows
from budsim.performance.training.strangers import of_strangers, scatter_of

COLUMN = NAMES.index(SCATTER_BY["tpot"])


@pytest.fixture(scope="module")
def rows(benchmark: pd.DataFrame) -> Rows:
    """Return the invented benchmark, run by four parties; recent software throughout."""
    found = training_rows(read_measurements(benchmark))
    parties = np.arange(len(found)) % 4
    names = found.names.assign(party=[f"party {each}" for each in parties], year=2026.0)
    return replace(found, groups={**found.groups, "party": parties}, names=names)


def queued(rows: Rows, queues: Floats) -> Rows:
    """Return the rows with other queues."""
    features = rows.features.copy()
    features[:, COLUMN] = queues
    return replace(rows, features=features)


def test_what_scatters_within_parties_is_told_from_what_differs_between_them(rows: Rows) -> None:
    """Queues that double residuals within each party do so for strangers.

    Where only the party with long queues errs more, that may be anything else of it.
    """
    rng, party = np.random.default_rng(0), rows.groups["party"]
    noise = rng.choice([-1.0, 1.0], len(rows)) * rng.uniform(0.09, 0.11, len(rows))
    every = np.ones(len(rows), dtype=bool)
    for queues, sizes, slope in (
        ((np.arange(len(rows)) // 4) % 5, np.ones(4), np.log(2.0)),
        (party + rng.uniform(0.0, 0.5, len(rows)), 2.0 ** np.arange(4), 0.0),
    ):
        residuals = {"tpot": noise * np.exp(slope * queues) * sizes[party]}
        found = scatter_of(queued(rows, queues), "tpot", residuals, every)
        assert found.slope == pytest.approx(slope, abs=0.15)


def test_ranges_of_strangers_widen_with_what_residuals_scatter_by(rows: Rows) -> None:
    """A question with a queue e times as long has ranges twice as wide, up to what was measured."""
    rng = np.random.default_rng(0)
    queues = (np.arange(len(rows)) // 4) % 5
    residuals = {"tpot": rng.normal(0.0, 0.1, len(rows)) * 2.0**queues}
    asked = queued(rows, queues)
    found = of_strangers(asked, "tpot", residuals, np.ones(len(rows), dtype=bool))
    few, more, beyond = (
        np.diff(
            found.ends(queued(rows, each * np.ones(len(rows))).features[:1], 0.9, (-9, 9)), axis=0
        )
        for each in (1.0, 2.0, 50.0)
    )
    assert float(more[0, 0] / few[0, 0]) == pytest.approx(2.0, rel=0.2)
    assert float(beyond[0, 0] / few[0, 0]) == pytest.approx(8.0, rel=0.6)


def test_two_parties_tell_nothing_of_scatter(rows: Rows) -> None:
    """With two parties the ranges are alike in all questions, and those of physics alone."""
    two = rows.groups["party"] < 2
    residuals = {"tpot": np.random.default_rng(0).normal(0.0, 0.1, len(rows))}
    found = of_strangers(rows, "tpot", residuals, two)
    assert found.scatter.slope == 0.0
    assert (found.middle(rows.features) == 0.0).all()
    low, high = found.ends(rows.features, 0.9, (-0.9, 0.9))
    assert (low == -0.9).all()
    assert (high == 0.9).all()


def test_old_software_counts_where_few_others_measured(rows: Rows) -> None:
    """Of four parties one ran software of 2023, and three are enough; of two recent ones not."""
    residuals = {"tpot": np.where(rows.groups["party"] == 0, 1.0, 0.1)}
    every = np.ones(len(rows), dtype=bool)
    for old, parties in ((1, 3), (2, 4)):
        year = np.where(rows.groups["party"] < old, 2023.0, 2026.0)
        aged = replace(rows, names=rows.names.assign(year=year))
        found = of_strangers(aged, "tpot", residuals, every).residuals
        assert len(np.unique(found.groups)) == parties


def test_the_middle_of_strangers_is_that_of_all_parties_alike(rows: Rows) -> None:
    """Three parties of 20 rows are off by 0.3, one is right: so is the median of the next one."""
    residuals = {"tpot": np.where(rows.groups["party"] == 0, 0.0, 0.3)}
    found = of_strangers(rows, "tpot", residuals, np.ones(len(rows), dtype=bool))
    assert found.middle(rows.features) == pytest.approx(0.3)
