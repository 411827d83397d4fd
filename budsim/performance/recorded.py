"""Recorded requests: when they were sent, how long they were, and what they share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from budsim.performance.lengths import require

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Recorded requests in the order they were sent; arrays of shape (n,).

    ``send_s`` counts seconds from any origin and does not decrease. The first ``reused_tokens`` of
    a prompt are those of the earlier request ``reused_from`` (its index; -1 where there is none).
    In one replica's part of a trace (`part_of_trace`), the first ``far_tokens`` are those of a
    request on another replica; each replica has computed ``far_distance`` tokens since.
    """

    send_s: Floats
    prompt_tokens: Integers
    output_tokens: Integers
    reused_from: Integers
    reused_tokens: Integers
    far_tokens: Floats | None = None
    far_distance: Floats | None = None

    def __post_init__(self) -> None:
        require(len(self.send_s) > 0, "trace", "empty", "at least one request")
        ordered = bool((np.diff(self.send_s) >= 0.0).all() and np.isfinite(self.send_s).all())
        require(ordered, "trace", "not sorted by time", "finite times in ascending order")
        fine = bool((self.prompt_tokens >= 1).all() and (self.output_tokens >= 0).all())
        require(fine, "trace", "of negative lengths", "prompts of 1 token or more")

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.send_s)

    @property
    def requests_per_s(self) -> float:
        """Mean rate, requests per second; infinite where all are sent in the same instant."""
        seconds = float(self.send_s[-1] - self.send_s[0])
        return (len(self) - 1) / seconds if seconds > 0 else math.inf


def mean_reuse_tokens(trace: Trace) -> float:
    """Return twice the mean of the tokens computed until a prefix is used again.

    Twice, because a cache of C tokens holds C / W of a set of W tokens that are used again after 0
    to W others, W / 2 on average.
    """
    again = np.flatnonzero(trace.reused_from >= 0)
    weight = trace.reused_tokens[again].astype(np.float64)
    if not weight.sum():
        return 0.0
    between = _between(trace, again)
    return 2.0 * float((between * weight).sum() / weight.sum())


def part_of_trace(trace: Trace, replicas: int) -> Trace:
    """Return each ``replicas``-th request, as one replica gets them; see `Trace` on the others."""
    kept = np.arange(0, len(trace), replicas)
    source, reused = _reused_within(trace, kept, replicas)
    from_others = trace.reused_tokens[kept] > reused
    return Trace(
        send_s=trace.send_s[kept],
        prompt_tokens=trace.prompt_tokens[kept],
        output_tokens=trace.output_tokens[kept],
        reused_from=np.where(source >= 0, source // replicas, -1),
        reused_tokens=reused,
        far_tokens=np.where(from_others, trace.reused_tokens[kept], 0.0),
        far_distance=_between(trace, kept) / replicas,
    )


def _reused_within(trace: Trace, kept: Integers, replicas: int) -> tuple[Integers, Integers]:
    """Return the last request of the same part whose prefix each kept one reuses (-1), and tokens.

    A request shares with the source of its source what both reuse: 80 tokens of B, of which 60 are
    A's, are 60 tokens of A. Every round doubles the length of the chains that are followed.
    """
    # One more request, after the last, stands for no source.
    none = len(trace)
    own = np.append(np.arange(none) % replicas == 0, True)
    before = np.append(np.where(trace.reused_from >= 0, trace.reused_from, none), none)
    ends = np.where(own, np.arange(none + 1), before)
    tokens = np.where(own, np.iinfo(np.int64).max, np.append(trace.reused_tokens, 0))
    while not own[ends].all():
        tokens, ends = np.minimum(tokens, tokens[ends]), ends[ends]
    source, first = ends[before[kept]], before[kept]
    reused = np.minimum(trace.reused_tokens[kept], tokens[first])
    found = (source < none) & (reused > 0)
    return np.where(found, source, -1), np.where(found, reused, 0)


def _between(trace: Trace, at: Integers) -> Floats:
    """Return the tokens computed since the prefix of each request was used, 0 where it has none."""
    new = trace.prompt_tokens - trace.reused_tokens + trace.output_tokens
    written, source = np.cumsum(new), trace.reused_from[at]
    between = written[at] - written[np.maximum(source, 0)]
    return np.where(source >= 0, between, 0).astype(np.float64)
