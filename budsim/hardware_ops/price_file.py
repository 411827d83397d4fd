"""Reads a user's own prices from YAML, JSON or CSV; an error names file, row and field.

A file is a list of rows (CSV: with a header), or a mapping with the rows under ``prices`` and,
if wanted, ``currency``, ``date`` and the assumptions of `Ownership` under ``ownership``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Final

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.safe_yaml import load_yaml_text
from budsim.hardware_ops.device import Device, PriceBasis
from budsim.hardware_ops.device_names import close_names, find_device
from budsim.hardware_ops.ownership import Ownership
from budsim.hardware_ops.pricing import GivenPrice, Pricing, basis_named, term_named
from budsim.hardware_ops.rents import RentTerm, provider_named

MOST_BYTES: Final = 200_000
MOST_USD_PER_H: Final = 10_000.0
MOST_PURCHASE_USD: Final = 100_000_000.0
CURRENCY: Final = "USD"
# Name of the cells of a CSV's row that stand behind those with a name.
SURPLUS: Final = "surplus cells"
ROW_FIELDS: Final = ("device", "usd_per_h", "purchase_usd", "date", "source", "currency")
FILE_FIELDS: Final = ("prices", "ownership", "currency", "date")
# Decimal numbers only: no 0x10, 1:30, 1_000 or digits of other scripts.
DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# A year, a month or a day.
DATE: Final = re.compile(r"[0-9]{4}(-[0-9]{2}){0,2}")
# What YAML writes for "no value".
NO_VALUE: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFile:
    """What a file says: prices by device name, and assumptions about owned devices by name."""

    prices: Mapping[str, GivenPrice]
    ownership: Mapping[str, float] = field(default_factory=dict)


def read_price_file(path: Path) -> PriceFile:
    """Return the prices of a file.

    Raises
    ------
    NotFound
        There is no such file.
    InvalidInput
        It is too large or not text, names an unknown device or one twice, or a price is missing,
        negative, not a number, or in another currency. The problem names file and row.
    """
    if not path.is_file():
        raise NotFound("prices", str(path), "give the path of a YAML, JSON or CSV file")
    try:
        return _read(path)
    except InvalidInput as error:
        told = f"{error.field}: {error.problem}"
        raise InvalidInput("prices", told, error.expected) from error


def _read(path: Path) -> PriceFile:
    document = _parsed(path)
    if isinstance(document, list):
        document = {"prices": document}
    if not isinstance(document, Mapping):
        raise InvalidInput(path.name, "holds no rows", "a list of rows, or rows under prices")
    _refuse_others(document, FILE_FIELDS, path.name)
    _check_currency(document, path.name)
    read = _date(document, path.name)
    rows = document.get("prices", [])
    if not isinstance(rows, list):
        raise InvalidInput(f"{path.name}, prices", "is no list", "a list of rows")
    prices: dict[str, GivenPrice] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path.name} row {number}"
        name, price = _row(row, where, read)
        if name in prices:
            raise InvalidInput(f"{where}, device", f"{name} stands in an earlier row", "one row")
        prices[name] = price
    ownership = _ownership(document.get("ownership"), f"{path.name}, ownership")
    if not (prices or ownership):
        raise InvalidInput(path.name, "holds no prices", "at least one row")
    return PriceFile(prices=prices, ownership=ownership)


def _parsed(path: Path) -> object:
    if path.stat().st_size > MOST_BYTES:
        raise InvalidInput(path.name, "is too large", f"at most {MOST_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(path.name, "is not text", "YAML, JSON or CSV in UTF-8") from None
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text), restkey=SURPLUS, restval=""))
    if suffix == ".json":
        return _json(text, path.name)
    if suffix in {".yaml", ".yml"}:
        return _yaml(text, path.name)
    raise InvalidInput(path.name, f"ends in {suffix or 'nothing'}", "a .yaml, .json or .csv file")


def _json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(name, "is not JSON", "a list of rows") from None


def _yaml(text: str, name: str) -> object:
    try:
        return load_yaml_text(text)
    except ValueError:
        raise InvalidInput(name, "is not YAML", "a list of rows") from None


def _row(row: object, where: str, read: str) -> tuple[str, GivenPrice]:
    if not isinstance(row, Mapping):
        raise InvalidInput(where, "is no mapping", f"fields {', '.join(ROW_FIELDS)}")
    if SURPLUS in row:
        raise InvalidInput(where, "has more cells than the first line", "a cell for each name")
    _refuse_others(row, ROW_FIELDS, where)
    _check_currency(row, where)
    device = _device(row, where)
    rent = _price(row, "usd_per_h", where, MOST_USD_PER_H)
    purchase = _price(row, "purchase_usd", where, MOST_PURCHASE_USD)
    if rent is None and purchase is None:
        raise InvalidInput(f"{where}, usd_per_h", "is missing", "usd_per_h or purchase_usd")
    return device.name, GivenPrice(
        usd_per_h=rent,
        purchase_usd=purchase,
        where=where,
        date=_date(row, where) or read,
        source=_text(row, "source", where),
    )


def _device(row: Mapping[str, object], where: str) -> Device:
    name = _text(row, "device", where)
    if not name:
        raise InvalidInput(f"{where}, device", "is missing", "a name of `budsim devices`")
    found = find_device(name)
    if found is None:
        close = ", ".join(close_names(name)) or "such as H100-SXM"
        expected = f"a name of `budsim devices` ({close})"
        raise InvalidInput(f"{where}, device", f"{name[:60]!r} is not known", expected)
    return found


def _price(row: Mapping[str, object], key: str, where: str, most: float) -> float | None:
    value = row.get(key)
    if value is None or value in NO_VALUE:
        return None
    price = _number(value)
    if not 0 < price <= most:
        expected = f"USD, more than 0 and at most {most:,.0f}, as in 2.5"
        raise InvalidInput(f"{where}, {key}", f"is {str(value)[:40]!r}", expected)
    return price


def _number(value: object) -> float:
    """Return a number or a text that is a decimal number; nan for everything else."""
    # A boolean is a number to Python, and no price.
    if isinstance(value, bool) or not DECIMAL.fullmatch(str(value).strip()):
        return math.nan
    return float(str(value))


def _check_currency(values: Mapping[str, object], where: str) -> None:
    currency = _text(values, "currency", where)
    if currency.upper() not in {"", CURRENCY}:
        problem = f"is {currency[:20]!r}, and nothing is converted"
        raise InvalidInput(f"{where}, currency", problem, "prices in USD")


def _text(values: Mapping[str, object], key: str, where: str) -> str:
    value = values.get(key)
    if isinstance(value, Mapping | list):
        raise InvalidInput(f"{where}, {key}", "is no text", "one value")
    return "" if value is None else str(value).strip()


def _date(values: Mapping[str, object], where: str) -> str:
    """Return the day, month or year of a date as it is written; empty where there is none."""
    text = _text(values, "date", where)
    if text in NO_VALUE:
        return ""
    try:
        if not DATE.fullmatch(text):
            raise ValueError
        date.fromisoformat(text + "-01-01"[len(text) - len("2026") :])
    except ValueError:
        expected = "a day, month or year, as in 2026-11-30, 2026-11 or 2026"
        raise InvalidInput(f"{where}, date", f"is {text[:40]!r}", expected) from None
    return text


def _refuse_others(values: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            expected = f"{', '.join(known)}; all prices in USD"
            raise InvalidInput(f"{where}, {str(key)[:40]}", "is no field of it", expected)


def _ownership(values: object, where: str) -> Mapping[str, float]:
    if values is None:
        return {}
    known = tuple(each.name for each in fields(Ownership))
    if not isinstance(values, Mapping):
        raise InvalidInput(where, "is no mapping", f"some of {', '.join(known)}")
    _refuse_others(values, known, where)
    stated = {key: _number(value) for key, value in values.items()}
    for key, number in stated.items():
        if math.isnan(number):
            raise InvalidInput(f"{where}.{key}", f"is {str(values[key])[:40]!r}", "a number")
    try:
        Ownership(**stated)
    except InvalidInput as error:
        raise InvalidInput(f"{where}.{error.field}", error.problem, error.expected) from None
    return stated


def read_pricing(
    *,
    basis: str | None = None,
    term: str | None = None,
    provider: str | None = None,
    prices: str | Path | None = None,
    ownership: Mapping[str, float] | None = None,
) -> Pricing:
    """Return the pricing that options or settings ask for; ``None``: the default.

    Parameters
    ----------
    basis, term, provider : str, optional
        ``rent`` or ``own``; ``on-demand``, ``reserved`` or ``spot``; a provider of the catalog.
    prices : path, optional
        A file of own prices; see `read_price_file`.
    ownership : mapping, optional
        Assumptions of `Ownership` by name; they win over those of the file.

    Raises
    ------
    NotFound, InvalidInput
        As `read_price_file`, and of a word or number that is not one of these.
    """
    file = read_price_file(Path(prices)) if prices else PriceFile(prices={})
    assumed = _assumptions({**file.ownership, **(ownership or {})})
    chosen = basis_named(basis or PriceBasis.RENT)
    refuse_idle_options(chosen is PriceBasis.OWN, term, provider, ownership or {})
    how = term_named(term or RentTerm.ON_DEMAND)
    pricing = Pricing(
        basis=chosen,
        term=how,
        provider=provider_named(provider, how) if provider else "",
        ownership=assumed,
        given=file.prices,
    )
    _refuse_idle_rows(pricing)
    return pricing


def _assumptions(stated: Mapping[str, float]) -> Ownership:
    known = sorted(each.name for each in fields(Ownership))
    if unknown := sorted(stated.keys() - set(known)):
        raise InvalidInput(unknown[0], "is no assumption", f"one of {', '.join(known)}")
    return Ownership(**stated)


def refuse_idle_options(
    owned: bool, term: str | None, provider: str | None, ownership: Mapping[str, float]
) -> None:
    """Refuse options that change nothing on the basis that is asked for.

    Raises
    ------
    InvalidInput
        A term or provider where devices are ``owned``, or an assumption about owned ones (but for
        the PUE) where they are rented.
    """
    spot = bool(term) and term_named(term or "") is not RentTerm.ON_DEMAND
    rented = {"term": spot, "provider": bool(provider)}
    idle = [name for name, is_given in rented.items() if is_given] if owned else []
    # The PUE also counts in the energy of an answer.
    idle += [] if owned else sorted(set(ownership) - {"pue"})
    if idle:
        basis, other = ("own", "rent") if owned else ("rent", "own")
        raise InvalidInput(idle[0], f"changes nothing with `basis` {basis}", f"`basis` {other}")


def _refuse_idle_rows(pricing: Pricing) -> None:
    """Refuse a row with a rent alone where devices are owned: nothing would read it."""
    for own in pricing.given.values():
        if pricing.basis is PriceBasis.OWN and own.purchase_usd is None:
            problem = f"{own.where}, purchase_usd: is missing, and basis own reads no rent"
            raise InvalidInput("prices", problem, "a price to buy it, or rent")
