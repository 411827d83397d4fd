"""Constants of kernels: what may not be beyond a data sheet, and who reduces through the host."""

from __future__ import annotations

import pytest

from budsim.hardware_ops.catalog import devices
from budsim.performance.physics.kernel_constants import (
    HOPPER,
    KERNEL_CONSTANTS,
    through_host,
)

SHARES = (
    "gemm expert_gemm bandwidth expert_bandwidth cache_bandwidth decode_attention "
    "prefill_attention linear_prefill link"
).split()


@pytest.mark.parametrize("name", sorted(KERNEL_CONSTANTS))
def test_no_kernel_reaches_more_than_its_data_sheet(name: str) -> None:
    """Every share is above 0 and at most 1, in every table."""
    constants = KERNEL_CONSTANTS[name]
    assert all(0.0 < getattr(constants, share) <= 1.0 for share in SHARES)


def test_every_kind_of_device_in_the_catalog_has_constants() -> None:
    """A device without constants of its generation has those of its kind."""
    assert all(
        device.generation in KERNEL_CONSTANTS or device.kind in KERNEL_CONSTANTS
        for device in devices().values()
    )


def test_engines_with_kernels_of_their_own_on_blackwell_have_them_on_blackwell_ultra() -> None:
    """B300 and GB300 run what B200 and GB200 run."""
    own = {name.removesuffix(" on sm100") for name in KERNEL_CONSTANTS if " on sm100" in name}
    assert own == {
        name.removesuffix(" on sm103") for name in KERNEL_CONSTANTS if " on sm103" in name
    }


@pytest.mark.parametrize(
    ("link", "share"), [("PCIe 5.0 x16", 0.44), ("PCIe 4.0 x16", 0.15), ("PCIe 3.0 x16", 0.15)]
)
def test_devices_without_nvlink_reduce_rank_by_rank(link: str, share: float) -> None:
    """0.44 of PCIe 5 and 0.15 of older ones, along a tree; everything else stays."""
    host = through_host(HOPPER, link)
    assert (host.link, host.all_reduce_depth) == (share, 1.0)
    assert (host.gemm, host.layer_latency_s) == (HOPPER.gemm, HOPPER.layer_latency_s)
