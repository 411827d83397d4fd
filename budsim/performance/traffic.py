"""What clients send to a deployment: when, how long, and what their prompts share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from budsim.commons.errors import InvalidInput
from budsim.model_ops.media import TEXT_ONLY, Media
from budsim.performance.lengths import FixedLength, LengthLaw, lengths_about, require
from budsim.performance.limits import MOST_REQUESTS
from budsim.performance.prefixes import (
    NOTHING_SHARED,
    Prefix,
    PrefixSet,
    PrefixShare,
    Sessions,
    SharedPrefixes,
    part_of,
)
from budsim.performance.recorded import Trace, mean_reuse_tokens, part_of_trace

LEAST_RATE = 1e-6
"""Lowest rate we answer for: a request in eleven days."""
MOST_RATE = 1e6
"""Highest rate we answer for, requests per second."""
OPEN_RUN = 2_000
"""Requests of an open run by default. The p99 of 2,000 requests rests on the 20 slowest."""
CLOSED_TURNS, LEAST_CLOSED_RUN, MOST_CLOSED_RUN = 8, 600, 4_000
"""Requests of a closed run by default: so many for each request in flight, within bounds."""
WARMUP_SHARE = 0.1
"""Share of an open run left out of the answer by default, because the queue starts empty."""


class Process(StrEnum):
    """How the gaps between arrivals of an open loop vary."""

    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"
    BURST = "burst"


class Start(StrEnum):
    """How a closed loop begins.

    ``STEADY``: its first requests are partly served already, as in a deployment that has run for a
    while. ``AT_ONCE``: the client of a benchmark sends all of them in the same instant.
    """

    STEADY = "steady"
    AT_ONCE = "at_once"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """``concurrency`` clients that each send the next request when the last one is answered.

    The requests of the first wave take ``first_wave_s`` seconds longer to their first token: some
    benchmarks meet a server that has served nothing yet.
    """

    concurrency: int
    start: Start = Start.STEADY
    first_wave_s: float = 0.0

    def __post_init__(self) -> None:
        fine = 1 <= self.concurrency <= MOST_REQUESTS
        require(fine, "concurrency", self.concurrency, f"1 to {MOST_REQUESTS:,} requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Requests that come at a rate, whether or not earlier ones are answered.

    ``variation`` is the coefficient of variation of the gaps for ``GAMMA`` (1 is Poisson), and the
    mean number of requests that come in the same instant for ``BURST``; others do not read it.
    """

    requests_per_s: float
    process: Process = Process.POISSON
    variation: float = 1.0

    def __post_init__(self) -> None:
        fine = LEAST_RATE <= self.requests_per_s <= MOST_RATE
        expected = f"{LEAST_RATE:g} to {MOST_RATE:,.0f} requests/s"
        require(fine, "rate", self.requests_per_s, expected)
        fine = 0.0 < self.variation <= 1_000.0
        what = "requests of a burst" if self.process is Process.BURST else "a variation"
        require(fine, "arrival", self.variation, f"{what} above 0, at most 1000")

    @classmethod
    def named(cls, arrival: str, requests_per_s: float) -> OpenLoop:
        """Return requests at a rate by the process that ``arrival`` names; see `parse_arrival`."""
        process, variation = parse_arrival(arrival)
        return cls(requests_per_s=requests_per_s, process=process, variation=variation)


Arrivals = ClosedLoop | OpenLoop | Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of one deployment or replica: when they come, how long they are, what they share.

    Attributes
    ----------
    arrivals : ClosedLoop, OpenLoop or Trace
        When requests are sent. A trace also states lengths and reuse; ``prompt``, ``output`` and
        ``prefix`` are then only summaries of it.
    prompt, output : LengthLaw
        Tokens of a prompt and of an output. ``output`` is 0 for pooling models.
    prefix : PrefixShare, PrefixSet, SharedPrefixes or Sessions
        Which part of a prompt the prefix cache may hold.
    requests : int, optional
        Requests in a run; by default enough for a p99.
    warmup : int, optional
        First requests of a run that are left out of its answer.
    media : Media
        Images, video and audio of each request.
    item_tokens : int
        Tokens they take in ``prompt``: 0 until `budsim.performance.items.with_items` adds them.
    """

    arrivals: Arrivals
    prompt: LengthLaw
    output: LengthLaw
    prefix: Prefix = NOTHING_SHARED
    requests: int | None = None
    warmup: int | None = None
    media: Media = TEXT_ONLY
    item_tokens: int = 0

    def __post_init__(self) -> None:
        least = 1 if self.warmup is None else self.warmup + 1
        asked = least if self.requests is None else self.requests
        fine = least <= asked <= MOST_REQUESTS
        require(fine, "requests", asked, f"{least} (warm-up and one) to {MOST_REQUESTS:,}")
        if not isinstance(self.media, Media):
            raise InvalidInput("media", f"is {self.media!r}"[:60], "a budsim.Media")
        require(self.prompt.most >= 1, "prompt", self.prompt.most, "1 token or more")

    @classmethod
    def closed(
        cls,
        *,
        concurrency: int,
        input_tokens: int,
        output_tokens: int,
        prefix_hit_share: float = 0.0,
        prefix: Prefix | None = None,
        media: Media = TEXT_ONLY,
    ) -> Traffic:
        """Return a closed loop of requests of equal lengths.

        What prompts share is a part that is always found, or any other ``prefix``.
        """
        return cls(
            arrivals=ClosedLoop(concurrency=concurrency),
            prompt=FixedLength(tokens=input_tokens),
            output=FixedLength(tokens=output_tokens),
            prefix=_prefix_given(prefix_hit_share, prefix),
            media=media,
        )

    @classmethod
    def at_rate(
        cls,
        *,
        requests_per_s: float,
        input_tokens: int,
        output_tokens: int,
        prefix_hit_share: float = 0.0,
        prefix: Prefix | None = None,
        process: Process = Process.POISSON,
        variation: float = 1.0,
        media: Media = TEXT_ONLY,
    ) -> Traffic:
        """Return an open loop of requests of equal lengths; ``prefix`` as in `closed`."""
        return cls(
            arrivals=OpenLoop(requests_per_s=requests_per_s, process=process, variation=variation),
            prompt=FixedLength(tokens=input_tokens),
            output=FixedLength(tokens=output_tokens),
            prefix=_prefix_given(prefix_hit_share, prefix),
            media=media,
        )

    @property
    def is_open(self) -> bool:
        """Whether requests come at a rate instead of after each other."""
        return not isinstance(self.arrivals, ClosedLoop)

    @property
    def rate(self) -> float:
        """Mean requests per second; nan in a closed loop, where the server decides it."""
        arrivals = self.arrivals
        return math.nan if isinstance(arrivals, ClosedLoop) else arrivals.requests_per_s

    @property
    def concurrency(self) -> int:
        """Requests in flight in a closed loop; 0 where requests come at a rate."""
        return self.arrivals.concurrency if isinstance(self.arrivals, ClosedLoop) else 0

    @property
    def input_tokens(self) -> float:
        """Mean tokens of a prompt as the server sees it."""
        if isinstance(self.prefix, Sessions):
            earlier = (self.prefix.turns - 1) / 2.0
            return self.prompt.mean + earlier * (self.prompt.mean + self.output.mean)
        return self.prompt.mean

    @property
    def output_tokens(self) -> float:
        """Mean generated tokens of a request."""
        return self.output.mean

    @property
    def mean_tokens(self) -> int:
        """Tokens of a request of mean lengths, prompt and output, rounded each."""
        return round(self.input_tokens) + round(self.output_tokens)

    @property
    def context_tokens(self) -> int:
        """Tokens of the longest request, prompt and output."""
        turn = self.prompt.most + self.output.most
        if isinstance(self.arrivals, Trace):
            return int((self.arrivals.prompt_tokens + self.arrivals.output_tokens).max())
        return turn * self.prefix.turns if isinstance(self.prefix, Sessions) else turn

    @property
    def counted_tokens(self) -> float:
        """Mean tokens of a request that throughput counts: generated, or read where none are."""
        return self.output_tokens or self.input_tokens

    @property
    def prefix_hit_share(self) -> float:
        """Share of prompt tokens (0..1) found in a prefix cache that never drops anything."""
        if isinstance(self.arrivals, Trace):
            total = float(self.arrivals.prompt_tokens.sum())
            return float(self.arrivals.reused_tokens.sum()) / total
        if isinstance(self.prefix, PrefixShare | PrefixSet):
            return self.prefix.share
        if isinstance(self.prefix, Sessions):
            return 1.0 - self.prompt.mean / self.input_tokens
        return min(self.prefix.tokens / self.prompt.mean, 1.0)

    def prefix_set_tokens(self, replicas: float = 1.0) -> float:
        """Return the tokens one of so many replicas has to keep to find every prefix again.

        Shared prefixes are met on every replica. Conversations stay on theirs: between two turns it
        computes what all other turns add. 0 where prefixes are always found.
        """
        prefix = self.prefix
        if isinstance(self.arrivals, Trace):
            return mean_reuse_tokens(self.arrivals) / replicas
        if isinstance(prefix, PrefixSet):
            return part_of(prefix, replicas).tokens
        if isinstance(prefix, SharedPrefixes):
            return float(prefix.groups * prefix.tokens)
        if isinstance(prefix, Sessions) and self.is_open:
            added = self.prompt.mean + self.output.mean
            return self.rate / replicas * prefix.interval_s * added
        return 0.0

    @property
    def unshared_tokens(self) -> float:
        """Tokens a request leaves in a cache beside a prefix of a set, which nobody uses again.

        0 for conversations and traces, whose `prefix_set_tokens` counts all that is computed.
        """
        if isinstance(self.arrivals, Trace) or isinstance(self.prefix, Sessions):
            return 0.0
        return self.prompt.mean * (1.0 - self.prefix_hit_share) + self.output.mean

    @property
    def run_requests(self) -> int:
        """Requests in a run: as asked, all of a trace, or enough for a p99."""
        if self.requests is not None:
            return self.requests
        if isinstance(self.arrivals, Trace):
            return len(self.arrivals)
        if isinstance(self.arrivals, OpenLoop):
            return OPEN_RUN
        wanted = CLOSED_TURNS * self.arrivals.concurrency
        least = max(LEAST_CLOSED_RUN, 4 * self.arrivals.concurrency)
        return max(min(wanted, MOST_CLOSED_RUN), least)

    @property
    def run_warmup(self) -> int:
        """First requests left out of the answer.

        Without a wish: the first two waves of a steady closed loop, because those of the first are
        cut short; a tenth of a run at a rate; nothing of a trace or of a benchmark's closed loop.
        """
        if self.warmup is not None:
            return self.warmup
        if isinstance(self.arrivals, ClosedLoop):
            steady = self.arrivals.start is Start.STEADY
            first_waves = min(2 * self.arrivals.concurrency, self.run_requests - 1)
            return first_waves if steady else 0
        return int(WARMUP_SHARE * self.run_requests) if isinstance(self.arrivals, OpenLoop) else 0

    def at(self, requests_per_s: float) -> Traffic:
        """Return the same requests at another rate; a trace runs faster or slower.

        Raises
        ------
        InvalidInput
            When this is a closed loop or a trace without duration.
        """
        arrivals = self.arrivals
        if isinstance(arrivals, OpenLoop):
            return replace(self, arrivals=replace(arrivals, requests_per_s=requests_per_s))
        if isinstance(arrivals, ClosedLoop):
            raise InvalidInput("rate", "a closed loop has no rate", "traffic at a rate, or a trace")
        fine = LEAST_RATE <= requests_per_s <= MOST_RATE
        require(fine, "rate", requests_per_s, f"{LEAST_RATE:g} to {MOST_RATE:,.0f} requests/s")
        if not math.isfinite(arrivals.requests_per_s):
            problem = "of requests that are all sent in the same instant cannot run at another rate"
            raise InvalidInput("trace", problem, "requests at two times or more")
        times = arrivals.send_s * (arrivals.requests_per_s / requests_per_s)
        return replace(self, arrivals=replace(arrivals, send_s=times))

    def routed_to(self, replicas: float) -> Traffic:
        """Return the traffic with the prefixes that one of so many replicas meets."""
        prefix = self.prefix
        if not isinstance(prefix, PrefixSet):
            return self
        return replace(self, prefix=part_of(prefix, replicas))

    def with_usual_spread(self) -> Traffic:
        """Return a closed loop whose equal lengths vary by a few percent; see `lengths_about`.

        Requests of exactly equal lengths that follow each other never meet, or always do.
        """
        if self.is_open:
            return self
        return replace(self, prompt=_varied(self.prompt), output=_varied(self.output))

    def shared_by(self, replicas: int) -> Traffic:
        """Return the part one of ``replicas`` equal replicas receives.

        Of a closed loop the fullest replica's part (17 requests over 2: 9); of a trace every
        ``replicas``-th request, as a router in turn sends them, with reuse from the same part.
        """
        if replicas == 1:
            return self
        arrivals = self.arrivals
        if isinstance(arrivals, ClosedLoop):
            part = replace(arrivals, concurrency=-(-arrivals.concurrency // replicas))
            return replace(self.routed_to(replicas), arrivals=part)
        if isinstance(arrivals, OpenLoop):
            # A part of the least rate is that rate: either way nobody waits for anybody.
            rate = max(arrivals.requests_per_s / replicas, LEAST_RATE)
            slower = replace(arrivals, requests_per_s=rate)
            return replace(self.routed_to(replicas), arrivals=slower)
        return replace(self, arrivals=part_of_trace(arrivals, replicas), requests=None)


def _prefix_given(share: float, prefix: Prefix | None) -> Prefix:
    """Return what prompts share, given as a part that is always found or in full."""
    if prefix is None:
        return PrefixShare(share=share)
    if share:
        problem = "is given beside `prefix`, which says what is shared"
        raise InvalidInput("prefix_hit_share", problem, "one of both")
    return prefix


def _varied(law: LengthLaw) -> LengthLaw:
    """Return equal lengths varied by a few percent; other laws, and 0 tokens, as they are."""
    return lengths_about(law.tokens) if isinstance(law, FixedLength) and law.tokens else law


def parse_arrival(text: str) -> tuple[Process, float]:
    """Return the process and its variation that ``text`` names.

    ``constant``, ``poisson``, ``gamma:VARIATION`` or ``burst:SIZE``.

    Raises
    ------
    InvalidInput
        When the text is none of these.
    """
    name, _, rest = text.strip().lower().partition(":")
    expected = "constant, poisson, gamma:VARIATION or burst:SIZE"
    try:
        process = Process(name)
        if rest and process in (Process.CONSTANT, Process.POISSON):
            raise ValueError(f"{name} has one variation only")
        return process, float(rest or (10.0 if process is Process.BURST else 1.0))
    except ValueError as error:
        problem = f"{text[:60]!r} is no arrival process"
        raise InvalidInput("arrival", problem, expected) from error
