"""The accuracy gate: no median error on a small committed set of measured rows may grow.

``python -m budsim.performance.training.accuracy_gate`` records the median errors of the present
code, as `budsim train` does. Tests compare with this record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from budsim.performance.measured.tables import read_tables, table_digest
from budsim.performance.predictor import CHECKOUT, Predictor, load_predictor
from budsim.performance.training.score import evaluate

# Rows with licenses that allow copies; the folder names sources and licenses.
ROWS = CHECKOUT.parent / "accuracy" / "rows.csv"

# File beside the trained models.
RECORD = "accuracy.json"

# A median error may exceed the recorded one by 0.5 percentage points or by 5 % of it, whichever is
# more, because processors round differently.
SLACK, SLACK_SHARE = 0.005, 0.05

Medians = Mapping[str, Mapping[str, float]]


def medians(table: pd.DataFrame, predictor: Predictor) -> dict[str, dict[str, float]]:
    """Return the median absolute percentage error of each quantity, by kind of hardware."""
    found = {}
    for kind, rows in table.groupby("device_type", sort=True):
        scores, _ = evaluate(rows, predictor)
        found[str(kind)] = {
            score.quantity: round(score.median, 4) for score in scores if score.group == "all"
        }
    return found


def record(table: pd.DataFrame, folder: Path) -> None:
    """Write the medians of the models in ``folder`` on these rows beside the models."""
    stated = {
        "rows_sha256": table_digest(table),
        "median_errors": medians(table, load_predictor(folder)),
    }
    (folder / RECORD).write_text(
        json.dumps(stated, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


def worse(found: Medians, recorded: Medians) -> list[str]:
    """Return a line for every median that is missing, or worse than recorded beyond the slack."""
    lines = []
    for kind, quantities in recorded.items():
        for quantity, before in quantities.items():
            now = found.get(kind, {}).get(quantity)
            if now is None or now > before + max(SLACK, SLACK_SHARE * before):
                stated = "none" if now is None else f"{now:.1%}"
                lines.append(f"{kind} {quantity}: median error {stated}, recorded {before:.1%}")
    return lines


if __name__ == "__main__":
    record(read_tables([ROWS]), CHECKOUT)
