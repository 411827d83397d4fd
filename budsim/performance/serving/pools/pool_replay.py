"""Requests one by one through both pools: percentiles, goodput and the largest rate they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.serving.arrivals import Requests, draw_requests
from budsim.performance.serving.pools.pool_times import Pools, PoolTimes
from budsim.performance.serving.pools.queues import AWAITED_STEPS
from budsim.performance.serving.pools.token_curves import TokenCurves
from budsim.performance.serving.pools.waves import placed, prefilled
from budsim.performance.serving.replay.answers import Limits, Percentiles, ReplayedService, Spread
from budsim.performance.serving.replay.summary import NOTHING, spread
from budsim.performance.traffic import Traffic

# Rounds in which the speed of tokens and the sequences that decode settle.
ROUNDS = 4

QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One deployment as its requests meet it.

    ``prompt_s`` is a worker's time for a prompt of mean length, ``more_s`` what follows until the
    first token. ``token_s`` (k,) are times between tokens of all decode workers together at
    ``loads`` (k,), sequences of all of them; ``places`` decode at a time. The links are busy for
    ``link_share`` seconds with each prompt.
    """

    prefill_workers: int
    prompt_s: float
    more_s: float
    places: int
    loads: Floats
    token_s: Floats
    link_share: float = 0.0

    def token_at(self, running: Floats | float) -> Floats:
        """Return seconds between tokens while so many sequences decode."""
        return np.asarray(np.interp(running, self.loads, self.token_s))

    def largest_rate(self, tokens: float) -> float:
        """Return the requests/s carried in the long run, of so many tokens after the first."""
        decoding = tokens * float(self.token_at(self.places))
        decoded = self.places / decoding if decoding > 0 else np.inf
        sent = 1.0 / self.link_share if self.link_share > 0 else np.inf
        return min(self.prefill_workers / self.prompt_s, decoded, sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequests:
    """What each request saw; arrays of shape (requests,), seconds, and the gaps between tokens."""

    sent_s: Floats
    start_s: Floats
    decoding_s: Floats
    gaps: Spread

    @property
    def ttft_s(self) -> Floats:
        """From sending to the first token."""
        return self.start_s - self.sent_s

    @property
    def e2e_s(self) -> Floats:
        """From sending to the last token."""
        return self.ttft_s + self.decoding_s


def replay_pools(
    pools: Pools,
    times: PoolTimes,
    curves: TokenCurves,
    traffic: Traffic,
    *,
    transfer_s: Floats | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> ReplayedService:
    """Replay requests that come by themselves, one deployment a row; nan where not carried.

    Closed loops are `closed_loops.replay_loops`.

    ``transfer_s`` (n,) are transfers under the load; by default each is alone on its link.
    Prefill workers take requests in turn, in the order they are sent. A request decodes as soon as
    its cache is transferred and a place is free, as fast as the load of all decode workers lets it.
    """
    requests, bounds = draw_requests(traffic, seed), limits or Limits()
    known = times if transfer_s is None else replace(times, transfer_s=transfer_s)
    rows = [_row(pools, known, curves, row) for row in range(len(pools))]
    found = [_served(each, requests, traffic, bounds) for each in rows]
    return table_of(found)


def _row(pools: Pools, times: PoolTimes, curves: TokenCurves, row: int) -> Deployment:
    workers = float(pools.decode_workers[row])
    token_s = curves.seconds[row]
    step = float(token_s[0]) * float(pools.decode.tokens_per_step[row])
    lone = max(float(times.lone_prompt_s[row] - times.prompt_s[row]), 0.0)
    return Deployment(
        prefill_workers=max(int(pools.prefill_workers[row]), 1),
        prompt_s=float(times.prompt_s[row]),
        more_s=lone + float(times.transfer_s[row]) + AWAITED_STEPS * step,
        places=max(int(times.places[row]), 1),
        loads=curves.loads * workers,
        token_s=token_s,
        link_share=float(times.link_share[row]),
    )


def _prompt_seconds(deployment: Deployment, requests: Requests) -> Floats:
    """Return a worker's time for each prompt; that of the mean prompt is known."""
    fresh = np.maximum(requests.prompt_tokens - requests.reused_tokens, 1.0)
    return np.asarray(deployment.prompt_s * fresh / fresh.mean(), dtype=np.float64)


def serve(deployment: Deployment, requests: Requests) -> ServedRequests:
    """Return what each request sees of one deployment; each comes at its time."""
    prompts, tokens = _prompt_seconds(deployment, requests), _tokens(requests)
    done, _ = prefilled(requests.send_s, prompts, np.zeros(deployment.prefill_workers))
    ready = done + deployment.more_s
    decoding, gaps = tokens * float(deployment.token_at(1.0)), NOTHING
    for _ in range(ROUNDS):
        start, _ = placed(ready, decoding, np.zeros(min(deployment.places, len(ready))))
        decoding, gaps = _decoded(deployment, start, decoding, tokens)
    return ServedRequests(sent_s=requests.send_s, start_s=start, decoding_s=decoding, gaps=gaps)


def _decoded(
    deployment: Deployment, start: Floats, decoding: Floats, tokens: Floats
) -> tuple[Floats, Spread]:
    """Return how long each request decodes where speed follows the load, and the gaps.

    The load is that of requests that decode for ``decoding`` from ``start`` on. Between two events
    all sequences advance alike, so that the tokens each has made follow from one running sum.
    """
    events = np.concatenate([start, start + decoding])
    change = np.concatenate([np.ones(len(start)), -np.ones(len(start))])
    order = np.argsort(events, kind="stable")
    time, running = events[order], np.cumsum(change[order])
    token_s = deployment.token_at(np.maximum(running, 1.0))
    made = np.concatenate([[0.0], np.cumsum(np.diff(time) / token_s[:-1])])
    # After the last event nobody else decodes.
    alone = float(deployment.token_at(1.0))
    time = np.append(time, time[-1] + alone * float(tokens.max(initial=1.0)))
    made = np.append(made, made[-1] + float(tokens.max(initial=1.0)))
    end = np.interp(np.interp(start, time, made) + tokens, made, time)
    weights = running[:-1] * np.diff(made[:-1])
    return end - start, _weighted(token_s[:-1], weights)


def _tokens(requests: Requests) -> Floats:
    """Return the tokens of each request after its first."""
    return np.maximum(requests.output_tokens - 1.0, 0.0)


def _weighted(values: Floats, weights: Floats) -> Spread:
    """Return mean and percentiles of values that count as often as their weights say."""
    total = float(weights.sum())
    if total <= 0.0:
        return NOTHING
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / total
    places = np.minimum(np.searchsorted(below, QUANTILES), len(order) - 1)
    p50, p90, p95, p99 = values[order][places]
    mean = float((values * weights).sum() / total)
    return Spread(mean=mean, p50=float(p50), p90=float(p90), p95=float(p95), p99=float(p99))


def _served(
    deployment: Deployment, requests: Requests, traffic: Traffic, limits: Limits
) -> dict[str, Any]:
    """Return one row of the answer by the names of `ReplayedService`."""
    tokens = _tokens(requests)
    largest = deployment.largest_rate(float(tokens.mean()))
    known = {"rate": traffic.rate, "largest_stable_rate": largest}
    if traffic.rate >= largest:
        return {**known, "stable": False}
    return {**known, "stable": True, **_figures(deployment, requests, limits)}


def _figures(deployment: Deployment, requests: Requests, limits: Limits) -> dict[str, Any]:
    seen, tokens = serve(deployment, requests), _tokens(requests)
    part = slice(requests.measured_from, requests.measured_to)
    ttft, e2e, decoding = seen.ttft_s[part], seen.e2e_s[part], seen.decoding_s[part]
    several = tokens[part] > 0
    tpot = np.divide(decoding, tokens[part], out=np.zeros_like(decoding), where=several)
    good = (ttft <= limits.ttft_s) & (e2e <= limits.e2e_s) & (tpot <= limits.itl_s)
    rate = _rate(requests)
    prefill = rate * deployment.prompt_s / deployment.prefill_workers
    running = rate * float(decoding.mean())
    return {
        "ttft_s": spread(ttft),
        "itl_s": seen.gaps,
        "tpot_s": spread(tpot[several]),
        "e2e_s": spread(e2e),
        "requests_per_s": rate,
        "output_tokens_per_s": rate * float(requests.output_tokens[part].mean()),
        "good_share": float(good.mean()),
        "good_requests_per_s": rate * float(good.mean()),
        "running": running,
        "waiting": rate * float(ttft.mean()),
        "cache_share": min(running / deployment.places, 1.0),
        "utilisation": min(prefill, 1.0),
    }


def _rate(requests: Requests) -> float:
    """Return the requests finished per second: as they come."""
    return (len(requests) - 1) / max(float(np.ptp(requests.send_s)), 1e-9)


def table_of(rows: Sequence[dict[str, Any]]) -> ReplayedService:
    """Return rows as one table, nan where a row has no figure."""
    columns: dict[str, Any] = {}
    for field in fields(ReplayedService):
        values = [row.get(field.name, np.nan) for row in rows]
        if field.name in {"ttft_s", "itl_s", "tpot_s", "e2e_s"}:
            spreads = [each if isinstance(each, Spread) else NOTHING for each in values]
            columns[field.name] = Percentiles(
                **{
                    each.name: np.array([getattr(one, each.name) for one in spreads])
                    for each in fields(Percentiles)
                }
            )
        else:
            columns[field.name] = np.array(values, dtype=np.float64)
    stable = np.array([bool(row["stable"]) for row in rows])
    # A request without a place waits for one: nobody is sent away.
    columns["preemptions"] = np.zeros(len(rows))
    return ReplayedService(**{**columns, "stable": stable, "timelines": (None,) * len(rows)})
