"""Profiles: which default limits hold on a device, and for whom newcomers wait."""

from __future__ import annotations

import pytest

from budsim.engine_ops.engine_profile import DefaultLimits
from budsim.engine_ops.profiles import profiles
from tests.engine_ops.samples import GIB, device


def test_a_row_holds_within_its_memory_name_and_versions() -> None:
    """A row for A100, 70 GiB or more, since 0.20 holds only for an A100-80GB from 0.20 on."""
    row = DefaultLimits(
        max_num_batched_tokens=1,
        max_num_seqs=1,
        from_bytes=70.0 * GIB,
        name_part="A100",
        since=(0, 20),
    )
    assert row.holds_for(device("A100-SXM-80GB"), (0, 20))
    assert not row.holds_for(device("A100-SXM-80GB"), (0, 19))
    assert not row.holds_for(device("A100-40GB"), (0, 20))
    assert not row.holds_for(device("H100-SXM"), (0, 20))


def test_newcomers_of_tgis_wait_for_each_other() -> None:
    """Prompts interrupt decoding every 12 steps (24 and 24 tokens): 6 on average of many.

    Of six half as much, of three none, and no other engine makes them wait.
    """
    tgis = profiles()["tgis"]
    assert tgis.gathering_steps(24.0, float("inf")) == pytest.approx(6.0)
    assert tgis.gathering_steps(24.0, 6.0) == pytest.approx(3.0)
    assert tgis.gathering_steps(24.0, 3.0) == tgis.gathering_steps(24.0, 1.0) == 0.0
    assert profiles()["vllm"].gathering_steps(24.0, 64.0) == 0.0
