"""The drawing of TTFT against load: p50 and p99, the knee, and the load that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from budsim.commons.units import MILLI
from budsim.page.charts import Frame, frame, number
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replay_curves import LoadCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRow:
    """One load with what requests see, as text."""

    load: str
    ttft_p50_ms: str
    ttft_p99_ms: str
    itl_p99_ms: str
    e2e_p99_s: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadView:
    """The drawing and its numbers; ``limit`` is the pixel of a TTFT p99 target."""

    frame: Frame
    p50: str
    p99: str
    knee: float
    asked: float
    limit: float | None
    unit: str
    knee_text: str
    asked_text: str
    rows: tuple[LoadRow, ...]


def load_view(question: Question, curve: LoadCurve | None, width: int) -> LoadView | None:
    """Return how TTFT grows with the load; None where not even one request is served."""
    if curve is None:
        return None
    loads, p50, p99 = (
        [float(each) for each in values]
        for values in (curve.load, curve.ttft_p50_s / MILLI, curve.ttft_p99_s / MILLI)
    )
    limit_ms = question.targets.limits.get("ttft_p99_s", 0.0) / MILLI
    low, high = min(p50), max(p99)
    is_drawn = low <= limit_ms <= 4 * high
    box = frame(
        [*loads, curve.asked],
        [low, high, *([limit_ms] if is_drawn else [])],
        width,
        log_x=not curve.is_rate,
    )
    return LoadView(
        frame=box,
        p50=box.line(loads, p50),
        p99=box.line(loads, p99),
        knee=box.x.at(curve.knee),
        asked=box.x.at(curve.asked),
        limit=box.y.at(limit_ms) if is_drawn else None,
        unit="requests/s" if curve.is_rate else "requests in flight",
        knee_text=number(curve.knee),
        asked_text=number(curve.asked),
        rows=_rows(curve),
    )


def _rows(curve: LoadCurve) -> tuple[LoadRow, ...]:
    return tuple(
        LoadRow(
            load=number(float(curve.load[at])),
            ttft_p50_ms=number(float(curve.ttft_p50_s[at]) / MILLI),
            ttft_p99_ms=number(float(curve.ttft_p99_s[at]) / MILLI),
            itl_p99_ms=number(float(curve.itl_p99_s[at]) / MILLI),
            e2e_p99_s=number(float(curve.e2e_p99_s[at])),
        )
        for at in range(len(curve.load))
    )
