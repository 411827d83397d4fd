"""The report as one HTML file that needs nothing else: marks, errors by group, predicted against measured, learning curves.

Plots are drawn by matplotlib, a training-time extra (``pip install budsim[report]``), and stand in the page as PNG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from budsim.commons.errors import Unavailable
from budsim.commons.units import MILLI
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.intervals import Novelty
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.training.fit import Trained, coverage90, error_figures
from budsim.performance.training.learning_curves import CurvePoint
from budsim.performance.training.reports import lines, serving_rows
from budsim.performance.training.score import QUANTITIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPINGS = ("device", "engine", "model", "mode")
PLOTTED = ("device", "engine", "model")
COLOURED_GROUPS = 12
WIDTH = 15.0
"""Of a figure, inches."""
CURVES_IN_A_ROW = 4
SMALLEST_QUESTION = 5
"""Rows a ranking is judged on at least."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: right; white-space: nowrap }
th:first-child, td:first-child, td.dataframe-text { text-align: left } th { background: #f5f5f5 }
img { max-width: 100% } details > summary { cursor: pointer; font-weight: 600 } p.note { color: #555; max-width: 60rem }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Measured and predicted values (n,) of one quantity, with what each row can be grouped by.

    ``inside`` is 1.0 where a value lies in its 90 % interval, 0.0 where not, nan where unknown. ``names`` has the columns of
    `GROUPINGS` and ``question``: rows of one question differ in how a model is served, not in what is asked of it.
    """

    title: str
    quantity: str
    measured: Floats
    predicted: Floats
    inside: Floats
    names: pd.DataFrame


def of_training(trained: Mapping[DeviceKind, Trained]) -> list[Comparison]:
    """Return TTFT and TPOT of every kind as predicted by models that had not seen the row's curve, in milliseconds."""
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
    """Return every measured quantity beside what the models in use predict, from `scoring.judge`."""
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
    """Return Spearman's rank correlation of measured and predicted within a question, averaged over questions by their rows.

    nan where no question has `SMALLEST_QUESTION` rows.
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
        "median": _percent(errors["median"]),
        "mean": _percent(errors["mean"]),
        "p90": _percent(errors["p90"]),
        "in 90 % interval": _percent(covered),
        "Spearman in a question": _plain(ranking(comparison, at)),
    }


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.1%}"


def _plain(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a test has to reach, and the best known elsewhere: the performance model, section 3.

    ``kind``, ``part`` and ``withheld`` name the lines of the table of errors that the test is about.
    """

    test: str
    kind: str
    part: str
    withheld: str
    quantities: tuple[str, ...] = ("tpot", "ttft")
    first: str
    goal: str
    elsewhere: str


MARKS = (
    Mark(
        test="CUDA serving, each curve withheld: TPOT / TTFT",
        kind="cuda", part="serving", withheld="each curve",
        first="6 % / 12 %", goal="4 % / 9 %", elsewhere="NVIDIA AIConfigurator 0.12 on the same file: 17.7 % / 47.2 %",
    ),
    Mark(
        test="CUDA serving, each model withheld",
        kind="cuda", part="serving", withheld="each model",
        first="14 % / 27 %", goal="8 % / 18 %", elsewhere="as above; BLIS (H100): ITL 7.1 %, TTFT 17.6 %, E2E 6.7 %",
    ),
    Mark(
        test="CUDA serving, each device withheld",
        kind="cuda", part="serving", withheld="each device",
        first="13 % / 26 %", goal="8 % / 18 %", elsewhere="BLIS: E2E A100 15.7 %, L40S 13.3 %",
    ),
    Mark(
        test="CPU, each model withheld: TPOT / TTFT",
        kind="cpu", part="all rows", withheld="each model",
        first="15 % / 25 %", goal="7 % / 12 %", elsewhere="BudSimulator: 7-16 % output tok/s on one Xeon",
    ),
    Mark(
        test="CPU, each device withheld",
        kind="cpu", part="all rows", withheld="each device",
        first="15 % / 25 %", goal="7 % / 12 %", elsewhere="as above",
    ),
    Mark(
        test="HPU, each model withheld: output throughput",
        kind="hpu", part="all rows", withheld="each model", quantities=("e2e",),
        first="8 %", goal="5 %", elsewhere="nobody publishes one",
    ),
)  # fmt: skip


def marks(trained: Mapping[DeviceKind, Trained]) -> pd.DataFrame:
    """Return what was reached beside the marks, the goals and the best known elsewhere."""
    found = {(line.kind, line.part, line.withheld, line.quantity): line for line in lines(trained)}
    rows = []
    for mark in MARKS:
        own = [
            found.get((mark.kind, mark.part, mark.withheld, quantity))
            for quantity in mark.quantities
        ]
        here = " / ".join(_percent(line.median) if line else "-" for line in own)
        rows.append((mark.test, here, mark.first, mark.goal, mark.elsewhere))
    serving = [found.get(("cuda", "serving", "each curve", quantity)) for quantity in TARGETS[::-1]]
    inside = " / ".join(_percent(line.coverage90) if line else "-" for line in serving)
    rows.append(
        (
            "90 % interval: withheld CUDA serving rows inside",
            inside,
            "85-95 %",
            "88-92 %",
            "nobody publishes one",
        )
    )
    ranks = _serving_rankings(trained.get(DeviceKind.CUDA))
    rows.append(
        (
            "ranking within one question: Spearman, TPOT / TTFT",
            ranks,
            "0.97 / 0.90",
            "0.99 / 0.95",
            "AIConfigurator 0.98 / 0.86",
        )
    )
    speed = "AIConfigurator 13-50 ms per single estimate"
    rows.append(
        (
            "1,000 candidates, physics and regressors, one core",
            "see `make bench`",
            "50 ms",
            "10 ms",
            speed,
        )
    )
    return pd.DataFrame(
        rows,
        columns=[
            "median absolute error unless said otherwise",
            "here",
            "first mark",
            "goal",
            "best elsewhere",
        ],
    )


def _serving_rankings(cuda: Trained | None) -> str:
    if cuda is None:
        return "- / -"
    found = {each.quantity: each for each in of_training({DeviceKind.CUDA: cuda})}
    residuals = cuda.validations[Novelty.KNOWN].residuals
    ranks = {
        target: ranking(each, serving_rows(cuda)[np.isfinite(residuals[target])])
        for target in TARGETS
        if (each := found.get(f"{target.upper()}, ms"))
    }
    return " / ".join(_plain(ranks[target]) if target in ranks else "-" for target in TARGETS[::-1])


def training_page(
    trained: Mapping[DeviceKind, Trained], curves: Mapping[str, Sequence[CurvePoint]]
) -> str:
    """Return the page of a training: marks, all errors, plots of every kind, learning curves."""
    errors = pd.DataFrame(
        [
            {
                "kind": x.kind, "rows of": x.part, "withheld": x.withheld, "quantity": x.quantity, "rows": x.rows,
                "median": _percent(x.median), "mean": _percent(x.mean), "p90": _percent(x.p90),
                "in 90 % interval": _percent(x.coverage90),
            }
            for x in lines(trained)
        ]
    )  # fmt: skip
    hashes = ", ".join(
        f"{kind.value} {each.manifest['data_sha256'][:12]}" for kind, each in trained.items()
    )
    body = [
        "<p class=note>Grouped cross-validation: every row is predicted by a model that saw none of its curve, model or device. "
        f"Trained on data with SHA-256 {escape(hashes)}.</p>",
        "<h2>Marks</h2>",
        _html(marks(trained)),
        "<h2>Errors</h2>",
        _html(errors),
        "<h2>Learning curves</h2>",
        "<p class=note>Median error on a fixed fifth of the curves, or models, when a growing share of the others teaches; "
        "corrections are applied whole.</p>",
        _picture(_curves(curves), "learning curves") if curves else "",
        *_compared(of_training(trained)),
    ]
    return _page("How well the models predict", body)


def evaluation_page(judged: pd.DataFrame, problems: Sequence[str]) -> str:
    """Return the page of an evaluation: plots and errors of every quantity, and why rows were left out."""
    body = _compared(of_evaluation(judged))
    if problems:
        reasons = pd.Series(problems, dtype=str).value_counts()
        body += [
            "<h2>Rows left out</h2>",
            _html(reasons.rename_axis("reason").reset_index(name="rows")),
        ]
    return _page("How well the models predict these rows", body)


def _compared(comparisons: Iterable[Comparison]) -> list[str]:
    text = []
    for each in comparisons:
        title = f"{each.quantity}: {each.title}"
        text += [f"<h2>{escape(title)}</h2>", _picture(_scatter(each), title)]
        text += [
            "<details><summary>errors by device, engine, model and mode</summary>",
            _html(breakdown(each)),
            "</details>",
        ]
    return text


def _page(title: str, body: Sequence[str]) -> str:
    head = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style></head>"
    return f"{head}<body><h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"


def _html(table: pd.DataFrame) -> str:
    return str(table.to_html(index=False, border=0, escape=True, na_rep=""))


def _picture(figure: Figure, text: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight", metadata={"Software": None})
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _figure(height: float, panels: int, columns: int) -> tuple[Figure, list[Axes]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unavailable(
            "the report's plots need matplotlib; pip install 'budsim[report]'"
        ) from error
    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, height * rows))
    figure.subplots_adjust(hspace=0.35, wspace=0.25)
    return figure, [figure.add_subplot(rows, columns, number + 1) for number in range(panels)]


def _scatter(comparison: Comparison) -> Figure:
    figure, panels = _figure(6.4, len(PLOTTED), len(PLOTTED))
    both = np.concatenate([comparison.measured, comparison.predicted])
    ends = np.array([both.min() / 1.3, both.max() * 1.3])
    for axes, column in zip(panels, PLOTTED, strict=True):
        axes.plot(ends, ends, color="black", linewidth=0.8)
        axes.fill_between(ends, ends / 1.2, ends * 1.2, color="black", alpha=0.08, linewidth=0)
        values = comparison.names[column]
        largest = list(values.value_counts(sort=True).index[:COLOURED_GROUPS])
        for number, value in enumerate([None, *largest]):
            at = (~values.isin(largest) if value is None else values == value).to_numpy(dtype=bool)
            if at.any():
                colour = "lightgrey" if value is None else f"C{(number - 1) % 10}"
                marker = "o" if number <= 10 else "^"
                median = error_figures(np.log(comparison.measured[at] / comparison.predicted[at]))[
                    "median"
                ]
                label = f"{value or 'others'} ({at.sum()}, {median:.0%})"
                axes.plot(
                    comparison.measured[at],
                    comparison.predicted[at],
                    marker,
                    color=colour,
                    ms=2.5,
                    alpha=0.5,
                    label=label,
                )
        axes.set(
            xscale="log",
            yscale="log",
            xlim=ends,
            ylim=ends,
            xlabel=f"measured {comparison.quantity}",
            title=f"by {column}",
        )
        axes.set_aspect("equal")
        axes.legend(
            loc="upper left", bbox_to_anchor=(0.0, -0.13), fontsize=8, markerscale=2, frameon=False
        )
    panels[0].set_ylabel(f"predicted {comparison.quantity}")
    return figure


def _curves(curves: Mapping[str, Sequence[CurvePoint]]) -> Figure:
    figure, panels = _figure(3.6, len(curves), CURVES_IN_A_ROW)
    for axes, (title, points) in zip(panels, curves.items(), strict=True):
        for target in TARGETS:
            known = [
                (point.groups, point.median[target]) for point in points if target in point.median
            ]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", label=target.upper())
        axes.set(title=title, xlabel="groups taught", ylim=(0, None))
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.legend(frameon=False)
    return figure
