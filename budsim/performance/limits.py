"""The largest requests, and the most of them, anybody is asked to answer for."""

from typing import Final

MOST_TOKENS: Final = 10_000_000
"""The longest prompt or output, tokens."""
MOST_REQUESTS: Final = 1_000_000
"""Most requests in flight, or in one run."""
USUAL_INTERVAL_S = 30.0
"""Seconds between two turns of a conversation where nothing is said: our choice."""
