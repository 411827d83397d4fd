"""Cost per hour and per million output tokens, by head."""

import numpy as np
import pytest

from budsim.simulator.planning.cost import usd_per_h, usd_per_million_tokens


def test_devices_are_paid_by_the_hour():
    """Two devices at 3 USD cost 6 USD per hour; half of each costs half."""
    assert usd_per_h(2, 3.0) == 6.0
    assert usd_per_h(2, 3.0, 0.5) == 3.0


def test_a_million_tokens_cost_what_the_hour_costs_over_what_it_brings():
    """7.20 USD per hour at 1,000 tokens/s (3.6 million per hour) are 2 USD per million tokens."""
    assert usd_per_million_tokens(7.2, 1000.0) == pytest.approx(2.0)


def test_replicas_do_not_change_the_price_of_a_token():
    """Three replicas cost three times as much per hour, bring three times the tokens.

    Leave the token's price alone.
    """
    one = usd_per_million_tokens(usd_per_h(4, 2.0), 500.0)
    assert usd_per_million_tokens(usd_per_h(12, 2.0), 1500.0) == pytest.approx(one)


def test_no_tokens_cost_infinitely_much():
    """A deployment that delivers nothing has no finite price per token."""
    assert np.isinf(usd_per_million_tokens(5.0, 0.0))
