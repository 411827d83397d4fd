"""What providers ask for an hour of a device, and an estimate where none asks anything.

The prices are in ``catalog/rents.json``, one line for a provider's list of one day. The rent of a
device is the lowest price that a provider with data centres publishes: it can be paid, and nearly
every device is let by one of the cheap providers and by one of the dear ones. A median would make
devices dearer that more providers let. Where no provider publishes a price, the purchase price with
its share of a server is multiplied by the ratio of rent to purchase that other devices have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from statistics import median

from budsim.commons.catalog import load_catalog
from budsim.commons.errors import CatalogError, InvalidInput
from budsim.hardware_ops.device import Device, DeviceKind, PriceBasis, PriceKind, PriceOrigin
from budsim.hardware_ops.ownership import Ownership

PACKAGE = "budsim.hardware_ops"


class RentTerm(StrEnum):
    """How a device is rented."""

    ON_DEMAND = "on_demand"
    RESERVED = "reserved"
    SPOT = "spot"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRent:
    """What one provider asks for an hour of one device.

    Attributes
    ----------
    provider, term : str
        Who asks it, and a `RentTerm`; or ``marketplace``: machines of third parties without a data
        centre's promises, whose prices are listed and not used.
    usd_per_h : float
        USD per hour of one device: the price of an instance divided by its devices.
    read : str
        Day, month or year it was read (2026-09-20).
    url : str
        Where.
    """

    provider: str
    term: str
    usd_per_h: float
    read: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """An hour of one device: USD, and where the figure comes from."""

    usd_per_h: float
    origin: PriceOrigin


@lru_cache(maxsize=1)
def published_rents() -> Mapping[str, tuple[PublishedRent, ...]]:
    """Return every published price by the device's name, in catalog order.

    Raises
    ------
    CatalogError
        A line lacks a field, or a price is not positive.
    """
    found: dict[str, list[PublishedRent]] = defaultdict(list)
    for index, line in enumerate(load_catalog(PACKAGE, "catalog/rents.json")):
        where = f"catalog/rents.json[{index}]"
        try:
            for name, usd_per_h in line["usd_per_h"].items():
                if not usd_per_h > 0:
                    raise CatalogError(f"{where}: the price of {name} is not positive")
                found[name].append(
                    PublishedRent(
                        provider=line["provider"],
                        term=line["term"],
                        usd_per_h=float(usd_per_h),
                        read=line["read"],
                        url=line["url"],
                    )
                )
        except KeyError as error:
            raise CatalogError(f"{where}: {error} is missing") from error
    return {name: tuple(rents) for name, rents in found.items()}


def providers(term: str = RentTerm.ON_DEMAND) -> tuple[str, ...]:
    """Return the names of providers with prices of this term, in alphabetical order."""
    rents = (rent for each in published_rents().values() for rent in each)
    return tuple(sorted({rent.provider for rent in rents if rent.term == term}))


def provider_named(name: str, term: str = RentTerm.ON_DEMAND) -> str:
    """Return a provider as the catalog spells it, found in any case.

    Raises
    ------
    InvalidInput
        No price of it of this term is known.
    """
    for provider in providers(term):
        if provider.lower() == name.strip().lower():
            return provider
    kind = term.replace("_", "-")
    expected = f"one of {', '.join(providers(term))}"
    raise InvalidInput("provider", f"no {kind} prices of {name[:40]!r} are known", expected)


def asked_prices(name: str, term: str, provider: str = "") -> list[PublishedRent]:
    """Return the newest price of each provider, lowest first; of ``provider`` alone if named."""
    newest: dict[str, PublishedRent] = {}
    for rent in published_rents().get(name, ()):
        wanted = rent.term == term and provider in ("", rent.provider)
        if wanted and rent.read >= getattr(newest.get(rent.provider), "read", ""):
            newest[rent.provider] = rent
    return sorted(newest.values(), key=lambda rent: rent.usd_per_h)


@dataclass(frozen=True, slots=True, kw_only=True)
class RentRatios:
    """Rent over purchase price with a share of a server (1/h), by group of devices.

    ``counts`` says of how many devices each is the median. Groups are processors, and accelerators
    by segment.
    """

    ratios: Mapping[str, float]
    counts: Mapping[str, int]

    @classmethod
    def of(cls, catalog: Iterable[Device]) -> RentRatios:
        """Return the ratios of the devices that have both."""
        found: dict[str, list[float]] = defaultdict(list)
        for device in catalog:
            if asked := asked_prices(device.name, RentTerm.ON_DEMAND):
                purchase = Ownership().purchase_usd(device)
                found[_group(device)].append(asked[0].usd_per_h / purchase)
        return cls(
            ratios={group: median(ratios) for group, ratios in found.items()},
            counts={group: len(ratios) for group, ratios in found.items()},
        )

    def estimate(self, device: Device) -> Rent:
        """Return the rent of a device that nobody lets."""
        group, purchase = _group(device), Ownership().purchase_usd(device)
        ratio = self.ratios.get(group, median(self.ratios.values()))
        count = self.counts.get(group, sum(self.counts.values()))
        words = (
            f"estimated: {purchase:,.0f} USD to buy it with its share of a server x "
            f"{ratio * 1e4:.2f}e-4 an hour, the median ratio of {count} {group} devices that "
            f"have both; purchase price: {device.sources.get('price_usd', 'not known')}"
        )
        return Rent(usd_per_h=round(purchase * ratio, 4), origin=_estimated(words, ""))


def rent_of(
    device: Device,
    ratios: RentRatios,
    term: RentTerm = RentTerm.ON_DEMAND,
    provider: str = "",
) -> Rent:
    """Return what an hour of a device costs.

    Parameters
    ----------
    device : Device
        Looked up by its name.
    ratios : RentRatios
        For devices without a published rent.
    term : RentTerm
        How it is rented.
    provider : str
        Whose price to take; empty, or if it has none: the lowest.
    """
    asked = asked_prices(device.name, term, provider) or asked_prices(device.name, term)
    if asked:
        return _published(asked, term)
    if term is RentTerm.ON_DEMAND:
        return ratios.estimate(device)
    share, count = _share_of_on_demand(term)
    on_demand = rent_of(device, ratios, provider=provider)
    words = f"estimated: {share:.2f} x the on-demand rent, the median ratio of {count} devices"
    return Rent(
        usd_per_h=round(on_demand.usd_per_h * share, 4),
        origin=_estimated(f"{words}; {on_demand.origin.source}", on_demand.origin.date),
    )


def with_price(device: Device, rent: Rent) -> Device:
    """Return a device with the price of an hour and its source."""
    return replace(
        device,
        price_usd_per_h=rent.usd_per_h,
        price_origin=rent.origin,
        sources={**device.sources, "price_usd_per_h": rent.origin.source},
    )


def _published(asked: list[PublishedRent], term: RentTerm) -> Rent:
    lowest, highest = asked[0], asked[-1]
    among = "the price"
    if len(asked) > 1:
        spread = f"{lowest.usd_per_h:g} to {highest.usd_per_h:g}"
        among = f"the lowest price of {len(asked)} providers ({spread})"
    words = (
        f"published: {among}, {term.replace('_', ' ')}: {lowest.provider} "
        f"{lowest.usd_per_h:g} USD/h, {lowest.url}, read {lowest.read}"
    )
    origin = PriceOrigin(
        basis=PriceBasis.RENT, kind=PriceKind.PUBLISHED, date=lowest.read, source=words
    )
    return Rent(usd_per_h=lowest.usd_per_h, origin=origin)


@lru_cache(maxsize=4)
def _share_of_on_demand(term: RentTerm) -> tuple[float, int]:
    """Return a term's rent over the on-demand rent, and of how many devices it is the median."""
    ratios = [
        asked[0].usd_per_h / on_demand[0].usd_per_h
        for name in published_rents()
        if (asked := asked_prices(name, term))
        and (on_demand := asked_prices(name, RentTerm.ON_DEMAND))
    ]
    return median(ratios), len(ratios)


def _estimated(words: str, date: str) -> PriceOrigin:
    return PriceOrigin(basis=PriceBasis.RENT, kind=PriceKind.ESTIMATED, date=date, source=words)


def _group(device: Device) -> str:
    if device.kind is DeviceKind.CPU:
        return "processor"
    return str(device.availability.segment) if device.availability else "data_center"
