"""Learning curves: how the error on withheld groups falls as more curves, or models, teach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.training.cross_validation import Fitting, corrected_by
from budsim.performance.training.errors import error_figures
from budsim.performance.training.fit import Trained
from budsim.performance.training.rows import Rows

# Shares of the other groups that teach.
SHARES = (0.1, 0.25, 0.5, 1.0)

# Share of the groups the error is measured on.
WITHHELD_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Number of groups that taught, and median absolute percentage error on the withheld ones."""

    groups: int
    median: Mapping[str, float]


def learning_curves(
    trained: Mapping[DeviceKind, Trained],
    seed: int,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, list[CurvePoint]]:
    """Return the learning curves of every kind over curves and over models, by title."""
    found = {}
    for kind, each in trained.items():
        for split in ("curve", "model"):
            progress(f"{kind.value}: learning from more {split}s")
            rounds = int(each.manifest["parameters"]["rounds"])
            found[f"{kind.value}: {split}s"] = learning_curve(
                each.rows, split, Fitting(seed=seed, rounds=rounds)
            )
    return found


def learning_curve(rows: Rows, split: str, fitting: Fitting) -> list[CurvePoint]:
    """Return the error on a fifth of the groups when a growing share of the others teaches.

    ``split`` names the groups, ``curve`` or ``model``. Each share is part of the next; corrections
    are applied whole.
    """
    groups = rows.groups[split]
    order = np.random.default_rng(fitting.seed).permutation(int(groups.max()) + 1)
    held = max(1, round(WITHHELD_SHARE * len(order)))
    withheld = np.isin(groups, order[:held])
    points = []
    for share in SHARES:
        taught = order[held : held + max(1, round(share * (len(order) - held)))]
        at = np.isin(groups, taught)
        median: dict[str, float] = {}
        for target in TARGETS:
            correction = corrected_by(rows, target, at, withheld, fitting)
            if correction is not None:
                figures = error_figures(rows.log_ratio(target)[withheld] - correction)
                median |= {target: figures["median"]} if figures["rows"] else {}
        if median:
            points.append(CurvePoint(groups=len(taught), median=median))
    return points
