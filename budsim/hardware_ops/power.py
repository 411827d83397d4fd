"""Power of devices and of the machines around them."""

from __future__ import annotations

from typing import Final

from budsim.hardware_ops.device import Device

# Power of a server beyond its accelerators, for each of them. A DGX H100 draws 10.2 kW at most with
# eight GPUs of 700 W (NVIDIA DGX H100 data sheet): 575 W a GPU at full fans. In use, eight H100
# training a 70B model took 6.74 kW DC (Supermicro's MLPerf Training v4.0 entry), about 250 W beyond
# the 590 W that each GPU draws. Servers of eight L4 take about 500 W without them: 62 W each.
HOST_W: Final = 40.0
HOST_SHARE: Final = 0.30


def host_w(device: Device) -> float:
    """Return the power of a server beyond its devices, for one of them, W.

    H100-SXM: 40 + 0.3 x 700 = 250 W; L4: 40 + 0.3 x 72 = 62 W.
    """
    return HOST_W + HOST_SHARE * device.tdp_w
