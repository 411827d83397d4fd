"""Power of devices under load and of the machines around them, and the grid that feeds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.device import Device

# Power of a server beyond its accelerators, for each of them. A DGX H100 draws 10.2 kW at most with
# eight GPUs of 700 W (NVIDIA DGX H100 data sheet): 575 W a GPU at full fans. In use, eight H100
# training a 70B model took 6.74 kW DC (Supermicro's MLPerf Training v4.0 entry), about 250 W beyond
# the 590 W that each GPU draws. Servers of eight L4 take about 500 W without them: 62 W each.
HOST_W: Final = 40.0
HOST_SHARE: Final = 0.30
# Power over TDP of an idle device, and what waiting for memory and computing all the time add.
# Idle: about 85 W of an H100 SXM with a loaded model. The others are fitted by least squares on 13
# configurations of vLLM on H100 and B200 (Llama 3.1 8B and 70B, Qwen3 32B; ML.ENERGY leaderboard,
# v3 of December 2025) with the time shares of our own model; the largest error is 18 % of the
# power. Time that kernels do not reach a roof is counted as overhead: computing adds over 1.
IDLE_SHARE: Final = 0.12
MEMORY_SHARE: Final = 0.79
COMPUTE_SHARE: Final = 1.66


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSite:
    """Where the devices stand.

    Attributes
    ----------
    pue : float
        Power of the data centre over the power of its computers; 1.56 is the average of the Uptime
        Institute's survey of 2024.
    g_co2_per_kwh : float
        Carbon intensity of the grid, g CO2 per kWh; 445 is the world's average of 2024 (IEA,
        Electricity 2025).

    Raises
    ------
    InvalidInput
        A value is out of range.
    """

    pue: float = 1.56
    g_co2_per_kwh: float = 445.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1.0 <= self.pue <= 5.0:
            raise InvalidInput("pue", f"is {self.pue!r}", "a number from 1 to 5")
        if not 0.0 <= self.g_co2_per_kwh <= 2000.0:
            problem = f"is {self.g_co2_per_kwh!r}"
            raise InvalidInput("g_co2_per_kwh", problem, "g CO2 per kWh from 0 to 2000")


def host_w(device: Device) -> float:
    """Return the power of a server beyond its devices, for one of them, W.

    H100-SXM: 40 + 0.3 x 700 = 250 W; L4: 40 + 0.3 x 72 = 62 W.
    """
    return HOST_W + HOST_SHARE * device.tdp_w


def device_w(device: Device, *, memory: float, compute: float, busy: float = 1.0) -> float:
    """Return the mean power of one device, W; its TDP is the bound.

    Parameters
    ----------
    device : Device
        Its ``tdp_w`` counts.
    memory, compute : float
        Shares (0..1) of the time of a step at the roof of the memory and of the arithmetic.
    busy : float
        Share (0..1) of the time in which the engine computes; idle otherwise.
    """
    load = MEMORY_SHARE * memory + COMPUTE_SHARE * compute
    return device.tdp_w * (IDLE_SHARE + busy * min(load, 1.0 - IDLE_SHARE))
