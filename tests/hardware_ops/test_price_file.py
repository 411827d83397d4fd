"""A user's own prices; an error names file, row and field in one line."""

import json
from pathlib import Path

import pytest

from budsim.commons.errors import InvalidInput, NotFound
from budsim.hardware_ops.device import PriceBasis
from budsim.hardware_ops.price_file import read_price_file, read_pricing

ROWS = [
    {"device": "h100-sxm", "usd_per_h": 2.1, "source": "our contract"},
    {"device": "L40S", "purchase_usd": 7500},
]
CSV = "device,usd_per_h,purchase_usd,source\nh100-sxm,2.1,,our contract\nL40S,,7500,\n"
YAML = """
currency: USD
date: 2026-11-01
ownership: {years: 4, usd_per_kwh: 0.2}
prices:
  - {device: h100-sxm, usd_per_h: 2.1, source: our contract}
  - {device: L40S, purchase_usd: 7500}
"""


def written(folder: Path, name: str, text: str | bytes) -> Path:
    """Write a file of this content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"), [("p.json", json.dumps(ROWS)), ("p.csv", CSV), ("p.yaml", YAML)]
)
def test_all_three_forms_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    """Rent and purchase price are read from YAML, JSON and CSV alike."""
    prices = read_price_file(written(tmp_path, name, text)).prices
    assert {key: (p.usd_per_h, p.purchase_usd) for key, p in prices.items()} == {
        "H100-SXM": (2.1, None),
        "L40S": (None, 7500.0),
    }
    assert prices["H100-SXM"].where == f"{name} row 1"
    assert prices["H100-SXM"].source == "our contract"


def test_a_file_may_hold_assumptions_and_a_date(tmp_path: Path) -> None:
    """Options win over the file, the file over the defaults."""
    path = written(tmp_path, "p.yaml", YAML.replace("usd_per_h", "purchase_usd"))
    assert read_price_file(path).prices["L40S"].date == "2026-11-01"
    pricing = read_pricing(basis="own", prices=path, ownership={"years": 3.0})
    assert pricing.basis is PriceBasis.OWN
    assert (pricing.ownership.years, pricing.ownership.usd_per_kwh) == (3.0, 0.2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"device": "H1000", "usd_per_h": 1}, "p.json row 2, device: 'H1000' is not known; "),
        ({"usd_per_h": 1}, "p.json row 2, device: is missing"),
        ({"device": "T4"}, "p.json row 2, usd_per_h: is missing"),
        ({"device": "T4", "usd_per_h": -2}, "p.json row 2, usd_per_h: is '-2'"),
        ({"device": "T4", "usd_per_h": 0}, "p.json row 2, usd_per_h: is '0'"),
        ({"device": "T4", "usd_per_h": "cheap"}, "p.json row 2, usd_per_h: is 'cheap'"),
        ({"device": "T4", "usd_per_h": True}, "p.json row 2, usd_per_h: is 'True'"),
        ({"device": "T4", "usd_per_h": "nan"}, "p.json row 2, usd_per_h: is 'nan'"),
        ({"device": "T4", "purchase_usd": 1e12}, "p.json row 2, purchase_usd: is '1000000000000.0"),
        ({"device": "T4", "usd_per_h": 1, "currency": "EUR"}, "p.json row 2, currency: is 'EUR'"),
        ({"device": "T4", "eur_per_h": 1}, "p.json row 2, eur_per_h: is no field of it"),
        ({"device": ["T4"], "usd_per_h": 1}, "p.json row 2, device: is no text"),
        ({"device": "H100 SXM", "usd_per_h": 1}, "p.json row 2, device: H100-SXM stands in an"),
        ({"device": "T4", "usd_per_h": 1, "date": "yesterday"}, "p.json row 2, date: is 'yester"),
        ({"device": "T4", "usd_per_h": 1, "date": "2026-02-30"}, "p.json row 2, date: is '2026-0"),
        ({"device": "T4", "usd_per_h": 1, "date": "01.02.2026"}, "p.json row 2, date: is '01.02"),
        ("T4", "p.json row 2: is no mapping"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    """Unknown devices, missing and negative prices and other currencies: one line says which."""
    path = written(tmp_path, "p.json", json.dumps([ROWS[0], row]))
    with pytest.raises(InvalidInput) as error:
        read_price_file(path)
    assert error.value.field == "prices"
    assert error.value.problem.startswith(message.removesuffix("; "))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", "{", "p.json: is not JSON"),
        ("p.json", "3", "p.json: holds no rows"),
        ("p.json", "[]", "p.json: holds no prices"),
        ("p.json", '{"prices": 3}', "p.json, prices: is no list"),
        ("p.json", '{"prices": [], "currency": "CNY"}', "p.json, currency: is 'CNY'"),
        ("p.json", '{"rows": []}', "p.json, rows: is no field of it"),
        ("p.json", '{"ownership": {"years": -1}}', "p.json, ownership.years: is -1"),
        ("p.json", '{"ownership": {"years": "four"}}', "p.json, ownership.years: is 'four'"),
        ("p.json", '{"ownership": {"color": 1}}', "p.json, ownership, color: is no field"),
        ("p.json", "[" * 100_000, "p.json: is not JSON"),
        ("p.yaml", "[" * 50_000, "p.yaml: is not YAML"),
        ("p.yaml", "a: &a [*a]\nb: !!python/object:os.x {}", "p.yaml: is not YAML"),
        ("p.csv", b"\xff\xfe\x00", "p.csv: is not text"),
        ("p.csv", "device,usd_per_h\n", "p.csv: holds no prices"),
        ("p.csv", "device,usd_per_h\nT4,1,2\n", "p.csv row 1: has more cells"),
        ("p.txt", "T4", "p.txt: ends in .txt"),
        ("p.csv", "x" * 300_000, "p.csv: is too large"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    """Whatever the file holds, one line says what is wrong with it."""
    with pytest.raises(InvalidInput) as error:
        read_price_file(written(tmp_path, name, text))
    assert str(error.value).startswith(f"prices: {message}")


def test_a_missing_file_and_an_unknown_assumption_are_named(tmp_path: Path) -> None:
    """The path and the assumption stand in the message."""
    with pytest.raises(NotFound, match="prices: "):
        read_price_file(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="colour: is no assumption"):
        read_pricing(ownership={"colour": 1.0})


@pytest.mark.parametrize("value", ["0x10", "1:30", "1_000", "0o17", "\u0661", "yes", ".inf"])
@pytest.mark.parametrize(
    "form", ["prices: [{device: T4, usd_per_h: %s}]", "ownership: {years: %s}"]
)
def test_numbers_that_yaml_reads_otherwise_are_refused(
    tmp_path: Path, form: str, value: str
) -> None:
    """YAML takes 0x10 for 16 and 1:30 for 90; a price and an assumption are decimal numbers."""
    path = written(tmp_path, "p.yaml", form % value)
    with pytest.raises(InvalidInput, match=r"(usd_per_h|years): is '"):
        read_price_file(path)


def test_an_empty_value_of_yaml_is_no_price(tmp_path: Path) -> None:
    """A null or ~ stands for a price that is not given."""
    rows = "- {device: T4, usd_per_h: null, purchase_usd: 1.5e3, date: ~}"
    price = read_price_file(written(tmp_path, "p.yaml", rows)).prices["T4"]
    assert (price.usd_per_h, price.purchase_usd, price.date) == (None, 1500.0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"basis": "own", "provider": "AWS"}, "provider: changes nothing with `basis` own"),
        ({"basis": "own", "term": "spot"}, "term: changes nothing with `basis` own"),
        ({"ownership": {"years": 3.0}}, "years: changes nothing with `basis` rent"),
        ({"term": "spot", "provider": "Lambda"}, "provider: no spot prices of 'Lambda' are known"),
    ],
)
def test_price_options_without_effect_are_refused(options: dict[str, object], message: str) -> None:
    """An option that changes no price is a misunderstanding, and is said to be one."""
    with pytest.raises(InvalidInput) as error:
        read_pricing(**options)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


def test_price_options_that_repeat_the_default_are_accepted() -> None:
    """Settings always state a term; the PUE also counts in the energy of rented devices."""
    assert read_pricing(basis="own", term="on_demand").basis is PriceBasis.OWN
    assert read_pricing(ownership={"pue": 1.2}).ownership.pue == 1.2


def test_a_rent_alone_is_refused_where_devices_are_owned(tmp_path: Path) -> None:
    """With basis own no one would read it; the row is named."""
    path = written(tmp_path, "p.csv", CSV)
    with pytest.raises(InvalidInput, match=r"p.csv row 1, purchase_usd: is missing, and basis own"):
        read_pricing(basis="own", prices=path)
