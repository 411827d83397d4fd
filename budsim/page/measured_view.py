"""Uploaded benchmarks beside what is predicted for them: drawings, errors, rows left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from budsim.page.charts import Frame, frame, number
from budsim.performance.training.score import Score, scores

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "ttft_ms": "TTFT, ms",
    "tpot_ms": "time per output token, ms",
    "e2e_ms": "end to end, ms",
    "output_tokens_per_s": "output tokens/s of all replicas",
}
# Marks in one drawing; more cannot be told apart.
MOST_MARKS = 400
REASONS_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One measured value: measured to the right, predicted upwards with its range, in pixels."""

    x: float
    y: float
    low: float
    high: float
    inside: bool
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityView:
    """One quantity of all rows; ``diagonal`` is where predictions are exact."""

    name: str
    frame: Frame
    marks: tuple[Mark, ...]
    diagonal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow:
    """How well one quantity was predicted, as text."""

    name: str
    rows: int
    median: str
    p90: str
    inside: str
    bias: str
    drifts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredView:
    """The whole comparison."""

    rows: int
    quantities: tuple[QuantityView, ...]
    errors: tuple[ErrorRow, ...]
    reasons: tuple[tuple[str, int], ...]
    left_out: int


def measured_view(judged: pd.DataFrame, reasons: Sequence[str], width: int) -> MeasuredView:
    """Return what is shown of rows that `budsim.performance.training.score.judge` compared."""
    drawn = (_quantity(judged, name, width) for name in NAMES)
    return MeasuredView(
        rows=len(judged),
        quantities=tuple(each for each in drawn if each),
        errors=tuple(_error(each) for each in scores(judged) if each.group == "all"),
        reasons=tuple(Counter(reasons).most_common(REASONS_SHOWN)),
        left_out=len(reasons),
    )


def _quantity(judged: pd.DataFrame, name: str, width: int) -> QuantityView | None:
    columns = [judged[f"{name}{end}"].to_numpy(float) for end in ("", "_pred", "_low", "_high")]
    table = np.stack(columns)
    known = np.flatnonzero((np.isfinite(table) & (table > 0)).all(axis=0))
    if not len(known):
        return None
    models, devices = judged["model"].to_numpy(), judged["device"].to_numpy()
    chosen = known[:: -(-len(known) // MOST_MARKS)]
    ends = table[:, chosen]
    box = frame(ends[0].tolist(), ends[1:].ravel().tolist(), width)
    low, high = max(box.x.low, box.y.low), min(box.x.high, box.y.high)
    marks = [
        _mark(box, [float(each) for each in table[:, at]], f"{models[at]} on {devices[at]}")
        for at in chosen
    ]
    diagonal = box.line([low, high], [low, high]) if low < high else ""
    return QuantityView(name=NAMES[name], frame=box, marks=tuple(marks), diagonal=diagonal)


def _mark(box: Frame, values: list[float], subject: str) -> Mark:
    measured, predicted, low, high = values
    return Mark(
        x=box.x.at(measured),
        y=box.y.at(predicted),
        low=box.y.at(low),
        high=box.y.at(high),
        inside=low <= measured <= high,
        title=f"{subject}: measured {number(measured)}, predicted {number(predicted)} "
        f"({number(low)} to {number(high)})",
    )


def _error(score: Score) -> ErrorRow:
    return ErrorRow(
        name=NAMES[score.quantity],
        rows=score.rows,
        median=f"{score.median:.1%}",
        p90=f"{score.p90:.1%}",
        inside=f"{score.coverage90:.0%}",
        bias=f"{score.bias:.2f}",
        drifts=score.drifts,
    )
