#!/usr/bin/env python
"""Check that plans said to meet their targets with a chance do so that often, parties withheld.

    python scripts/check_chances.py [MEASUREMENTS.csv ...] [--kind cuda]

For each party that measured TTFT and TPOT, the ranges of a question are made of all other parties'
rows. Targets are then set so that each row of the party is said to meet them with a chance of 0.5,
0.8 or 0.9; what it measured says whether it did. Printed are the shares by party, over all rows,
and with every party counting alike, in which large sources do not decide.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.intervals import (
    ANALYTIC_SPREADS,
    COVERAGES,
    FEWEST_OF_ENGINE,
    Regime,
    stratum_ends,
)
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.measured.tables import read_tables
from budsim.performance.training.cross_validation import FEWEST_OF_PARTY
from budsim.performance.training.interval_fit import of_strangers
from budsim.performance.training.rows import Rows, training_rows, usable_rows
from budsim.simulator.planning.chances import COMMON_CAUSE, Residuals

TARGETS = ("ttft", "tpot")
SAID = (0.5, 0.8, 0.9)
DATA = Path(os.environ.get("BUDSIM_DATA", "../shared/data"))
DEFAULT = (DATA / "measurements.csv", Path(__file__).parents[1] / "data" / "third_parties.csv")


def main(
    measurements: Annotated[list[Path] | None, typer.Argument()] = None, *, kind: str = "cuda"
) -> None:
    """Print the shares of rows that met targets which they were said to meet."""
    table = usable_rows(read_tables(measurements or [each for each in DEFAULT if each.exists()]))
    part = table[table.device_type == DeviceKind(kind).value].reset_index(drop=True)
    rows = training_rows(settle(read_measurements(part)))
    found = dict(parties(rows))
    print(f"{'party':28} {'rows':>6} " + " ".join(f"said {said:.0%}" for said in SAID))
    for name, met in found.items():
        print(f"{name:28} {len(met):6} " + " ".join(f"{share:8.1%}" for share in met.mean(axis=0)))
    everything = np.concatenate(list(found.values()))
    alike = np.mean([met.mean(axis=0) for met in found.values()], axis=0)
    for name, shares in (("all rows", everything.mean(axis=0)), ("parties alike", alike)):
        count = len(everything) if name == "all rows" else len(found)
        print(f"{name:28} {count:6} " + " ".join(f"{share:8.1%}" for share in shares))


def parties(rows: Rows) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each party, and whether its rows met targets said with each chance of `SAID`."""
    residuals = {target: rows.log_ratio(target) for target in TARGETS}
    usable = rows.regimes()[Regime.SERVING] & np.all(
        [np.isfinite(each) for each in residuals.values()], axis=0
    )
    codes, names = rows.groups["party"], rows.names.source.to_numpy()
    for code in np.unique(codes[usable]):
        mine = usable & (codes == code)
        if mine.sum() < FEWEST_OF_PARTY:
            continue
        met = np.zeros((len(rows), len(SAID)), dtype=bool)
        for engine in np.unique(rows.names.engine[mine]):
            at = mine & (rows.names.engine == engine).to_numpy()
            met[at] = _met(rows, residuals, at, codes != code, str(engine))
        yield str(names[mine][0]), met[mine]


def _met(
    rows: Rows, residuals: dict[str, np.ndarray], at: np.ndarray, others: np.ndarray, engine: str
) -> np.ndarray:
    """Return whether rows lie below the limits that a question of a new party would be given."""
    serving = others & rows.regimes()[Regime.SERVING]
    met = np.ones((int(at.sum()), len(SAID)), dtype=bool)
    for target, values in residuals.items():
        own = of_strangers(rows, values, serving & (rows.names.engine == engine).to_numpy())
        strangers = own if own.suffice(FEWEST_OF_ENGINE) else of_strangers(rows, values, serving)
        analytic = ANALYTIC_SPREADS[target].quantiles["new_party/serving"]
        ends = {c: stratum_ends(strangers, c, analytic[c]) for c in COVERAGES}
        spread = Residuals(
            **{
                f"{side}{round(100 * coverage)}": np.array(
                    [min(end, 0.0) if side == "low" else max(end, 0.0)]
                )
                for coverage, both in ends.items()
                for side, end in zip(("low", "high"), both, strict=True)
            }
        )
        limits = [float(spread.quantile(_each(said))[0]) for said in SAID]
        met &= values[at][:, None] <= np.array(limits)[None, :]
    return met


def _each(said: float) -> float:
    """Return the chance of each of two equal targets that are met together with ``said``."""
    return float(said ** (1.0 / (COMMON_CAUSE + (1.0 - COMMON_CAUSE) * len(TARGETS))))


if __name__ == "__main__":
    typer.run(main)
