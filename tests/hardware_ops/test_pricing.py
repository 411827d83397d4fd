"""One basis for the prices of all devices."""

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.device import PriceBasis, PriceKind
from budsim.hardware_ops.device_names import find_device
from budsim.hardware_ops.inventory import read_inventory
from budsim.hardware_ops.ownership import Ownership
from budsim.hardware_ops.pricing import GivenPrice, Pricing, basis_named, term_named
from budsim.hardware_ops.rents import RentTerm

H100 = devices()["H100-SXM"]
OWN = Pricing(basis=PriceBasis.OWN)


def cluster(**extra: object) -> Cluster:
    """Return a cluster of one H100, with further fields of its device's entry."""
    device = {"name": "H100-SXM", "type": "cuda", "available_count": 1, "total_count": 1}
    node = {"name": "n", "id": "n", "status": True, "devices": [device | extra]}
    return read_inventory([{"id": "c", "nodes": [node]}])[0]


def test_renting_is_the_basis_of_the_catalog() -> None:
    """Without a word about prices a device costs its rent."""
    assert Pricing().priced(H100) == H100


def test_all_devices_of_an_answer_have_the_same_basis() -> None:
    """Owned devices are priced by the same assumptions, published rents or not."""
    for name in ("H100-SXM", "MI355X", "RTX5070Ti", "EPYC 9654"):
        priced = OWN.priced(devices()[name])
        assert priced.price_origin is not None
        assert priced.price_origin.basis is PriceBasis.OWN
        assert priced.price_usd_per_h == pytest.approx(Ownership().usd_per_h(priced), abs=1e-4)


def test_own_prices_win() -> None:
    """A rent in the file replaces the catalog's; a purchase price changes the cost of owning."""
    given = {"H100-SXM": GivenPrice(usd_per_h=1.0, purchase_usd=13_500.0, where="f.csv row 1")}
    rented = Pricing(given=given).priced(H100)
    assert rented.price_usd_per_h == 1.0
    assert rented.price_origin is not None
    assert rented.price_origin.kind is PriceKind.GIVEN
    assert "f.csv row 1" in rented.price_origin.source
    owned = replace(OWN, given=given).priced(H100)
    assert owned.price_usd == 13_500.0
    assert owned.price_usd_per_h < OWN.priced(H100).price_usd_per_h


def test_an_inventory_keeps_its_own_prices() -> None:
    """A price that the inventory states is not replaced, whatever the basis."""
    stated = cluster(price_usd_per_h=0.75)
    (priced,) = OWN.priced_clusters([stated])
    assert [pool.device.price_usd_per_h for _, pool in priced.pools() if pool.device] == [0.75]
    (other,) = OWN.priced_clusters([cluster()])
    assert [pool.device for _, pool in other.pools()] == [OWN.priced(H100)]


@pytest.mark.parametrize("price", [-1, "2 USD", float("inf"), True])
def test_a_wrong_price_of_an_inventory_is_told(price: object) -> None:
    """The device is not used, and the reason names the field."""
    ((_, pool),) = cluster(price_usd_per_h=price).pools()
    assert pool.device is None
    assert "price_usd_per_h" in pool.unavailable_reason


@pytest.mark.parametrize(
    ("name", "rent", "own"),
    [
        ("H100-SXM", "", ""),
        ("H200-SXM", "", ""),
        ("B100-SXM", "never sold", "never sold"),
        ("A100-80GB", "", "not sold since 2024"),
        ("P40", "not sold since 2021, and no provider publishes a rent", "not sold since 2021"),
        ("Graviton4", "", "made for one cloud and not sold"),
        ("MI355X", "", ""),
    ],
)
def test_what_cannot_be_had_says_why(name: str, rent: str, own: str) -> None:
    """Devices never sold, no longer sold or let by nobody are not offered."""
    assert Pricing().why_not(devices()[name]) == rent
    assert OWN.why_not(devices()[name]) == own


def test_a_provider_lets_what_it_has() -> None:
    """AWS has no MI300X; a price of one's own makes any device available."""
    aws = Pricing(provider="AWS")
    assert aws.why_not(devices()["MI300X"]) == "not rented out by AWS"
    given = {"P40": GivenPrice(usd_per_h=0.1, purchase_usd=None, where="f.csv row 1")}
    assert Pricing(given=given).why_not(devices()["P40"]) == ""


def test_words_for_basis_and_term() -> None:
    """Case and dashes do not matter; other words are refused."""
    assert basis_named(" Own ") is PriceBasis.OWN
    assert term_named("on-demand") is RentTerm.ON_DEMAND
    with pytest.raises(InvalidInput, match="basis: 'lease' is not known; expected rent or own"):
        basis_named("lease")
    with pytest.raises(InvalidInput, match="term: 'daily' is not known"):
        term_named("daily")


@pytest.mark.parametrize(
    ("basis", "given", "usd_per_h"),
    [
        (PriceBasis.RENT, {"usd_per_h": 1.1, "purchase_usd": None}, 1.1),
        (PriceBasis.RENT, {"usd_per_h": None, "purchase_usd": 9000.0}, None),
    ],
)
def test_a_price_of_a_slice_wins_over_its_share(
    basis: PriceBasis, given: dict[str, float | None], usd_per_h: float | None
) -> None:
    """A stated rent of a MIG slice is its price; without one it has its share of the GPU's."""
    part = find_device("NVIDIA H200 MIG 3g.71gb")
    assert part is not None
    assert part.whole is not None
    own = GivenPrice(where="p.yaml row 1", **given)
    priced = Pricing(basis=basis, given={part.name: own}).priced(part)
    share = part.share_of_whole * part.whole.price_usd_per_h
    assert priced.price_usd_per_h == pytest.approx(usd_per_h or share)
