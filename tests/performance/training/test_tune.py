"""The search for parameters."""

from __future__ import annotations

import pandas as pd
import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.training.cross_validation import PARAMETERS
from budsim.performance.training.tune import search
from tests.performance.populations import TREES, TRUE_FACTOR


def test_the_parameter_search_repeats_itself_and_judges_what_is_in_use(
    benchmark: pd.DataFrame,
) -> None:
    """Two searches of one seed find the same settings and errors, best first.

    The parameters in use are among them.
    """
    first, second = (
        search(benchmark, DeviceKind.CUDA, 2, seed=3, rounds=TREES // 3) for _ in range(2)
    )
    assert [trial.errors for trial in first] == [trial.errors for trial in second]
    assert PARAMETERS in [trial.parameters for trial in first]
    assert first[0].score <= first[-1].score
    assert first[0].errors["ttft"] < TRUE_FACTOR - 1.0


def test_a_kind_without_rows_is_not_searched(benchmark: pd.DataFrame) -> None:
    """Asked about a kind of hardware nobody measured, the search says so."""
    with pytest.raises(InvalidInput, match="rocm has 0 usable rows"):
        search(benchmark, DeviceKind.ROCM, 1)
