"""How fast an accelerator reaches the memory of its host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from budsim.hardware_ops.device import Device, DeviceKind

_GB: Final = 1e9
# One direction of x16 slots, bytes/s: PCI-SIG base specifications, after encoding.
PCIE_3: Final = 15.75 * _GB
PCIE_4: Final = 31.5 * _GB
PCIE_5: Final = 63.0 * _GB
PCIE_6: Final = 126.0 * _GB
# NVLink-C2C between a Grace CPU and its GPU, one direction: 900 GB/s in both (NVIDIA GH200 and
# GB200 data sheets).
C2C: Final = 450.0 * _GB

# By generation, from the vendors' data sheets: P100 and V100 PCIe 3, A100 PCIe 4, H100 to B200 PCIe
# 5, HGX B300 PCIe 6; MI100 and MI200 PCIe 4, MI300 and MI350 PCIe 5; Gaudi 1 and 2 PCIe 4, Gaudi 3
# PCIe 5; Intel Max PCIe 5. Boards whose devices reach each other over PCIe state it themselves.
BY_GENERATION: Final[Mapping[str, float]] = {
    "sm60": PCIE_3,
    "sm61": PCIE_3,
    "sm70": PCIE_3,
    "sm75": PCIE_3,
    "sm80": PCIE_4,
    "sm86": PCIE_4,
    "sm89": PCIE_4,
    "sm90": PCIE_5,
    "sm100": PCIE_5,
    "sm103": PCIE_6,
    "sm120": PCIE_5,
    "gfx908": PCIE_4,
    "gfx90a": PCIE_4,
    "gfx942": PCIE_5,
    "gfx950": PCIE_5,
    "gaudi": PCIE_4,
    "gaudi2": PCIE_4,
    "gaudi3": PCIE_5,
    "xe_hpc": PCIE_5,
}
# Devices beside a CPU of their own on a coherent link.
COHERENT: Final = ("GH200", "GB200", "GB300")
# Devices whose memory is that of their CPU: nothing is to be gained from it.
SHARED_MEMORY: Final = ("MI300A",)


def host_link_bytes_per_s(device: Device) -> float:
    """Return what one device reads from its host's memory, bytes/s by data sheet.

    0 where it has none of its own: processors, and boards that share memory with their CPU.
    """
    shares = device.host_reserved_bytes > 0 or device.name.startswith(SHARED_MEMORY)
    if device.kind is DeviceKind.CPU or shares:
        return 0.0
    if device.name.startswith(COHERENT):
        return C2C
    if device.scale_up.name.startswith("PCIe"):
        return device.scale_up.bandwidth_bytes_per_s
    return BY_GENERATION.get(device.generation, 0.0)
