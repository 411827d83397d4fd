"""The report as one HTML file that needs nothing else.

Marks, errors by group, predicted against measured values, learning curves; plots stand in the page
as PNG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.training.comparisons import (
    Comparison,
    breakdown,
    of_evaluation,
    of_training,
    percent,
)
from budsim.performance.training.fit import Trained
from budsim.performance.training.learning_curves import CurvePoint
from budsim.performance.training.marks import marks
from budsim.performance.training.plots import learning_curves_figure, scatter_figure
from budsim.performance.training.reports import lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a }
body { max-width: 1280px; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #e4e4e4 }
th, td { text-align: right; white-space: nowrap }
th:first-child, td:first-child, td.dataframe-text { text-align: left } th { background: #f5f5f5 }
img { max-width: 100% } details > summary { cursor: pointer; font-weight: 600 }
p.note { color: #555; max-width: 60rem }
"""


def training_page(
    trained: Mapping[DeviceKind, Trained], curves: Mapping[str, Sequence[CurvePoint]]
) -> str:
    """Return the page of a training: marks, all errors, plots of every kind, learning curves."""
    errors = pd.DataFrame(
        [
            {
                "kind": x.kind, "rows of": x.part, "withheld": x.withheld,
                "quantity": x.quantity, "rows": x.rows,
                "median": percent(x.median), "mean": percent(x.mean), "p90": percent(x.p90),
                "in 90 % interval": percent(x.coverage90),
            }
            for x in lines(trained)
        ]
    )  # fmt: skip
    hashes = ", ".join(
        f"{kind.value} {each.manifest['data_sha256'][:12]}" for kind, each in trained.items()
    )
    body = [
        "<p class=note>Grouped cross-validation: every row is predicted by a model that saw none "
        "of its curve, model or device. "
        f"Trained on data with SHA-256 {escape(hashes)}.</p>",
        "<h2>Marks</h2>",
        _html(marks(trained)),
        "<h2>Errors</h2>",
        _html(errors),
        "<h2>Learning curves</h2>",
        "<p class=note>Median error on a fixed fifth of the curves, or models, when a growing "
        "share of the others teaches; corrections are applied whole.</p>",
        _picture(learning_curves_figure(curves), "learning curves") if curves else "",
        *_compared(of_training(trained)),
    ]
    return _page("How well the models predict", body)


def evaluation_page(judged: pd.DataFrame, problems: Sequence[str]) -> str:
    """Return the page of an evaluation: plots, errors, and why rows were left out."""
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
        text += [f"<h2>{escape(title)}</h2>", _picture(scatter_figure(each), title)]
        text += [
            "<details><summary>errors by device, engine, model and mode</summary>",
            _html(breakdown(each)),
            "</details>",
        ]
    return text


def _page(title: str, body: Sequence[str]) -> str:
    head = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
    )
    return f"{head}<body><h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"


def _html(table: pd.DataFrame) -> str:
    return str(table.to_html(index=False, border=0, escape=True, na_rep=""))


def _picture(figure: Figure, text: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight", metadata={"Software": None})
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{encoded}">'
