"""The largest requests, and the most of them, anybody is asked to answer for."""

from typing import Final

MOST_TOKENS: Final = 10_000_000
"""The longest prompt or output, tokens."""
MOST_REQUESTS: Final = 1_000_000
"""Most requests in flight, or in one run."""
