"""A rent that nobody asks is derived."""

import pytest

from budsim.hardware_ops.catalog import devices


def test_a_rent_nobody_asks_follows_from_the_purchase() -> None:
    """8565 USD over three years, and 300 W x 1.3 at 0.12 USD/kWh, are 0.373 USD an hour."""
    board = devices()["RTX-PRO-6000-Max-Q"]
    assert board.price_usd_per_h == pytest.approx(8565 / 26280 + 0.3 * 1.3 * 0.12, abs=1e-3)
    assert board.sources["price_usd_per_h"].startswith("derived:")
