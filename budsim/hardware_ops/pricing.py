"""One basis for the prices of all devices of an answer: to rent them, or to own them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.catalog import rent_ratios
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.device import (
    Availability,
    Device,
    PriceBasis,
    PriceKind,
    PriceOrigin,
)
from budsim.hardware_ops.ownership import Ownership
from budsim.hardware_ops.rents import Rent, RentTerm, asked_prices, rent_of, with_price


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPrice:
    """A user's own prices of one device, USD; ``None``: that of the catalog holds.

    ``where`` names file and row, ``date`` and ``source`` are what the file says.
    """

    usd_per_h: float | None
    purchase_usd: float | None
    where: str
    date: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """How an hour of every device is priced.

    Attributes
    ----------
    basis : PriceBasis
        Rent, or own.
    term : RentTerm
        How devices are rented.
    provider : str
        Whose rents to take where it lets a device; empty: the lowest.
    ownership : Ownership
        Assumptions about owned devices.
    given : mapping of str to GivenPrice
        A user's own prices by device name; they win over the catalog's.
    """

    basis: PriceBasis = PriceBasis.RENT
    term: RentTerm = RentTerm.ON_DEMAND
    provider: str = ""
    ownership: Ownership = field(default_factory=Ownership)
    given: Mapping[str, GivenPrice] = field(default_factory=dict)

    def priced(self, device: Device) -> Device:
        """Return a device with its price of an hour; one that an inventory prices stays as it is.

        Memory and cores that an inventory states do not change the price. A MIG slice or a NUMA
        node has its share of the whole device's, unless a user states its own price.
        """
        if device.price_origin and device.price_origin.kind is PriceKind.INVENTORY:
            return device
        own = self.given.get(device.name)
        if device.whole is not None and not self._has_price(own):
            return _priced_part(device, self.priced(device.whole))
        if own and own.purchase_usd is not None:
            device = replace(device, price_usd=own.purchase_usd)
        if self.basis is PriceBasis.OWN:
            return with_price(device, self._owned(device, own))
        if own and own.usd_per_h is not None:
            return with_price(device, Rent(usd_per_h=own.usd_per_h, origin=_given(own)))
        return with_price(device, rent_of(device, rent_ratios(), self.term, self.provider))

    def _has_price(self, own: GivenPrice | None) -> bool:
        """Return whether a user's own price is one on the basis that is asked for."""
        if own is None:
            return False
        stated = own.purchase_usd if self.basis is PriceBasis.OWN else own.usd_per_h
        return stated is not None

    def priced_clusters(self, clusters: Iterable[Cluster]) -> tuple[Cluster, ...]:
        """Return clusters with the prices of their devices."""
        if self == Pricing():
            return tuple(clusters)  # the catalog has these prices
        return self.repriced_clusters(clusters)

    def repriced_clusters(self, clusters: Iterable[Cluster]) -> tuple[Cluster, ...]:
        """Return clusters with these prices in place of others they may have had."""
        return tuple(self._priced_cluster(cluster) for cluster in clusters)

    def why_not(self, device: Device) -> str:
        """Return in words why a device cannot be had today on this basis; empty where it can.

        To rent it, a provider with data centres has to publish a price, or it has to be sold: then
        the rent is an estimate. To own it, it has to be sold. A device with a user's own price can
        be had.
        """
        device = device.whole or device
        availability = device.availability
        if device.name in self.given or availability is None:
            return ""
        if not availability.exists:
            return "never sold"
        if self.basis is PriceBasis.OWN:
            return "" if availability.is_sold else _not_sold(availability)
        return self._why_not_rented(device, availability)

    def _why_not_rented(self, device: Device, availability: Availability) -> str:
        rented = bool(asked_prices(device.name, RentTerm.ON_DEMAND, self.provider))
        if self.provider and not rented:
            return f"not rented out by {self.provider}"
        if rented or availability.is_sold:
            return ""
        return f"{_not_sold(availability)}, and no provider publishes a rent"

    def _owned(self, device: Device, own: GivenPrice | None) -> Rent:
        price = own.where if own and own.purchase_usd is not None else device.sources["price_usd"]
        words = f"computed: {self.ownership.words()}; {device.price_usd:,.0f} USD ({price})"
        kind = PriceKind.GIVEN if own and own.purchase_usd is not None else PriceKind.COMPUTED
        origin = PriceOrigin(
            basis=PriceBasis.OWN, kind=kind, date=own.date if own else "", source=words
        )
        return Rent(usd_per_h=round(self.ownership.usd_per_h(device), 4), origin=origin)

    def _priced_cluster(self, cluster: Cluster) -> Cluster:
        nodes = tuple(
            replace(
                node,
                pools=tuple(
                    replace(pool, device=self.priced(pool.device)) if pool.device else pool
                    for pool in node.pools
                ),
            )
            for node in cluster.nodes
        )
        return replace(cluster, nodes=nodes)


def basis_named(name: str) -> PriceBasis:
    """Return the basis of this name.

    Raises
    ------
    InvalidInput
        It is neither ``rent`` nor ``own``.
    """
    try:
        return PriceBasis(name.strip().lower())
    except ValueError:
        raise InvalidInput("basis", f"{name[:40]!r} is not known", "rent or own") from None


def term_named(name: str) -> RentTerm:
    """Return the way of renting of this name, written with a dash or an underscore.

    Raises
    ------
    InvalidInput
        There is no such way.
    """
    try:
        return RentTerm(name.strip().lower().replace("-", "_"))
    except ValueError:
        expected = "on-demand, reserved or spot"
        raise InvalidInput("term", f"{name[:40]!r} is not known", expected) from None


def _priced_part(part: Device, whole: Device) -> Device:
    """Return a part of a device at its share of the whole's price."""
    if whole.price_origin is None:
        return part
    share = part.share_of_whole
    words = f"{share:.3g} of {whole.name}: {whole.price_origin.source}"
    origin = replace(whole.price_origin, source=words)
    priced = replace(part, price_usd=whole.price_usd * share, whole=whole)
    return with_price(priced, Rent(usd_per_h=whole.price_usd_per_h * share, origin=origin))


def _not_sold(availability: Availability) -> str:
    if availability.rented_only:
        return "made for one cloud and not sold"
    return f"not sold since {availability.sold_until}"


def _given(own: GivenPrice) -> PriceOrigin:
    words = f"given: {own.where}" + (f"; {own.source}" if own.source else "")
    return PriceOrigin(basis=PriceBasis.RENT, kind=PriceKind.GIVEN, date=own.date, source=words)
