"""The traffic a deployment has to serve."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TOKENS = 10_000_000
MOST_REQUESTS = 1_000_000
"""The largest prompt or output, and the most requests in flight, anybody is asked to answer for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Mean prompt and output tokens of a request, and how many requests are in flight at a time (closed loop).

    ``prefix_hit_share`` is the share of prompt tokens (0..1) found in the prefix cache.
    """

    input_tokens: int
    output_tokens: int
    concurrency: int
    prefix_hit_share: float = 0.0

    @property
    def context_tokens(self) -> int:
        """Length of a finished sequence."""
        return self.input_tokens + self.output_tokens
