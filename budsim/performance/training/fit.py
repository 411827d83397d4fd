"""Trains the regressors of every kind of hardware: same data and seed, same bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Floats
from budsim.performance.learned.intervals import (
    Novelty,
)
from budsim.performance.learned.regressors import MANIFEST, TARGETS
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.measured.tables import table_digest
from budsim.performance.training.cross_validation import (
    FEWEST_ROWS,
    ROUNDS,
    SPLITS,
    Fitting,
    Validation,
    e2e_residuals,
    fit_booster,
    trainable,
    validate,
)
from budsim.performance.training.manifest import manifest_of
from budsim.performance.training.parties import PartyScore, party_scores
from budsim.performance.training.rows import Rows, training_rows, usable_rows

# Kinds of hardware with regressors.
KINDS = (DeviceKind.CUDA, DeviceKind.ROCM, DeviceKind.HPU, DeviceKind.CPU)

# How many reasons for left-out rows are reported, the most frequent first.
REASONS_TOLD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One kind of hardware after training: rows, validations by novelty, parties, the manifest."""

    kind: DeviceKind
    rows: Rows
    physics: Mapping[str, Floats]
    validations: Mapping[Novelty, Validation]
    parties: Sequence[PartyScore]
    manifest: Mapping[str, Any]


def train(
    table: pd.DataFrame,
    folder: Path,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[DeviceKind, Trained]:
    """Train every kind of hardware with enough rows.

    Writes ``folder/<kind>/{ttft,tpot}.ubj`` and ``manifest.json``.

    Parameters
    ----------
    table : DataFrame
        Text in the columns of ``measurements.csv``.
    folder : Path
        Where the artefacts go.
    seed : int
        Of row and column sampling; same table and seed, same bytes.
    rounds : int
        Trees of each regressor.
    progress : callable
        Called with the name of each stage as it begins, and with counts of unreadable rows.

    Raises
    ------
    InvalidInput
        When the table lacks a column that says which rows may be used for training.
    """
    usable = usable_rows(table)
    trained = {}
    for kind in KINDS:
        part = usable[usable.device_type == kind.value].reset_index(drop=True)
        if len(part) < FEWEST_ROWS:
            continue
        progress(f"{kind.value}: reading {len(part)} rows")
        measurements = settle(read_measurements(part))
        for reason, count in Counter(filter(None, measurements.problems)).most_common(REASONS_TOLD):
            progress(f"{kind.value}: {count} rows left out: {reason}")
        if len(measurements) >= FEWEST_ROWS:
            rows = training_rows(measurements)
            trained[kind] = _train_kind(
                kind,
                rows,
                folder / kind.value,
                Fitting(seed=seed, rounds=rounds),
                table_digest(part),
                progress,
            )
    return trained


def _train_kind(
    kind: DeviceKind,
    rows: Rows,
    folder: Path,
    fitting: Fitting,
    digest: str,
    progress: Callable[[str], None],
) -> Trained:
    validations = {}
    for novelty, split in SPLITS.items():
        progress(f"{kind.value}: cross-validating, each {split} withheld")
        validations[novelty] = validate(rows, split, fitting)
    parties = party_scores(rows, validations[Novelty.NEW_PARTY].corrections)
    progress(f"{kind.value}: fitting {len(rows)} rows")
    contents = {
        target: fit_booster(rows, target, trainable(rows, target), fitting).save_raw("ubj")
        for target in TARGETS
    }
    manifest = manifest_of(kind, rows, validations, contents, fitting, digest)
    folder.mkdir(parents=True, exist_ok=True)
    for target, content in contents.items():
        (folder / f"{target}.ubj").write_bytes(content)
    (folder / MANIFEST).write_text(
        json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    physics = {**{target: rows.log_ratio(target) for target in TARGETS}}
    physics["e2e"] = e2e_residuals(rows, {target: np.zeros(len(rows)) for target in TARGETS})
    return Trained(
        kind=kind,
        rows=rows,
        physics=physics,
        validations=validations,
        parties=parties,
        manifest=manifest,
    )
