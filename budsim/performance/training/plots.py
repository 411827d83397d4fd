"""Plots of a report, drawn by matplotlib (``pip install budsim[report]``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from budsim.commons.errors import Unavailable
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.training.comparisons import Comparison
from budsim.performance.training.errors import error_figures
from budsim.performance.training.learning_curves import CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Columns a plot is coloured by.
PLOTTED = ("device", "engine", "model")

# Groups with a colour of their own.
COLOURED_GROUPS = 12

# Width of a figure, inches.
WIDTH = 15.0

# Panels side by side.
CURVES_IN_A_ROW = 4


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


def scatter_figure(comparison: Comparison) -> Figure:
    """Return predicted against measured values, coloured by device, engine and model."""
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


def learning_curves_figure(curves: Mapping[str, Sequence[CurvePoint]]) -> Figure:
    """Return the error on withheld groups against the number of groups that taught."""
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
