"""Rents: published prices of providers, and estimates where there are none."""

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.catalog import devices, rent_ratios
from budsim.hardware_ops.device import PriceBasis, PriceKind
from budsim.hardware_ops.ownership import Ownership
from budsim.hardware_ops.rents import (
    RentTerm,
    asked_prices,
    provider_named,
    published_rents,
    rent_of,
)

ASKED_FOR = (
    "H100-SXM H200-SXM B200-SXM GB200 MI300X L4 L40S A100-80GB A10G T4 RTX-PRO-6000 RTX4090 "
    "RTX5090 Gaudi1 B300-SXM H100-NVL V100-32GB EPYC_9R14 Graviton4"
).split()


@pytest.mark.parametrize("name", ASKED_FOR)
def test_what_people_rent_has_a_published_price(name: str) -> None:
    """The price names a provider, an address and a date, and is that of one device."""
    device = devices()[name.replace("_", " ")]
    origin = device.price_origin
    assert origin is not None
    assert (origin.basis, origin.kind) == (PriceBasis.RENT, PriceKind.PUBLISHED)
    assert "https://" in origin.source
    assert origin.date[:2] == "20"
    assert 0.1 < device.price_usd_per_h < 20


def test_every_published_price_names_who_asks_it_and_where_it_was_read() -> None:
    """Provider, term, day and address stand at every price."""
    terms = {*RentTerm, "marketplace"}
    for rents in published_rents().values():
        for rent in rents:
            assert rent.provider
            assert rent.term in terms
            assert rent.url.startswith("https://")
            assert "2024" <= rent.read < "2027"


def test_the_lowest_price_of_a_data_centre_is_taken() -> None:
    """Hyperstack lets an H100 for 3.20; a marketplace's 2.69 does not count."""
    h100 = devices()["H100-SXM"]
    asked = asked_prices("H100-SXM", RentTerm.ON_DEMAND)
    assert [rent.usd_per_h for rent in asked] == sorted(rent.usd_per_h for rent in asked)
    assert rent_of(h100, rent_ratios()).usd_per_h == asked[0].usd_per_h == 3.20
    assert min(rent.usd_per_h for rent in published_rents()["H100-SXM"]) < 3.20


def test_a_provider_counts_once_with_its_newest_price() -> None:
    """RunPod's list of November replaces the one of September."""
    runpod = asked_prices("H100-SXM", RentTerm.ON_DEMAND, "RunPod")
    assert [rent.read for rent in runpod] == ["2026-11-09"]


def test_a_named_provider_is_asked_first() -> None:
    """AWS lets an H100 for 6.88; it lets no MI300X, so the lowest of others is taken."""
    catalog = devices()
    assert rent_of(catalog["H100-SXM"], rent_ratios(), provider="AWS").usd_per_h == 6.88
    mi300x = rent_of(catalog["MI300X"], rent_ratios(), provider="AWS")
    assert mi300x.usd_per_h == asked_prices("MI300X", RentTerm.ON_DEMAND)[0].usd_per_h
    assert provider_named(" aws ") == "AWS"
    with pytest.raises(InvalidInput, match="provider: no on-demand prices of 'Acme' are known"):
        provider_named("Acme")


def test_a_rent_nobody_asks_follows_from_the_purchase_price() -> None:
    """An MI355X costs its purchase with a server times the ratio of data centre devices."""
    mi355x = devices()["MI355X"]
    rent = rent_of(mi355x, rent_ratios())
    ratio = rent_ratios().ratios["data_center"]
    assert rent.usd_per_h == pytest.approx(Ownership().purchase_usd(mi355x) * ratio, abs=1e-4)
    assert rent.origin.kind is PriceKind.ESTIMATED
    assert rent.origin.source.startswith("estimated: ")


def test_the_ratio_is_the_median_of_devices_with_both() -> None:
    """Half of the rented desktop cards have a higher ratio of rent to purchase, half a lower."""
    ratios = sorted(
        asked[0].usd_per_h / Ownership().purchase_usd(device)
        for device in devices().values()
        if device.availability
        and device.availability.segment == "desktop"
        and (asked := asked_prices(device.name, RentTerm.ON_DEMAND))
    )
    assert len(ratios) == rent_ratios().counts["desktop"] == 3
    assert rent_ratios().ratios["desktop"] == ratios[1]


@pytest.mark.parametrize("term", [RentTerm.RESERVED, RentTerm.SPOT])
def test_longer_or_unsure_terms_cost_less(term: RentTerm) -> None:
    """Published or estimated, a reserved or spot device costs less than one on demand."""
    for name in ("H100-SXM", "H200-SXM", "MI300X", "T4"):
        device = devices()[name]
        on_demand, other = rent_of(device, rent_ratios()), rent_of(device, rent_ratios(), term)
        assert 0.2 * on_demand.usd_per_h < other.usd_per_h < on_demand.usd_per_h
    assert rent_of(devices()["T4"], rent_ratios(), term).origin.kind is PriceKind.ESTIMATED
