"""Profiles: which default limits hold on a device."""

from __future__ import annotations

from budsim.engine_ops.engine_profile import DefaultLimits
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
