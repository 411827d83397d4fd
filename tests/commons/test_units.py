"""Factors between written and base units."""

from budsim.commons import units


def test_decimal_and_binary_factors_are_apart():
    """A GiB is 7.4 % more than a GB."""
    assert units.GIB / units.GIGA == 1.073741824
    assert units.MIB == units.KIB**2
    assert 250 * units.MILLI == 0.25
    assert units.SECONDS_PER_HOUR == 60 * 60
