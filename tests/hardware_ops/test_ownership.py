"""What an hour of an owned device costs."""

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.ownership import LIMITS, SOURCES, Ownership

BARE = Ownership(
    years=1.0,
    host_share=0.0,
    host_least_usd=0.0,
    network_share=0.0,
    pue=1.0,
    usd_per_kwh=0.0,
    hosting_usd_per_kw_month=0.0,
    load=0.0,
    utilisation=1.0,
)
H100 = replace(devices()["H100-SXM"], price_usd=8760.0, tdp_w=1000.0)


def test_purchase_over_a_year_of_hours() -> None:
    """8,760 USD over 8,760 hours are 1 USD an hour."""
    assert BARE.usd_per_h(H100) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("assumed", "usd_per_h"),
    [
        ({"years": 2.0}, 0.5),
        ({"host_share": 0.5}, 1.5),
        ({"host_least_usd": 8760.0}, 2.0),
        ({"network_share": 0.25}, 1.25),
        ({"utilisation": 0.5}, 2.0),
        # 1,000 W of the device and 340 W of its server, 0.10 USD/kWh
        ({"load": 1.0, "usd_per_kwh": 0.10}, 1.134),
        ({"load": 1.0, "usd_per_kwh": 0.10, "pue": 2.0}, 1.268),
        # 1.34 kW at 73 USD a month of 730 hours are 0.134 USD an hour
        ({"load": 1.0, "hosting_usd_per_kw_month": 73.0}, 1.134),
    ],
)
def test_each_assumption_by_itself(assumed: dict[str, float], usd_per_h: float) -> None:
    """Every assumption changes the price as its meaning says."""
    assert replace(BARE, **assumed).usd_per_h(H100) == pytest.approx(usd_per_h)


def test_a_cheap_card_still_needs_a_server() -> None:
    """A card of 749 USD costs at least 2,500 USD more with its place in a server."""
    card = devices()["RTX5070Ti"]
    assert Ownership().purchase_usd(card) > card.price_usd + 2500


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_every_assumption_has_a_source_and_bounds(name: str) -> None:
    """The default says where it was read, and values out of range are refused by name."""
    assert len(SOURCES[name]) > 20
    with pytest.raises(InvalidInput, match=f"^{name}: is "):
        Ownership(**{name: LIMITS[name][1] * 2 + 1})
    with pytest.raises(InvalidInput, match=f"^{name}: is nan"):
        Ownership(**{name: float("nan")})


def test_owning_costs_less_than_renting_when_used_for_years() -> None:
    """The defaults make an H100 about 1.5 USD an hour, half its rent."""
    h100 = devices()["H100-SXM"]
    assert 1.0 < Ownership().usd_per_h(h100) < 0.7 * h100.price_usd_per_h
