"""Searches the regressors' parameters.

Seeded random settings, each judged by cross-validation with whole curves withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.training.cross_validation import (
    FEWEST_ROWS,
    PARAMETERS,
    ROUNDS,
    Fitting,
    out_of_fold,
)
from budsim.performance.training.errors import error_figures
from budsim.performance.training.rows import Rows, training_rows, usable_rows

# Values worth trying; the number of trees is fixed, so that artefacts stay of one size.
SPACE: Mapping[str, Sequence[float]] = {
    "max_depth": (5, 6, 7, 8, 9),
    "eta": (0.03, 0.04, 0.05, 0.08),
    "subsample": (0.6, 0.8, 0.9),
    "colsample_bynode": (0.2, 0.3, 0.5, 0.8),
    "min_child_weight": (2.0, 4.0, 10.0, 16.0),
    "lambda": (0.1, 0.3, 1.0, 3.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One setting and its median absolute percentage errors, by target."""

    parameters: Mapping[str, object]
    errors: Mapping[str, float]

    @property
    def score(self) -> float:
        """Mean of the errors in the logarithm: a tenth off TTFT counts like a tenth off TPOT."""
        return float(np.mean([np.log(error) for error in self.errors.values()]))


def search(
    table: pd.DataFrame,
    kind: DeviceKind,
    trials: int,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
    progress: Callable[[Trial], None] = lambda _: None,
) -> list[Trial]:
    """Return the parameters in use and ``trials`` others drawn from `SPACE`, best first.

    Same table and seed, same order.

    Raises
    ------
    InvalidInput
        When the table has too few usable rows of this kind of hardware.
    """
    usable = usable_rows(table)
    measurements = settle(
        read_measurements(usable[usable.device_type == kind.value].reset_index(drop=True))
    )
    if len(measurements) < FEWEST_ROWS:
        raise InvalidInput(
            "kind",
            f"{kind} has {len(measurements)} usable rows",
            f"a kind with at least {FEWEST_ROWS}",
        )
    rows = training_rows(measurements)
    rng = np.random.default_rng(seed)
    drawn = [
        {name: values[int(rng.integers(len(values)))] for name, values in SPACE.items()}
        for _ in range(trials)
    ]
    found = []
    for parameters in ({}, *drawn):
        found.append(
            _judged(
                rows, Fitting(seed=seed, rounds=rounds, parameters={**PARAMETERS, **parameters})
            )
        )
        progress(found[-1])
    return sorted(found, key=lambda trial: trial.score)


def _judged(rows: Rows, fitting: Fitting) -> Trial:
    residuals = {
        target: rows.log_ratio(target) - out_of_fold(rows, target, "curve", fitting)
        for target in TARGETS
    }
    measured = {
        target: residual for target, residual in residuals.items() if np.isfinite(residual).any()
    }
    return Trial(
        parameters=fitting.parameters,
        errors={target: error_figures(residual)["median"] for target, residual in measured.items()},
    )
