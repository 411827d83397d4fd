"""Measured beside predicted values, by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from budsim.commons.units import MILLI
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.intervals import Novelty
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.training.errors import error_figures
from budsim.performance.training.fit import Trained
from budsim.performance.training.interval_fit import coverage90
from budsim.performance.training.score import QUANTITIES

if TYPE_CHECKING:
    pass

# Columns errors are broken down by.
GROUPINGS = ("device", "engine", "model", "mode")

# A ranking is judged on at least so many rows.
SMALLEST_QUESTION = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Measured and predicted values (n,) of one quantity, with the names of each row.

    ``inside`` is 1.0 where a value lies in its 90 % interval, 0.0 where not, nan where unknown.
    ``names`` has the columns of `GROUPINGS` and ``question``: rows of one question differ in how a
    model is served, not in what is asked of it.
    """

    title: str
    quantity: str
    measured: Floats
    predicted: Floats
    inside: Floats
    names: pd.DataFrame


def of_training(trained: Mapping[DeviceKind, Trained]) -> list[Comparison]:
    """Return TTFT and TPOT of every kind in ms, by models that had not seen the row's curve."""
    found = []
    for kind, each in trained.items():
        residuals = each.validations[Novelty.KNOWN].residuals
        inside = coverage90(each.rows, residuals, Novelty.KNOWN)
        names = each.rows.names
        questions = names[["shape", "input", "output"]].astype(str).agg("|".join, axis=1)
        groups = names.assign(
            mode=np.where(names.static, "static batch", "serving"), question=questions
        )
        for target in TARGETS:
            known = np.isfinite(residuals[target])
            if known.any():
                measured = each.rows.measured[target][known] / MILLI
                found.append(
                    Comparison(
                        title=f"{kind.value}, each curve withheld",
                        quantity=f"{target.upper()}, ms",
                        measured=measured,
                        predicted=measured / np.exp(residuals[target][known]),
                        inside=inside[target][known],
                        names=groups[[*GROUPINGS, "question"]][known].reset_index(drop=True),
                    )
                )
    return found


def of_evaluation(judged: pd.DataFrame) -> list[Comparison]:
    """Return every measured quantity beside the predictions in use, from `score.judge`."""
    names = judged[list(GROUPINGS)].assign(
        question=judged[["model", "input", "output"]].astype(str).agg("|".join, axis=1)
    )
    found = []
    for name in QUANTITIES:
        measured, value, low, high = (
            judged[f"{name}{end}"].to_numpy() for end in ("", "_pred", "_low", "_high")
        )
        known = np.isfinite(measured) & (measured > 0)
        if known.any():
            found.append(
                Comparison(
                    title="the models in use",
                    quantity=name,
                    measured=measured[known],
                    predicted=value[known],
                    inside=((measured >= low) & (measured <= high))[known].astype(np.float64),
                    names=names[known].reset_index(drop=True),
                )
            )
    return found


def ranking(comparison: Comparison, at: Booleans | slice = slice(None)) -> float:
    """Return Spearman's rank correlation of measured and predicted values within a question.

    The mean over questions, weighted by rows; nan where none has `SMALLEST_QUESTION` rows.
    """
    frame = pd.DataFrame(
        {
            "question": comparison.names.question,
            "measured": comparison.measured,
            "predicted": comparison.predicted,
        }
    )[at]
    total, weight = 0.0, 0
    for _, rows in frame.groupby("question"):
        if (
            len(rows) >= SMALLEST_QUESTION
            and rows.measured.nunique() > 1
            and rows.predicted.nunique() > 1
        ):
            total += len(rows) * float(rows.measured.corr(rows.predicted, method="spearman"))
            weight += len(rows)
    return total / weight if weight else float("nan")


def breakdown(comparison: Comparison) -> pd.DataFrame:
    """Return errors, coverage and ranking of all rows, and by device, engine, model and mode."""
    names = comparison.names
    groups = [("all", np.ones(len(names), dtype=bool))]
    groups += [
        (f"{column} {value}", (names[column] == value).to_numpy(dtype=bool))
        for column in GROUPINGS
        for value in sorted(names[column].unique())
    ]
    return pd.DataFrame([_figures(comparison, name, at) for name, at in groups])


def _figures(comparison: Comparison, name: str, at: Booleans) -> dict[str, str]:
    errors = error_figures(np.log(comparison.measured[at] / comparison.predicted[at]))
    inside = comparison.inside[at]
    covered = float(np.nanmean(inside)) if np.isfinite(inside).any() else float("nan")
    return {
        "rows of": name,
        "rows": str(errors["rows"]),
        "median": percent(errors["median"]),
        "mean": percent(errors["mean"]),
        "p90": percent(errors["p90"]),
        "in 90 % interval": percent(covered),
        "Spearman in a question": plain(ranking(comparison, at)),
    }


def percent(share: float) -> str:
    """Return a share in percent, blank where unknown."""
    return "" if np.isnan(share) else f"{share:.1%}"


def plain(value: float) -> str:
    """Return a number with three decimals, blank where unknown."""
    return "" if np.isnan(value) else f"{value:.3f}"
