#!/usr/bin/env python
"""Refit the ranges of strangers in the shipped manifests, without training regressors again.

    python scripts/refit_strangers.py [MEASUREMENTS.csv ...] [--folder cache/pretrained_models]

Nothing learned is trusted on servers that nobody measured, so that their ranges rest on physics
alone: after a change of physics or of the ranges, half a minute brings them up to date. A kind of
hardware where a correction is trusted on withheld parties is left as it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.intervals import Novelty, stratum_name
from budsim.performance.learned.regressors import FORMAT, MANIFEST, TARGETS
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.measured.tables import read_tables
from budsim.performance.training.cross_validation import Validation
from budsim.performance.training.interval_fit import physics_alone, spreads
from budsim.performance.training.manifest import stored_scatters, stored_spread
from budsim.performance.training.rows import Rows, training_rows, usable_rows

DATA = Path(os.environ.get("BUDSIM_DATA", "../shared/data"))
PROJECT = Path(__file__).parents[1]
DEFAULT = (DATA / "measurements.csv", PROJECT / "data" / "third_parties.csv")


def main(
    measurements: Annotated[list[Path] | None, typer.Argument()] = None,
    *,
    folder: Path = PROJECT / "cache" / "pretrained_models",
) -> None:
    """Write the manifests of all kinds of hardware anew."""
    table = usable_rows(read_tables(measurements or [each for each in DEFAULT if each.exists()]))
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        kind = DeviceKind(path.parent.name)
        part = table[table.device_type == kind.value].reset_index(drop=True)
        manifest = json.loads(path.read_text(encoding="utf-8"))
        rows = training_rows(settle(read_measurements(part)))
        path.write_text(
            json.dumps(refitted(manifest, rows), indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        print(f"{kind.value}: {len(rows)} rows")


def refitted(manifest: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """Return the manifest with the ranges of strangers that physics alone makes of the rows."""
    regimes = [regime for regime, at in rows.regimes().items() if at.any()]
    names = [stratum_name(Novelty.NEW_PARTY, regime) for regime in regimes]
    trusted = any(manifest["shrinkage"][target][name] for target in TARGETS for name in names)
    physics = Validation(residuals=physics_alone(rows), shrinkage={}, corrections={})
    found = spreads(rows, dict.fromkeys(Novelty, physics))
    if trusted:
        return {**manifest, "format": FORMAT, "scatter": manifest.get("scatter", {})}
    intervals = {
        name: {
            stratum: ends
            for stratum, ends in each.items()
            if not any(stratum.startswith(f"{refitted}/") for refitted in names)
        }
        | {stratum: stored_spread(found[name])[stratum] for stratum in names}
        for name, each in manifest["intervals"].items()
    }
    return {**manifest, "format": FORMAT, "intervals": intervals, "scatter": stored_scatters(found)}


if __name__ == "__main__":
    typer.run(main)
