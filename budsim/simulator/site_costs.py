"""What devices and their power cost at this site, and how a request may ask for another basis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.device import PriceBasis
from budsim.hardware_ops.power import PowerSite
from budsim.hardware_ops.pricing import Pricing


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCosts:
    """What one request says about costs; None: as at the site.

    Attributes
    ----------
    basis : PriceBasis, optional
        Rent, or own.
    pue, usd_per_kwh : float, optional
        Assumptions about power; see `budsim.hardware_ops.ownership`.
    g_co2_per_kwh : float, optional
        Carbon intensity of the grid.
    """

    basis: PriceBasis | None = None
    pue: float | None = None
    usd_per_kwh: float | None = None
    g_co2_per_kwh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCosts:
    """How a site prices devices, and the grid it is on.

    Attributes
    ----------
    pricing : Pricing
        Of the devices; its assumptions of ownership hold the PUE and the price of power.
    g_co2_per_kwh : float
        Carbon intensity of the grid; 445 is the world's average of 2024 (IEA, Electricity 2025).
    """

    pricing: Pricing = field(default_factory=Pricing)
    g_co2_per_kwh: float = 445.0

    @property
    def power_site(self) -> PowerSite:
        """Where the devices stand, for energy and CO2."""
        return PowerSite(pue=self.pricing.ownership.pue, g_co2_per_kwh=self.g_co2_per_kwh)

    def asked(self, wish: AskedCosts) -> SiteCosts:
        """Return the costs with what a request says in place of the site's.

        Raises
        ------
        InvalidInput
            A value is out of range, or a price of power is given for rented devices.
        """
        basis = wish.basis or self.pricing.basis
        if wish.usd_per_kwh is not None and basis is PriceBasis.RENT:
            problem = "is given, and a rent includes power"
            raise InvalidInput("usd_per_kwh", problem, "price_basis own beside it")
        power: Mapping[str, float | None] = {"pue": wish.pue, "usd_per_kwh": wish.usd_per_kwh}
        stated = {name: value for name, value in power.items() if value is not None}
        ownership = replace(self.pricing.ownership, **stated)
        return SiteCosts(
            pricing=replace(self.pricing, basis=basis, ownership=ownership),
            g_co2_per_kwh=self.g_co2_per_kwh if wish.g_co2_per_kwh is None else wish.g_co2_per_kwh,
        )

    def priced(self, clusters: tuple[Cluster, ...], site: SiteCosts) -> tuple[Cluster, ...]:
        """Return clusters that ``site`` has priced with these prices."""
        if self.pricing == site.pricing:
            return clusters
        return self.pricing.repriced_clusters(clusters)
