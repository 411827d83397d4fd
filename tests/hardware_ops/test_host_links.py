"""How fast devices reach the memory of their host."""

from __future__ import annotations

import pytest

from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import DeviceKind
from budsim.hardware_ops.host_links import C2C, PCIE_4, PCIE_5, host_link_bytes_per_s


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("H100-SXM", PCIE_5),
        ("A100-80GB", PCIE_4),
        ("L40S", PCIE_4),
        ("RTX4060", PCIE_4 / 2.0),
        ("GH200-96GB", C2C),
        ("GB200", C2C),
        ("MI300X", PCIE_5),
        ("MI300A", 0.0),
        ("GB10", 0.0),
        ("Xeon Platinum 8592+", 0.0),
    ],
)
def test_links_of_known_devices(name: str, bandwidth: float) -> None:
    """PCIe by generation and width, C2C of Grace, and none where memory is shared."""
    assert host_link_bytes_per_s(devices()[name]) == bandwidth


def test_every_board_with_memory_of_its_own_has_a_link() -> None:
    """A new generation has to be entered in the table."""
    boards = [
        device
        for device in devices().values()
        if device.kind is not DeviceKind.CPU and not device.host_reserved_bytes
    ]
    without = {device.name for device in boards if not host_link_bytes_per_s(device)}
    assert without == {"MI300A"}
