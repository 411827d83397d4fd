"""What a plan costs, in words and figures, on either basis."""

from pathlib import Path

import pytest

import budsim
from budsim.api.prices import energy_text
from budsim.api.words import risk_text

ASK = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "traffic": budsim.Traffic.closed(concurrency=4, input_tokens=600, output_tokens=200),
    "analytic": True,
}
CLUSTER = """
clusters:
  - name: lab
    nodes:
      - {name: a, devices: [{device: H100-SXM, count: 1%s}]}
"""


def cluster(folder: Path, extra: str = "") -> Path:
    """Write a cluster of one H100."""
    path = folder / "lab.yaml"
    path.write_text(CLUSTER % extra)
    return path


def test_all_figures_follow_from_the_price_of_an_hour(tmp_path: Path) -> None:
    """A month has 730 hours; one token of four is an output token."""
    (row, *_) = budsim.simulate(cluster=cluster(tmp_path), **ASK).rows()
    assert row["usd_per_h"] == 3.2
    assert row["usd_per_month"] == pytest.approx(3.2 * 730)
    per_output = row["usd_per_million_tokens"]
    assert row["usd_per_million_total_tokens"] == pytest.approx(per_output / 4)
    assert row["price_basis"] == "rent"


def test_owning_and_own_prices_change_the_answer(tmp_path: Path) -> None:
    """The basis and the price file reach the plans."""
    path = cluster(tmp_path)
    (owned, *_) = budsim.simulate(cluster=path, basis="own", **ASK).rows()
    assert owned["price_basis"] == "own"
    assert owned["usd_per_h"] < 3.2
    prices = tmp_path / "mine.csv"
    prices.write_text("device,usd_per_h\nH100-SXM,1.5\n")
    (mine, *_) = budsim.simulate(cluster=path, prices=prices, **ASK).rows()
    assert mine["usd_per_h"] == 1.5


def test_a_price_of_the_cluster_file_stays(tmp_path: Path) -> None:
    """What the inventory says a device costs wins over every basis."""
    path = cluster(tmp_path, ", price_usd_per_h: 0.5")
    (row, *_) = budsim.simulate(cluster=path, basis="own", **ASK).rows()
    assert row["usd_per_h"] == 0.5


def test_documents_say_where_the_price_comes_from(tmp_path: Path) -> None:
    """Basis, kind, date and source stand beside each node group's price."""
    found = budsim.simulate(cluster=cluster(tmp_path), **ASK).to_dict()
    first = found["configurations"][0]
    assert first["cost_usd_per_month"] == pytest.approx(first["cost_usd_per_h"] * 730)
    price = first["node_groups"][0]["price"]
    assert (price["basis"], price["kind"], price["usd_per_h"]) == ("rent", "published", 3.2)
    assert price["date"] in price["source"]


@pytest.mark.parametrize(
    ("intensity", "told"), [(445.0, "g CO2 at 445 g/kWh"), (0.1, "0.0"), (0.0, " 0 g CO2 at 0")]
)
def test_small_amounts_of_co2_are_told(tmp_path: Path, intensity: float, told: str) -> None:
    """Only a grid without CO2 prints 0 g."""
    found = budsim.simulate(cluster=cluster(tmp_path), g_co2_per_kwh=intensity, **ASK)
    text = energy_text(found.question, found.plans[0])
    assert told in text
    assert (" 0 g CO2" in text) == (intensity == 0.0)


def test_best_estimates_ask_for_no_chance(tmp_path: Path) -> None:
    """With --risk expected no chance is asked for; with a number that one is."""
    expected = budsim.simulate(cluster=cluster(tmp_path), risk="expected", **ASK).question
    assert "0%" not in risk_text(expected)
    sure = budsim.simulate(cluster=cluster(tmp_path), risk=0.9, **ASK).question
    assert risk_text(sure) == "90% is asked for (--risk)"
