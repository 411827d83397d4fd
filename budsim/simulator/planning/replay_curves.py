"""What requests of a plan see one by one, and how that changes with the load: data for plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from budsim.performance.candidates import Candidates, Floats, rows_of
from budsim.performance.predictor import Predictor
from budsim.performance.serving.arrivals import draw_requests
from budsim.performance.serving.replay import Replayed, Timeline, Unstable
from budsim.performance.serving.replay.replay import replicas_of
from budsim.performance.serving.replay.runs import Run, run
from budsim.performance.serving.replay.summary import timeline
from budsim.performance.traffic import ClosedLoop, Traffic
from budsim.simulator.planning.group_changes import (
    hardware_of_group,
    option_of_group,
    question_of_group,
    row_of,
)
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.pool_curves import PROBE_RATE, pools_under_loads
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring

# Loads tried for a curve.
POINTS = 14
# Rates tried, relative to the largest stable one. At the rate itself the queue never ends.
LEAST_SHARE, MOST_SHARE = 0.05, 0.98
# A closed loop is tried up to so many times the requests in flight that were asked for.
CLOSED_OVERLOAD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCurve:
    """Latency against load; arrays of shape (n,), seconds, in ascending order of load.

    ``load`` counts requests per second (``is_rate``) or requests in flight, of all replicas of the
    plan's slowest group; ``asked`` is the load of the question.
    """

    is_rate: bool
    asked: float
    load: Floats
    requests_per_s: Floats
    ttft_p50_s: Floats
    ttft_p99_s: Floats
    itl_p99_s: Floats
    e2e_p99_s: Floats

    @property
    def knee(self) -> float:
        """The load beyond which p99 of TTFT grows faster than the load.

        With both axes scaled to 0..1: the point that lies farthest below the straight line from the
        first to the last one.
        """
        load = (self.load - self.load[0]) / max(float(np.ptp(self.load)), 1e-30)
        wait = (self.ttft_p99_s - self.ttft_p99_s[0]) / max(float(np.ptp(self.ttft_p99_s)), 1e-30)
        return float(self.load[int(np.argmax(load - wait))])


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimes:
    """What requests of one replica saw, seconds.

    ``gap_s`` and ``gap_counts`` are a histogram of the gaps between tokens.
    """

    ttft_s: Floats
    e2e_s: Floats
    gap_s: Floats
    gap_counts: Floats
    timeline: Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReplay:
    """The curve of a plan's slowest group, and its requests; None where it is not stable.

    The curve of two pools is that of both; their single requests are not told.
    """

    curve: LoadCurve | None
    times: RequestTimes | None


def replay_plan(question: Question, plan: Plan, predictor: Predictor) -> PlanReplay:
    """Replay the slowest group of a plan at many loads, and at the load that was asked for.

    Examples
    --------
    A group of 2 replicas that each carry 10 requests/s is tried at 1 to 19.6 requests/s.
    """
    if plan.is_disaggregated:
        return PlanReplay(curve=_curve_of_pools(question, plan), times=None)
    group = plan.slowest
    asked = question_of_group(question, plan, group)
    candidates = _candidates(asked, plan)
    one = asked.traffic.shared_by(group.replicas).with_usual_spread()
    loads = _loads(candidates, one, predictor)
    if not len(loads):
        return PlanReplay(curve=None, times=None)
    tried = [_at(one, each) for each in loads]
    _, _, served = predictor.predict_traffic(_repeated(candidates, len(loads)), tried)
    curve = _curve(one, loads, [served.row(row) for row in range(len(loads))], group.replicas)
    limit = float(served.largest_stable_rate[0])
    is_stable = not one.is_open or one.rate < limit
    times = _times(candidates, one, predictor) if is_stable else None
    return PlanReplay(curve=curve, times=times)


def _curve_of_pools(question: Question, plan: Plan) -> LoadCurve | None:
    """Return the curve of both pools of a plan together, at loads of the whole plan."""
    traffic, (largest, serve) = question.traffic, pools_under_loads(question, plan)
    loads = _tried(traffic, largest)
    return _curve(traffic, loads, [serve(float(load)).row(0) for load in loads])


def _repeated(candidates: Candidates, rows: int) -> Candidates:
    return rows_of(candidates, np.zeros(rows, dtype=np.int64))


def _candidates(question: Question, plan: Plan) -> Candidates:
    """Return one replica of the plan's slowest group, a table of one row."""
    group = plan.slowest
    hardware = hardware_of_group(question, plan, group)
    option = option_of_group(question, hardware, group)
    return Scoring(question, (option,)).candidates(row_of(group.config, group.replicas))


def _loads(candidates: Candidates, traffic: Traffic, predictor: Predictor) -> Floats:
    """Return the loads of one replica to try; none where not even one request fits."""
    if isinstance(traffic.arrivals, ClosedLoop):
        return _tried(traffic, np.nan)
    _, _, probe = predictor.predict_traffic(candidates, [traffic.at(PROBE_RATE)])
    return _tried(traffic, float(probe.largest_stable_rate[0]))


def _tried(traffic: Traffic, largest: float) -> Floats:
    """Return the loads to try, up to the ``largest`` rate or far beyond the requests in flight."""
    if isinstance(traffic.arrivals, ClosedLoop):
        most = CLOSED_OVERLOAD * traffic.concurrency
        return np.unique(np.rint(np.geomspace(1, max(most, 2), POINTS)))
    return np.linspace(LEAST_SHARE, MOST_SHARE, POINTS) * largest if largest > 0 else np.array([])


def _at(traffic: Traffic, load: float) -> Traffic:
    if isinstance(traffic.arrivals, ClosedLoop):
        return replace(traffic, arrivals=replace(traffic.arrivals, concurrency=int(load)))
    return traffic.at(float(load))


def _curve(
    traffic: Traffic, loads: Floats, seen: Sequence[Replayed | Unstable], replicas: int = 1
) -> LoadCurve | None:
    """Return the curve of what was seen at each load of a replica; None where none is stable."""
    stable = [
        (load, each) for load, each in zip(loads, seen, strict=True) if isinstance(each, Replayed)
    ]
    if not stable:
        return None
    asked = traffic.rate if traffic.is_open else traffic.concurrency
    return LoadCurve(
        is_rate=traffic.is_open,
        asked=replicas * asked,
        load=replicas * np.array([load for load, _ in stable]),
        requests_per_s=replicas * np.array([each.requests_per_s for _, each in stable]),
        ttft_p50_s=np.array([each.ttft_s.p50 for _, each in stable]),
        ttft_p99_s=np.array([each.ttft_s.p99 for _, each in stable]),
        itl_p99_s=np.array([each.itl_s.p99 for _, each in stable]),
        e2e_p99_s=np.array([each.e2e_s.p99 for _, each in stable]),
    )


def _times(candidates: Candidates, traffic: Traffic, predictor: Predictor) -> RequestTimes:
    """Return single requests of a run, corrected as their means are."""
    memory, _, served = predictor.predict_traffic(candidates, [traffic])
    factors = predictor.step_factors(candidates, [traffic])
    replica = replicas_of(candidates, memory, factors=factors)[0]
    runs = run(replica, draw_requests(traffic))
    counts = np.sum([each.gap_counts for each in runs], axis=0)
    sums_s = np.sum([each.gap_sums_s for each in runs], axis=0)
    seen = counts > 0
    ttft_s = _measured(runs, "first_s") - _measured(runs, "send_s")
    e2e_s = _measured(runs, "done_s") - _measured(runs, "send_s")
    gap_s, mean_gap_s = sums_s[seen] / counts[seen], sums_s.sum() / max(counts.sum(), 1.0)
    return RequestTimes(
        ttft_s=np.sort(ttft_s) * _ratio(served.ttft_s.mean, ttft_s),
        e2e_s=np.sort(e2e_s) * _ratio(served.e2e_s.mean, e2e_s),
        gap_s=gap_s * _ratio(served.itl_s.mean, np.array([mean_gap_s])),
        gap_counts=counts[seen],
        timeline=timeline(runs, replica.cache_tokens),
    )


def _ratio(corrected: Floats, raw: Floats) -> float:
    """Return the factor from the mean of raw times to the corrected mean, 1 where there is none."""
    mean = float(np.mean(raw))
    factor = float(corrected[0]) / mean if mean > 0 else 1.0
    return factor if np.isfinite(factor) else 1.0


def _measured(runs: list[Run], name: str) -> Floats:
    return np.concatenate([getattr(each, name)[each.measured] for each in runs])
