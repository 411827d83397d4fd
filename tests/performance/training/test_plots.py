"""Plots of a report."""

from __future__ import annotations

import pytest

from budsim.performance.training.learning_curves import CurvePoint
from budsim.performance.training.plots import learning_curves_figure, scatter_figure
from tests.performance.training.compared import comparison


@pytest.mark.timeout(600)  # matplotlib looks for fonts the first time it draws
def test_a_comparison_is_plotted_by_device_engine_and_model() -> None:
    """Three panels on logarithmic axes, each with a legend that counts rows."""
    values = [1.0, 2.0, 4.0]
    panels = scatter_figure(comparison(values, values, ["a"] * 3)).axes
    assert [axes.get_title() for axes in panels] == ["by device", "by engine", "by model"]
    assert panels[0].get_xscale() == "log"
    assert "(3, 0%)" in panels[0].get_legend().get_texts()[0].get_text()


@pytest.mark.timeout(600)
def test_learning_curves_have_a_panel_each() -> None:
    """One title, one line for the target that is known."""
    points = [CurvePoint(groups=n, median={"tpot": 1.0 / n}) for n in (1, 2, 4)]
    (axes,) = learning_curves_figure({"cuda: curves": points}).axes
    assert axes.get_title() == "cuda: curves"
    assert len(axes.get_lines()) == 1
