"""Candidates and traffic in, service as single requests see it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.performance.candidates import Candidates, Floats, Integers, kinds_of
from budsim.performance.physics.constants import FITTED, PhysicsConstants
from budsim.performance.predictions import MemoryUse
from budsim.performance.prefixes import Sessions
from budsim.performance.serving.arrivals import Requests, draw_requests
from budsim.performance.serving.replay.answers import (
    Limits,
    Percentiles,
    Replayed,
    ReplayedService,
    Spread,
    Timeline,
)
from budsim.performance.serving.replay.capacity import largest_stable_rate
from budsim.performance.serving.replay.runs import Replica, run
from budsim.performance.serving.replay.scheduling import (
    USUAL_FRONT_END,
    FrontEnd,
    host_of,
    schedulers,
)
from budsim.performance.serving.replay.step_tables import columns_of_steps, step_tables
from budsim.performance.serving.replay.summary import (
    NOTHING,
    summarise,
    timeline,
)
from budsim.performance.traffic import OpenLoop, Traffic

# From this share of the largest stable rate on so many requests are replayed: queues near
# saturation take long to grow. At 0.95 of it the p99 of TTFT of 2,000 requests is half as long.
BUSY, BUSY_RUN = 0.85, 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """Factors on step times, from regressors or a site's calibration; arrays of shape (n,).

    ``decode`` multiplies the time of decoding, ``prefill`` what prompt tokens add to a step.
    """

    prefill: Floats
    decode: Floats

    def rows(self, at: Integers) -> Factors:
        """Return those of some rows."""
        return Factors(prefill=self.prefill[at], decode=self.decode[at])


def replay(
    candidates: Candidates,
    memory: MemoryUse,
    traffic: Traffic | Sequence[Traffic],
    *,
    limits: Limits | None = None,
    factors: Factors | None = None,
    front_end: FrontEnd = USUAL_FRONT_END,
    seed: int = 0,
    finite: bool = False,
) -> ReplayedService:
    """Replay requests through the scheduler of each candidate, one replica each.

    A row takes about a millisecond for its tables and a microsecond a request.

    Parameters
    ----------
    candidates : Candidates
        n rows. Their columns of lengths and concurrency are not read: ``traffic`` says both.
    memory : MemoryUse
        Of the same rows.
    traffic : Traffic, or one for each row
        What *one replica* receives (`Traffic.shared_by`).
    limits : Limits, optional
        What makes a request good; by default every request is.
    factors : Factors, optional
        Corrections of step times; by default none.
    front_end : FrontEnd
        Time of the server's host, and how requests are spread over attention ranks.
    seed : int
        The same seed draws the same requests, so that candidates are compared on equal terms.
    finite : bool
        The run ends with its last request, as a benchmark's does. Rows whose rate is too high are
        then answered too: with what that run sees, which is no property of the server.

    Returns
    -------
    ReplayedService
        nan, and not ``stable``, where requests come faster than the replica can serve them, or
        the longest does not fit its KV cache.

    Raises
    ------
    InvalidInput
        When there are as many traffics as neither one nor rows.
    Unavailable
        When the kernel is not compiled and cannot be.
    """
    each = [traffic] * len(candidates) if isinstance(traffic, Traffic) else list(traffic)
    if len(each) != len(candidates):
        raise InvalidInput("traffic", f"of {len(each)} replicas", f"one, or {len(candidates)}")
    replicas = replicas_of(candidates, memory, factors=factors, front_end=front_end)
    return serve(replicas, each, limits=limits or Limits(), seed=seed, finite=finite)


def serve(
    replicas: Sequence[Replica],
    traffic: Sequence[Traffic],
    *,
    limits: Limits,
    seed: int = 0,
    finite: bool = False,
    largest: Floats | None = None,
) -> ReplayedService:
    """Return what `replay` does, for replicas whose tables are made.

    ``largest`` are their largest stable rates where they are known already, shape (n,).
    """
    drawn = _Drawn(seed)
    known = np.full(len(replicas), np.nan) if largest is None else largest
    rates = _Rates(drawn)
    answers = [
        _answer(replica, asked, rates, limits, finite, float(rate))
        for replica, asked, rate in zip(replicas, traffic, known, strict=True)
    ]
    return _service(answers, np.array([asked.rate for asked in traffic]))


class _Drawn:
    """Draws the requests of each distinct traffic once."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[tuple[int, bool], tuple[Traffic, Requests]] = {}

    def requests_of(self, traffic: Traffic, *, busy: bool = False) -> Requests:
        """Return the requests of a run, more of them where the replica is ``busy``."""
        # Keyed by identity: the entry keeps the traffic alive, so that its id cannot be used again.
        key = id(traffic), busy
        if key not in self._known:
            asked = replace(traffic, requests=BUSY_RUN) if busy else traffic
            self._known[key] = traffic, draw_requests(asked, self._seed)
        return self._known[key][1]


class _Rates:
    """Finds the largest stable rate of replicas, once for those that serve alike requests alike."""

    def __init__(self, drawn: _Drawn) -> None:
        self.drawn = drawn
        self._known: dict[tuple[int, Traffic], float] = {}

    def largest(self, replica: Replica, traffic: Traffic) -> float:
        """Return the largest rate, requests/s, at which a replica serves such requests."""
        requests, arrivals = self.drawn.requests_of(traffic), traffic.arrivals
        # What turns of a conversation share depends on the rate, and a trace has requests of its
        # own for each number of replicas.
        if not isinstance(arrivals, OpenLoop) or isinstance(traffic.prefix, Sessions):
            return largest_stable_rate(replica, requests)
        key = replica.alike, traffic.at(1.0)
        if key not in self._known:
            self._known[key] = largest_stable_rate(replica, requests)
        return self._known[key]


def replicas_of(
    candidates: Candidates,
    memory: MemoryUse,
    *,
    factors: Factors | None = None,
    front_end: FrontEnd = USUAL_FRONT_END,
    constants: PhysicsConstants = FITTED,
) -> list[Replica]:
    """Return what serves: each candidate with its step times and scheduler."""
    if not len(candidates):
        return []
    tables, table = step_tables(candidates, constants), schedulers(candidates, memory)
    ones = np.ones(len(candidates))
    hosts = [host_of(engine, constants) for engine in candidates.engines]
    slower = [factors.prefill, factors.decode] if factors else []
    limits = [getattr(table, field.name) for field in fields(table)]
    alike = kinds_of([*columns_of_steps(candidates), *limits, *slower])[1]
    return [
        Replica(
            tables=tables,
            schedulers=table,
            row=row,
            host=front_end.host or hosts[candidates.engine[row]],
            router=front_end.router,
            prefill_factor=float((factors.prefill if factors else ones)[row]),
            decode_factor=float((factors.decode if factors else ones)[row]),
            alike=int(alike[row]),
        )
        for row in range(len(candidates))
    ]


@dataclass(frozen=True, slots=True)
class _Answer:
    """One row of a `ReplayedService`; ``seen`` is None where the rate is too high."""

    seen: Replayed | None
    timeline: Timeline | None
    stable: bool
    largest: float


def _answer(
    replica: Replica,
    traffic: Traffic,
    rates: _Rates,
    limits: Limits,
    finite: bool,
    largest: float,
) -> _Answer:
    drawn = rates.drawn
    requests = drawn.requests_of(traffic)
    fits = _fits_longest(replica, requests)
    if not fits and not (finite and replica.cache_tokens >= 1.0):
        return _Answer(None, None, False, 0.0)
    # A closed loop never sends faster than it is served, so it needs no largest rate.
    if traffic.is_open and np.isnan(largest):
        largest = rates.largest(replica, traffic)
    # `not >=` rather than `<`: the rate of a closed loop is nan, and its queue cannot grow.
    stable = fits and not traffic.rate >= largest
    if not stable and not finite:
        return _Answer(None, None, stable, largest)
    if _needs_more(traffic, largest):
        requests = drawn.requests_of(traffic, busy=True)
    seen, over_time = _replayed(replica, requests, limits)
    return _Answer(seen, over_time, stable, largest)


def _fits_longest(replica: Replica, requests: Requests) -> bool:
    longest = float((requests.prompt_tokens + requests.output_tokens).max())
    return longest <= replica.cache_tokens_of_request


def _replayed(replica: Replica, requests: Requests, limits: Limits) -> tuple[Replayed, Timeline]:
    """Return what a replica does with some requests, as a whole and over time."""
    runs, cache_tokens = run(replica, requests), replica.cache_tokens
    seen = summarise(
        runs,
        reply_s=replica.host.reply_s,
        cache_tokens=cache_tokens,
        limits=limits,
        unseen=requests.unseen,
    )
    return seen, timeline(runs, cache_tokens)


def _needs_more(traffic: Traffic, largest: float) -> bool:
    """Whether a run of the usual length at a drawn rate would end before its queue has grown."""
    drawn = isinstance(traffic.arrivals, OpenLoop) and traffic.requests is None
    return drawn and traffic.rate > BUSY * largest


def _service(answers: Sequence[_Answer], rate: Floats) -> ReplayedService:
    """Turn one value a row into one array a field."""
    return ReplayedService(
        **_columns(answers),
        stable=np.array([answer.stable for answer in answers], dtype=bool),
        rate=rate,
        largest_stable_rate=np.array([answer.largest for answer in answers]),
        timelines=tuple(answer.timeline for answer in answers),
    )


def _columns(answers: Sequence[_Answer]) -> dict[str, Any]:
    """Return what the rows' replays saw, one array a field; nan in rows without a replay."""
    blank: dict[str, Any] = {
        each.name: NOTHING if each.name in _SPREADS else np.nan for each in _FIELDS
    }
    rows = [answer.seen or Replayed(**blank) for answer in answers]
    columns: dict[str, Any] = {}
    for field in _FIELDS:
        values = [getattr(row, field.name) for row in rows]
        spreads = field.name in _SPREADS
        columns[field.name] = _percentiles(values) if spreads else np.array(values, dtype=float)
    return columns


_FIELDS = fields(Replayed)
_SPREADS = frozenset({"ttft_s", "itl_s", "tpot_s", "e2e_s"})


def _percentiles(spreads: Sequence[Spread]) -> Percentiles:
    names = [field.name for field in fields(Spread)]
    return Percentiles(
        **{name: np.array([getattr(each, name) for each in spreads]) for name in names}
    )
