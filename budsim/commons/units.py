"""Factors between the units people write and the base units used inside.

The base units are seconds, bytes, FLOP/s and USD per hour.
"""

from __future__ import annotations

MILLI = 1e-3
MICRO = 1e-6
KILO = 1e3
MEGA = 1e6
GIGA = 1e9
TERA = 1e12

KIB = 2**10
MIB = 2**20
GIB = 2**30

SECONDS_PER_HOUR = 3600.0
