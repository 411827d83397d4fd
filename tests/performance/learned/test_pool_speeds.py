"""The learned speed of prefill."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from budsim.performance.learned.pool_speeds import (
    LARGEST_SPEED,
    SPEED_TERMS,
    prefill_factors,
    speed_terms,
)
from budsim.performance.measured.pool_measurements import read_pools
from tests.performance.measured.test_pool_columns import DISAGGREGATED


def named(**row: str) -> dict[str, float]:
    """Return the terms of one row by their names."""
    table = pd.DataFrame([DISAGGREGATED | {"precision": "fp8"} | row]).fillna("")
    return dict(zip(SPEED_TERMS, speed_terms(read_pools(table).pools)[0].tolist(), strict=True))


def test_terms_tell_engine_device_and_ranks() -> None:
    """SGLang on one Hopper worker without ranks, then on B200 with eight."""
    hopper = named(device_name="H200-SXM")
    assert (hopper["tensorrt"], hopper["prefill_first_fp8"], hopper["ranks"]) == (0, 0, 0)
    notes = "dp_attention; prefill tp8 x1 workers, decode tp8 x2"
    ranked = named(device_name="B200-SXM", notes=notes)
    assert ranked["ranks"] == 1
    assert ranked["prefill_first_fp8"] == 1
    assert named(engine="dynamo-trtllm")["tensorrt"] == 1


def test_factors_are_of_the_weights_and_bounded() -> None:
    """A weight of log 2 on "one" is a factor of two; one of 9 is cut off."""
    pools = read_pools(pd.DataFrame([DISAGGREGATED | {"precision": "fp8"}]).fillna("")).pools
    weights = np.zeros(len(SPEED_TERMS))
    weights[0] = np.log(2.0)
    assert prefill_factors(pools, weights) == pytest.approx([2.0])
    assert prefill_factors(pools, weights * 100.0) == pytest.approx([np.exp(LARGEST_SPEED)])
