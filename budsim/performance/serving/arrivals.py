"""Seeded requests of a run: when each is sent, how long it is, and what its prompt shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from budsim.performance.candidates import Floats, Integers
from budsim.performance.lengths import EmpiricalLength, LengthLaw
from budsim.performance.prefixes import Prefix, PrefixSet, PrefixShare, Sessions, SharedPrefixes
from budsim.performance.recorded import Trace
from budsim.performance.traffic import ClosedLoop, OpenLoop, Process, Start, Traffic

# In ``reused_from``: the tokens are found in the cache, whoever computed them.
ALWAYS_CACHED = -2

NOTHING_REUSED = -1
# Caches with room for `Requests.reuse_distance` tokens hold the tokens still.
BY_DISTANCE = -3
# Requests in flight that are replayed at most; more than any engine has places for.
MOST_IN_FLIGHT = 20_000
# Requests measured to find the largest rate a replica carries: equal ones, and most of others.
LEAST_CROWD_RUN, MOST_CROWD_RUN = 400, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests in the order they are sent; arrays of shape (n,).

    Attributes
    ----------
    send_s : float array
        When each is sent; all 0 in a closed loop, where a finished request sends the next.
    prompt_tokens, output_tokens : float arrays
        Lengths as the server sees them.
    reused_from : int array
        The earlier request a prompt starts alike with, `NOTHING_REUSED`, `ALWAYS_CACHED` or
        `BY_DISTANCE`.
    reused_tokens : float array
        So many tokens are alike.
    concurrency : int
        Requests in flight in a closed loop; 0 in an open one.
    first_wave_s : float
        What the first ``concurrency`` requests take longer to their first token.
    measured_from, measured_to : int
        Requests of these indices make the answer; others warm up or keep up the load.
    reuse_distance : float array, optional
        Distinct tokens that were used since a prefix was used last, of requests that are
        `BY_DISTANCE`.
    far_tokens, far_distance : float arrays, optional
        Tokens that another replica computed, which only a shared store holds, and what each replica
        computed since.
    unseen : int
        Requests in flight beyond `MOST_IN_FLIGHT`, which only wait: they are not replayed, and the
        time they take is added by Little's law.
    """

    send_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    reused_from: Integers
    reused_tokens: Floats
    concurrency: int
    first_wave_s: float
    measured_from: int
    measured_to: int
    unseen: int = 0
    reuse_distance: Floats | None = None
    far_tokens: Floats | None = None
    far_distance: Floats | None = None

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.send_s)


def draw_requests(traffic: Traffic, seed: int = 0) -> Requests:
    """Return the requests of a run; the same traffic and seed give the same requests.

    Lengths are drawn at evenly spread quantiles in random order, and gaps are scaled to the rate,
    so that a short run has the mean lengths and the rate it was asked for.
    """
    if isinstance(traffic.arrivals, Trace):
        return _of_trace(traffic, traffic.arrivals)
    if _is_steady(traffic) and traffic.concurrency > MOST_IN_FLIGHT:
        part = replace(traffic, arrivals=ClosedLoop(concurrency=MOST_IN_FLIGHT))
        return replace(draw_requests(part, seed), unseen=traffic.concurrency - MOST_IN_FLIGHT)
    return _drawn_requests(traffic, np.random.default_rng(seed))


def _is_steady(traffic: Traffic) -> bool:
    """Return whether requests come in a closed loop that has run for long."""
    arrivals = traffic.arrivals
    return isinstance(arrivals, ClosedLoop) and arrivals.start is Start.STEADY


def _send_times_of(rng: np.random.Generator, traffic: Traffic, count: int) -> Floats:
    """Return when requests are sent, seconds: all at once where the loop is closed."""
    arrivals = traffic.arrivals
    return _send_times(rng, arrivals, count) if isinstance(arrivals, OpenLoop) else np.zeros(count)


def _drawn_requests(traffic: Traffic, rng: np.random.Generator) -> Requests:
    """Return requests of random lengths, at random times in an open loop."""
    arrivals, steady = traffic.arrivals, _is_steady(traffic)
    # The extra wave keeps up the load while the last measured requests are served.
    count = traffic.run_requests + (traffic.concurrency if steady else 0)
    output = _lengths(rng, traffic.output, count)
    prompt = _lengths(rng, traffic.prompt, count)
    send_s, distance = _send_times_of(rng, traffic, count), None
    if isinstance(traffic.prefix, Sessions):
        send_s, prompt, source, reused = _conversations(rng, traffic, send_s, prompt, output)
    elif isinstance(traffic.prefix, PrefixSet):
        source, reused, distance = _of_set(rng, traffic, traffic.prefix, prompt)
    else:
        source, reused = _shared(rng, traffic.prefix, prompt)
    if steady:
        output = _partly_served(output, traffic.concurrency)
    return Requests(
        send_s=send_s,
        prompt_tokens=prompt,
        output_tokens=output,
        reused_from=source,
        reused_tokens=reused,
        concurrency=traffic.concurrency,
        first_wave_s=arrivals.first_wave_s if isinstance(arrivals, ClosedLoop) else 0.0,
        measured_from=traffic.run_warmup,
        measured_to=traffic.run_requests,
        reuse_distance=distance,
    )


def without_prefixes(requests: Requests) -> Requests:
    """Return the requests as an engine that keeps no prefixes sees them: nothing is reused."""
    return replace(
        requests,
        reused_from=np.full(len(requests), NOTHING_REUSED, dtype=np.int64),
        reused_tokens=np.zeros(len(requests)),
        reuse_distance=None,
        far_tokens=None,
        far_distance=None,
    )


def crowded(requests: Requests, concurrency: int) -> Requests:
    """Return the same kind of requests in a steady closed loop, repeated until they are enough.

    Two waves warm up, and one keeps up the load at the end. In between all requests are measured
    once, so that the lengths seen have the mean they are drawn with; `MOST_CROWD_RUN` of many.
    """
    kinds = _kinds(requests)
    measured = max(len(kinds), concurrency, LEAST_CROWD_RUN)
    count = 3 * concurrency + measured
    at, turn = kinds[np.arange(count) % len(kinds)], np.arange(count) // len(kinds)
    source = requests.reused_from[at]
    return Requests(
        send_s=np.zeros(count),
        prompt_tokens=requests.prompt_tokens[at],
        output_tokens=_partly_served(requests.output_tokens[at], concurrency),
        reused_from=np.where(source >= 0, source + turn * len(kinds), source),
        reused_tokens=requests.reused_tokens[at],
        concurrency=concurrency,
        first_wave_s=0.0,
        measured_from=2 * concurrency,
        measured_to=count - concurrency,
        reuse_distance=rows_of_column(requests.reuse_distance, at),
        far_tokens=rows_of_column(requests.far_tokens, at),
        far_distance=rows_of_column(requests.far_distance, at),
    )


def rows_of_column(column: Floats | None, at: Integers | slice) -> Floats | None:
    """Return some rows of a column that may be left out."""
    return None if column is None else column[at]


def _kinds(requests: Requests) -> Integers:
    """Return the indices of the requests that stand for all.

    The first `LEAST_CROWD_RUN` of equal ones; of many, evenly spread ones, or the first where
    prompts share prefixes with earlier requests.
    """
    columns = (requests.prompt_tokens, requests.output_tokens, requests.reused_tokens)
    shares = bool((requests.reused_from >= 0).any())
    if not shares and all(column.min() == column.max() for column in columns):
        return np.arange(min(len(requests), LEAST_CROWD_RUN))
    if shares:
        return np.arange(min(len(requests), MOST_CROWD_RUN))
    return np.linspace(0, len(requests) - 1, min(len(requests), MOST_CROWD_RUN)).astype(np.int64)


def _lengths(rng: np.random.Generator, law: LengthLaw, count: int) -> Floats:
    """Return lengths at even quantiles in random order; observed ones keep their own order."""
    order = rng.permutation(count)
    values = _at_even_quantiles(law, count)
    # Copied, because the array is cached and shared by all runs of the law.
    return values.copy() if isinstance(law, EmpiricalLength) else values[order]


@lru_cache(maxsize=64)
def _at_even_quantiles(law: LengthLaw, count: int) -> Floats:
    return law.at((np.arange(count) + 0.5) / count).astype(np.float64)


def _of_trace(traffic: Traffic, trace: Trace) -> Requests:
    """Return the first requests of a trace, or its beginning again where more are asked for."""
    count, length = traffic.run_requests, len(trace)
    at, turn = np.arange(count) % length, np.arange(count) // length
    # A repeated trace begins again one mean gap after its last request.
    gap = 1.0 / trace.requests_per_s if length > 1 else 1.0
    period = float(trace.send_s[-1] - trace.send_s[0]) + gap
    source = trace.reused_from[at]
    return Requests(
        send_s=trace.send_s[at] - trace.send_s[0] + turn * period,
        prompt_tokens=trace.prompt_tokens[at].astype(np.float64),
        output_tokens=trace.output_tokens[at].astype(np.float64),
        reused_from=np.where(source >= 0, source + turn * length, NOTHING_REUSED),
        reused_tokens=trace.reused_tokens[at].astype(np.float64),
        concurrency=0,
        first_wave_s=0.0,
        measured_from=traffic.run_warmup,
        measured_to=count,
        far_tokens=rows_of_column(trace.far_tokens, at),
        far_distance=rows_of_column(trace.far_distance, at),
    )


def _send_times(rng: np.random.Generator, arrivals: OpenLoop, count: int) -> Floats:
    """Return ascending times, seconds, at the mean rate asked for; the first request comes at 0."""
    if arrivals.process is Process.BURST:
        groups = 1 + np.cumsum(rng.random(count) < 1.0 / max(arrivals.variation, 1.0))
        starts = np.cumsum(rng.exponential(size=int(groups[-1]) + 1))
        times = starts[groups]
    elif arrivals.process is Process.CONSTANT:
        times = np.arange(count, dtype=np.float64)
    else:
        gamma = arrivals.process is Process.GAMMA
        # A gamma law of shape k has a coefficient of variation of 1 / sqrt(k).
        shape = 1.0 / arrivals.variation**2 if gamma else 1.0
        times = np.cumsum(rng.gamma(shape, size=count))
    times = times - times[0]
    # A single request, or a single burst, has no span that could be scaled.
    span = times[-1] if times[-1] > 0.0 else 1.0
    return np.asarray(times * ((count - 1) / arrivals.requests_per_s / span), dtype=np.float64)


def _partly_served(output: Floats, concurrency: int) -> Floats:
    """Shorten the first wave's outputs evenly, as if a deployment was seen at a random instant."""
    first = min(concurrency, len(output))
    left = (np.arange(first) + 0.5) / first
    served = output.copy()
    served[:first] = np.maximum(np.rint(output[:first] * left), np.minimum(output[:first], 1.0))
    return served


def _shared(rng: np.random.Generator, prefix: Prefix, prompt: Floats) -> tuple[Integers, Floats]:
    """Return from which request each prompt's beginning is known, and its tokens."""
    if isinstance(prefix, SharedPrefixes):
        group = rng.integers(prefix.groups, size=len(prompt))
        return _previous_of(group), np.minimum(float(prefix.tokens), prompt)
    share = prefix.share if isinstance(prefix, PrefixShare) else 0.0
    source = ALWAYS_CACHED if share > 0.0 else NOTHING_REUSED
    return np.full(len(prompt), source, dtype=np.int64), prompt * share


def _of_set(
    rng: np.random.Generator, traffic: Traffic, prefix: PrefixSet, prompt: Floats
) -> tuple[Integers, Floats, Floats]:
    """Return what `_shared` does for a set of prefixes, and the reuse distance of each, tokens.

    Of G prefixes picked at random, one was used last k requests ago, where k is drawn from a
    geometric law of mean G. Since then G (1 - exp(-k / G)) others were used, and each request left
    what it shares with nobody. A cache that drops what was used longest ago holds the prefix if all
    of that fits (Mattson et al., Evaluation techniques for storage hierarchies, 1970).
    """
    each = max(prefix.share * traffic.prompt.mean, 1.0)
    count = max(prefix.tokens / each, 1.0)
    ago = rng.geometric(1.0 / count, size=len(prompt)).astype(np.float64)
    alone = traffic.prompt.mean * (1.0 - prefix.share) + traffic.output.mean
    distance = count * -np.expm1(-ago / count) * each + ago * alone
    return np.full(len(prompt), BY_DISTANCE, dtype=np.int64), prompt * prefix.share, distance


def _previous_of(group: Integers) -> Integers:
    """Return the index of the last earlier request of the same group, `NOTHING_REUSED` for none."""
    order = np.argsort(group, kind="stable")
    source = np.full(len(group), NOTHING_REUSED, dtype=np.int64)
    same = group[order[1:]] == group[order[:-1]]
    source[order[1:][same]] = order[:-1][same]
    return source


def _conversations(
    rng: np.random.Generator, traffic: Traffic, send_s: Floats, new: Floats, output: Floats
) -> tuple[Floats, Floats, Integers, Floats]:
    """Return send times, whole prompts, and what each turn shares with the turn before it.

    In an open loop sessions start at random times and send a turn an interval; in a closed loop
    as many sessions as there are clients send in turn.
    """
    assert isinstance(traffic.prefix, Sessions)
    count, turns = len(new), traffic.prefix.turns
    if traffic.is_open:
        session, turn = np.divmod(np.arange(count), turns)
        starts = np.sort(rng.random(int(session[-1]) + 1)) * send_s[-1]
        times = starts[session] + turn * traffic.prefix.interval_s
        order = np.argsort(times, kind="stable")
        session, turn, times = session[order], turn[order], times[order] - times[order[0]]
    else:
        block, client = np.divmod(np.arange(count), max(traffic.concurrency, 1))
        session, turn = client + (block // turns) * max(traffic.concurrency, 1), block % turns
        times = send_s
    source = np.where(turn > 0, _previous_of(session), NOTHING_REUSED)
    history = np.zeros(count)
    # A loop, because the history of a turn is made of the history of the turn before it.
    for at in range(count):
        before = source[at]
        if before >= 0:
            history[at] = history[before] + new[before] + output[before]
    return times, history + new, source, history
