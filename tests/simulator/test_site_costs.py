"""Costs of a site, and what a request says in their place."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.device import PriceBasis
from budsim.hardware_ops.ownership import Ownership
from budsim.hardware_ops.pricing import Pricing
from budsim.simulator.site_costs import AskedCosts, SiteCosts
from tests.simulator.situations import make_cluster

RENTED = (make_cluster((("H100-SXM", 8),)),)


def price(clusters: tuple[Cluster, ...]) -> float:
    """Return what an hour of the only device costs, USD."""
    device = clusters[0].nodes[0].pools[0].device
    assert device is not None
    return device.price_usd_per_h


def test_a_request_that_says_nothing_leaves_prices_as_they_are() -> None:
    """The very clusters of the site."""
    site = SiteCosts()
    assert site.asked(AskedCosts()).priced(RENTED, site) is RENTED
    assert site.asked(AskedCosts()) == site


def test_owned_devices_cost_what_their_purchase_and_power_make() -> None:
    """Dearer power makes the hour dearer by the energy it takes, over the utilisation."""
    site = SiteCosts()
    cheap, dear = (
        price(site.asked(AskedCosts(basis=PriceBasis.OWN, usd_per_kwh=usd)).priced(RENTED, site))
        for usd in (0.0, 1.0)
    )
    # 0.84 of 700 W and 250 W of the host, at a PUE of 1.56, 90 % of the hours.
    assert dear - cheap == pytest.approx((0.84 * 0.7 + 0.25) * 1.56 / 0.9, abs=1e-3)


def test_an_owning_site_can_be_asked_for_rents() -> None:
    """Prices of the site do not stay on the devices."""
    site = SiteCosts(pricing=Pricing(basis=PriceBasis.OWN))
    owned = site.pricing.repriced_clusters(RENTED)
    rented = site.asked(AskedCosts(basis=PriceBasis.RENT)).priced(owned, site)
    assert price(rented) == price(RENTED)
    assert price(owned) != price(RENTED)


def test_power_of_rented_devices_has_no_price() -> None:
    """It is in the rent; the PUE still counts in the energy."""
    with pytest.raises(InvalidInput, match="usd_per_kwh: is given, and a rent includes power"):
        SiteCosts().asked(AskedCosts(usd_per_kwh=0.1))
    asked = SiteCosts().asked(AskedCosts(pue=1.1, g_co2_per_kwh=20.0))
    assert (asked.power_site.pue, asked.power_site.g_co2_per_kwh) == (1.1, 20.0)
    assert asked.pricing.ownership == Ownership(pue=1.1)
