"""What an hour of an owned device costs: purchase, host, network, power, hosting, idle hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.units import KILO
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.power import host_w

HOURS_PER_YEAR: Final = 8760.0
MONTHS_PER_YEAR: Final = 12.0
# Memory and board of a processor socket, in prices of the processor: about what a server of two
# sockets with 1 TB costs beyond its processors (assumed).
BOARD_SHARE: Final = 0.5

SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "years": "useful life of AI servers in Amazon's accounts from 2025 on (10-K of 2024)",
        "host_share": "a DGX H100 costs 269,000 USD, its eight GPUs with their board 195,000 "
        "(SemiAnalysis, AI Server Cost Analysis, 2023)",
        "host_least_usd": "assumed: a server for eight PCIe cards costs 20,000 USD without them",
        "network_share": "assumed: a tenth of the servers, for switches, cables and storage",
        "pue": "average of data centres, Uptime Institute Global Data Center Survey 2024",
        "usd_per_kwh": "average commercial price in the USA of 2024, EIA Electric Power Monthly",
        "hosting_usd_per_kw_month": "average asking rate of wholesale colocation without power, "
        "CBRE North America Data Center Trends H2 2024",
        "load": "median power over TDP of 8 H100 and B200 servings in the ML.ENERGY leaderboard v3",
        "utilisation": "over 90 % effective time in 54 days on 16,384 GPUs (The Llama 3 Herd of "
        "Models, 2024)",
    }
)
LIMITS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "years": (0.5, 20.0),
        "host_share": (0.0, 10.0),
        "host_least_usd": (0.0, 1e6),
        "network_share": (0.0, 10.0),
        "pue": (1.0, 5.0),
        "usd_per_kwh": (0.0, 10.0),
        "hosting_usd_per_kw_month": (0.0, 1e4),
        "load": (0.0, 1.0),
        "utilisation": (0.01, 1.0),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Assumptions about owned devices; `SOURCES` says where the defaults were read.

    Attributes
    ----------
    years : float
        Years the purchase is spread over.
    host_share, host_least_usd : float
        Server around an accelerator in prices of the accelerator, and the least it costs, USD.
    network_share : float
        Network and storage in prices of the servers.
    pue : float
        Power of the data centre over the power of its computers.
    usd_per_kwh : float
        Price of power.
    hosting_usd_per_kw_month : float
        Rent of space and cooling for a kW of computers, USD a month.
    load : float
        Power an accelerator draws over its TDP, mean.
    utilisation : float
        Share of the hours in which the device is there for this use; the others have to be paid by
        these.

    Raises
    ------
    InvalidInput
        A value is out of its range in `LIMITS`.
    """

    years: float = 5.0
    host_share: float = 0.38
    host_least_usd: float = 2500.0
    network_share: float = 0.10
    pue: float = 1.56
    usd_per_kwh: float = 0.1275
    hosting_usd_per_kw_month: float = 184.06
    load: float = 0.84
    utilisation: float = 0.90

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for field in fields(self):
            value, (least, most) = getattr(self, field.name), LIMITS[field.name]
            if not least <= value <= most:
                raise InvalidInput(field.name, f"is {value!r}", f"a number from {least} to {most}")

    def usd_per_h(self, device: Device) -> float:
        """Return what an hour of use of one device costs.

        10,000 USD with a host of 3,800 and a network of 1,380 are 15,180 USD; over 5 years of
        8,760 h 0.347 USD an hour. Power and hosting come on top, and all of it is divided by the
        utilisation.
        """
        capital = self.purchase_usd(device) / (self.years * HOURS_PER_YEAR)
        kw = (device.tdp_w * self.load + host_w(device)) / KILO
        power = kw * self.pue * self.usd_per_kwh
        hosting = kw * self.hosting_usd_per_kw_month * MONTHS_PER_YEAR / HOURS_PER_YEAR
        return (capital + power + hosting) / self.utilisation

    def purchase_usd(self, device: Device) -> float:
        """Return the price of one device with its share of host and network."""
        if device.kind is DeviceKind.CPU:
            host = BOARD_SHARE * device.price_usd
        else:
            host = max(self.host_share * device.price_usd, self.host_least_usd)
        return (device.price_usd + host) * (1.0 + self.network_share)

    def words(self) -> str:
        """Return the assumptions in one line."""
        return (
            f"purchase with host and network over {self.years:g} years, power at PUE "
            f"{self.pue:g} and {self.usd_per_kwh:g} USD/kWh, hosting "
            f"{self.hosting_usd_per_kw_month:g} USD/kW a month, used "
            f"{self.utilisation:.0%} of the time"
        )
