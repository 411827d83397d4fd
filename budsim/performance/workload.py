"""The traffic a deployment has to serve."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TOKENS = 10_000_000

# The largest prompt or output, and the most requests in flight, anybody is asked to answer for.
MOST_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Mean prompt and output tokens of a request, and how many requests are in flight.

    A closed loop. ``output_tokens`` is 0 for pooling models, which read a prompt and answer with a
    vector or a score. ``prefix_hit_share`` is the share of prompt tokens (0..1) found in the prefix
    cache.
    """

    input_tokens: int
    output_tokens: int
    concurrency: int
    prefix_hit_share: float = 0.0

    @property
    def context_tokens(self) -> int:
        """Length of a finished sequence."""
        return self.input_tokens + self.output_tokens

    @property
    def counted_tokens(self) -> int:
        """Tokens of a request that throughput and cost count.

        Those generated, or those read where none are.
        """
        return self.output_tokens or self.input_tokens

    def __str__(self) -> str:
        """Return what one request is, in words."""
        return (
            f"{self.input_tokens}"
            + (f" + {self.output_tokens}" if self.output_tokens else "")
            + " tokens"
        )
