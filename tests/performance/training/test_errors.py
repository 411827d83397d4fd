"""Figures of how far predictions were off."""

import numpy as np
import pytest

from budsim.performance.training.errors import error_figures


def test_errors_are_relative_to_what_was_measured() -> None:
    """Predicted 10 % too high, right, and 20 % too low: median 10 %, mean 10 %."""
    residuals = -np.log(np.array([1.1, 1.0, 0.8, np.nan]))
    figures = error_figures(residuals)
    assert figures["rows"] == 3
    assert figures["median"] == pytest.approx(0.1)
    assert figures["mean"] == pytest.approx(0.1)


def test_nothing_known_has_no_figures() -> None:
    """Only a count of 0."""
    assert error_figures(np.array([np.nan])) == {"rows": 0}
