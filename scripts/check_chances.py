#!/usr/bin/env python
"""Check that chances and ranges of a question mean what they say, each party withheld in turn.

    python scripts/check_chances.py [MEASUREMENTS.csv ...] [--kind cuda]

For each party that measured, the ranges of a question are made of all other parties' rows. Printed
are how many of its rows lie in the ranges of each quantity and how wide these are, and how many
meet targets that are said to be met with a chance of 0.5, 0.8 or 0.9: both TTFT and TPOT, with the
same chance each. Rows count alike, or every deployment (a model on a device, served in one way), or
every party: then large sources do not decide.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.intervals import ANALYTIC_SPREADS, COVERAGES, Regime
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.measured.tables import read_tables
from budsim.performance.predictions import PERCENTILES
from budsim.performance.training.cross_validation import FEWEST_OF_PARTY
from budsim.performance.training.interval_fit import physics_alone
from budsim.performance.training.rows import Rows, training_rows, usable_rows
from budsim.performance.training.strangers import of_strangers
from budsim.simulator.planning.chances import Residuals, joint

TARGETS = ("ttft", "tpot")
SAID = (0.5, 0.8, 0.9)
DATA = Path(os.environ.get("BUDSIM_DATA", "../shared/data"))
DEFAULT = (DATA / "measurements.csv", Path(__file__).parents[1] / "data" / "third_parties.csv")
DEPLOYMENT = "party shape device engine precision tp pp ep dp speculative".split()
# Columns the shares are broken down by, beside the load.
GROUPINGS = ("device", "engine", "load")
HALVINGS = 40
SIDES, WIDEST = ("low", "high"), (np.minimum, np.maximum)


def main(
    measurements: Annotated[list[Path] | None, typer.Argument()] = None, *, kind: str = "cuda"
) -> None:
    """Print how often ranges hold and targets are met."""
    table = usable_rows(read_tables(measurements or [each for each in DEFAULT if each.exists()]))
    part = table[table.device_type == DeviceKind(kind).value].reset_index(drop=True)
    rows = training_rows(settle(read_measurements(part)))
    residuals = physics_alone(rows)
    print("rows, parties; 80 % and 90 % ranges hold: rows / parties alike; width of 90 %;")
    print("one target is met where 50, 80 and 90 % are said: parties alike")
    for name in (*TARGETS, "e2e", *PERCENTILES):
        _print_ranges(rows, name, residuals)
    both = _parties(rows, residuals, TARGETS)
    if not both.any():
        return
    found = _names(rows)[both].reset_index(drop=True)
    ends = {name: _ends(rows, name, residuals, both) for name in TARGETS}
    for name, each in ends.items():
        inside = (residuals[name][both] >= each.low90) & (residuals[name][both] <= each.high90)
        found[f"{name} in 90 %"] = inside
        found[f"{name} width"] = np.exp(each.high90 - each.low90)
    for said in SAID:
        limits = {name: _limits(each, _each(said)) for name, each in ends.items()}
        met = [residuals[name][both] <= limit for name, limit in limits.items()]
        found[f"said {said:.0%}"] = np.all(met, axis=0)
    _print_shares(found)
    _print_dependence(rows, residuals)


def _names(rows: Rows) -> pd.DataFrame:
    """Return what rows are grouped by; the load is what waits in the queue for each that runs."""
    features = of_strangers(
        rows, "tpot", {"tpot": rows.log_ratio("tpot")}, rows.regimes()[Regime.SERVING]
    ).scatter.values(rows.features)
    load = np.select([features < 0.0, features < np.log(4.0)], ["light", "middling"], "heavy")
    deployment = rows.names[DEPLOYMENT].astype(str).agg("|".join, axis=1)
    return rows.names.assign(load=load, deployment=deployment)


def _parties(rows: Rows, residuals: dict[str, Floats], names: Sequence[str]) -> Booleans:
    """Return the rows of parties that measured all these often enough, where they did."""
    known = rows.regimes()[Regime.SERVING] & np.all(
        [np.isfinite(residuals[name]) for name in names], axis=0
    )
    counts = np.bincount(rows.groups["party"][known], minlength=rows.groups["party"].max() + 1)
    return known & (counts[rows.groups["party"]] >= FEWEST_OF_PARTY)


def _ends(rows: Rows, name: str, residuals: dict[str, Floats], asked: Booleans) -> Residuals:
    """Return the ends of the ranges of the ``asked`` rows by all parties but their own."""
    analytic = ANALYTIC_SPREADS[name].quantiles["new_party/serving"]
    parties, serving = rows.groups["party"], rows.regimes()[Regime.SERVING]
    ends = {f"{side}{round(100 * c)}": np.zeros(len(rows)) for c in COVERAGES for side in SIDES}
    ends["middle"] = np.zeros(len(rows))
    mean = name.split("_", maxsplit=1)[0]
    for party in np.unique(parties[asked]):
        own, others = asked & (parties == party), serving & (parties != party)
        found = of_strangers(rows, name, residuals, others)
        ends["middle"][own] = found.middle(rows.features[own])
        for c in COVERAGES:
            made = [
                of_strangers(rows, each, residuals, others).ends(rows.features[own], c, analytic[c])
                for each in {name, mean}
            ]
            for side, values, widest in zip(SIDES, zip(*made, strict=True), WIDEST, strict=True):
                ends[f"{side}{round(100 * c)}"][own] = widest.reduce(values)
    return Residuals(**{end: values[asked] for end, values in ends.items()})


def _print_ranges(rows: Rows, name: str, residuals: dict[str, Floats]) -> None:
    asked = _parties(rows, residuals, (name,))
    if not asked.any():
        return
    ends, values = _ends(rows, name, residuals, asked), residuals[name][asked]
    table = pd.DataFrame(
        {
            "80": (values >= ends.low80) & (values <= ends.high80),
            "90": (values >= ends.low90) & (values <= ends.high90),
            "width": np.exp(ends.high90 - ends.low90),
        }
    )
    for said in SAID:
        table[f"said {said:.0%}"] = values <= _limits(ends, said)
    by_party = table.groupby(rows.names.party[asked].to_numpy())
    alike, width = by_party.mean().mean(), by_party.width.median().mean()
    print(
        f"{name:9} {len(table):5} {len(by_party):2}  "
        + "  ".join(f"{c} %: {table[c].mean():.1%} / {alike[c]:.1%}" for c in ("80", "90"))
        + f"  width {table.width.median():.1f} / {width:.1f}  met "
        + ", ".join(f"{alike[f'said {said:.0%}']:.0%}" for said in SAID)
    )


def _print_shares(found: pd.DataFrame) -> None:
    """Print shares of targets met and values in their ranges, and the median widths."""
    shares = [name for name in found if name.startswith("said") or "90 %" in name]
    widths = [name for name in found if name.endswith("width")]
    print(f"\n{'rows of':34} {'rows':>5} " + " ".join(f"{name:>12}" for name in shares + widths))

    def line(name: str, count: int, part: pd.DataFrame, by: str = "") -> None:
        mean = part.groupby(by)[shares].mean().mean() if by else part[shares].mean()
        told = [f"{mean[each]:12.1%}" for each in shares]
        told += [f"{part[each].median():12.1f}" for each in widths]
        print(f"{name:34} {count:5} " + " ".join(told))

    line("all rows", len(found), found)
    line("deployments alike", found.deployment.nunique(), found, "deployment")
    line("parties alike", found.party.nunique(), found, "party")
    for column in ("party", *GROUPINGS):
        for name, part in found.groupby(column):
            line(f"{column} {name}", len(part), part)


def _print_dependence(rows: Rows, residuals: dict[str, Floats]) -> None:
    """Print as many independent targets as targets on several figures are worth."""
    print("\ntargets that each hold for 80 % of a party's rows hold together as independent ones")
    p99 = tuple(f"{name}_p99" for name in TARGETS)
    for names in (TARGETS, ("ttft", p99[0]), ("tpot", p99[1]), ("tpot", "e2e"), (*TARGETS, *p99)):
        at, worth = _parties(rows, residuals, names), []
        for party in np.unique(rows.groups["party"][at]):
            own = at & (rows.groups["party"] == party)
            met = [residuals[n][own] <= np.quantile(residuals[n][own], 0.8) for n in names]
            worth.append(np.log(np.all(met, axis=0).mean()) / np.log(0.8))
        if worth:
            print(f"{' + '.join(names):34} {np.mean(worth):.2f} (mean of {len(worth)} parties)")


def _each(said: float) -> float:
    """Return the chance of each of `TARGETS` that are met together with ``said``."""
    tried = np.linspace(said, 1.0, 10_001)
    return float(tried[np.searchsorted(joint([(name, tried) for name in TARGETS]), said)])


def _limits(ends: Residuals, chance: float) -> Floats:
    """Return the residuals (n,) that are not exceeded with a chance."""
    low, high = np.full(len(ends.low90), -20.0), np.full(len(ends.low90), 20.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        enough = ends.chance_below(middle) >= chance
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


if __name__ == "__main__":
    typer.run(main)
