"""Requests replayed one by one through the best deployments: percentiles, goodput and stability.

The closed form searches thousands of candidates by their means. What single requests see, at which
rate a queue starts to grow, and who is best under the traffic as it really comes, is told by
replaying requests through the few best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from budsim.performance.candidates import Booleans, Candidates, Floats
from budsim.performance.predictions import MemoryUse, Predictions, rate
from budsim.performance.predictor import Predictor
from budsim.performance.serving.replay import Limits, Percentiles, ReplayedService, Unstable
from budsim.performance.traffic import LEAST_RATE, ClosedLoop, OpenLoop, Traffic
from budsim.simulator.planning.chances import SPARE_RATE
from budsim.simulator.planning.choices import Choices
from budsim.simulator.planning.plans import ReplayedRequests
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import GOOD_SHARE, LATENCIES, PERCENTS, Figures, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRows:
    """What the replay found for rows of choices, and the figures targets are compared with."""

    served: ReplayedService
    figures: Figures

    @property
    def stable(self) -> Booleans:
        """Which rows carry the traffic."""
        return self.served.stable

    @property
    def waiting_share(self) -> Floats:
        """Share of a request's time it waits (Little's law); 0 where the traffic is not carried."""
        waiting, running = np.nan_to_num(self.served.waiting), np.nan_to_num(self.served.running)
        in_flight = waiting + running
        return np.divide(waiting, in_flight, out=np.zeros_like(waiting), where=in_flight > 0)

    def requests(self, row: int) -> ReplayedRequests | Unstable:
        """Return what the requests of a stable row saw, or why there are no figures."""
        found, served = self.served.row(row), self.served
        if isinstance(found, Unstable):
            return found
        return ReplayedRequests(
            ttft_s=found.ttft_s,
            itl_s=found.itl_s,
            tpot_s=found.tpot_s,
            e2e_s=found.e2e_s,
            requests_per_s=found.requests_per_s,
            good_share=found.good_share,
            running=found.running,
            waiting=found.waiting,
            cache_share=found.cache_share,
            utilisation=found.utilisation,
            preemptions=found.preemptions,
            rate=float(served.rate[row]),
            largest_stable_rate=float(served.largest_stable_rate[row]),
            timeline=served.timelines[row],
        )


def replay_rows(
    question: Question,
    predictor: Predictor,
    candidates: Candidates,
    choices: Choices,
    shares: Floats,
) -> tuple[Predictions, ReplayedRows]:
    """Replay the question's requests through one replica of each row; see `replay_traffic`.

    Parameters
    ----------
    question : Question
        Its traffic is replayed; its seed draws the requests, the same for every row.
    predictor : Predictor
        Corrects what is replayed, and says how sure it is.
    candidates, choices
        The rows.
    shares : float array, shape (n,)
        Share (0..1] of the traffic that all replicas of a row receive together.
    """
    traffic = traffic_of_rows(question.traffic, choices, shares)
    _, predictions, replayed = replay_traffic(question, predictor, candidates, traffic)
    return predictions, replayed


def replay_traffic(
    question: Question, predictor: Predictor, candidates: Candidates, traffic: Sequence[Traffic]
) -> tuple[MemoryUse, Predictions, ReplayedRows]:
    """Return memory, predictions and replay of rows whose replicas receive some ``traffic`` each.

    nan in rows that do not carry it. Only targets and seed of the question matter.
    """
    memory, predictions, served = predictor.predict_traffic(
        candidates,
        traffic,
        limits=limits_of(question.targets),
        seed=question.seed,
    )
    # Where a single token is generated no gap is seen, and its speed is that of the closed form.
    speed = {"tokens_per_s_per_user": predictions.service.tokens_per_s_per_user}
    figures = {**figures_of_replay(served), **speed}
    return memory, predictions, ReplayedRows(served=served, figures=figures)


def traffic_of_rows(traffic: Traffic, choices: Choices, shares: Floats) -> list[Traffic]:
    """Return what one replica of each row receives; equal rows get the same object, drawn once."""
    known: dict[tuple[float, int], Traffic] = {}
    found = []
    replicas, concurrency = choices.replicas.tolist(), choices.concurrency.tolist()
    for number, requests, share in zip(replicas, concurrency, shares.tolist(), strict=True):
        key = (number / share, requests if isinstance(traffic.arrivals, ClosedLoop) else 0)
        if key not in known:
            known[key] = _of_one_replica(traffic, key[0], requests)
        found.append(known[key])
    return found


def _of_one_replica(traffic: Traffic, part: float, requests: int) -> Traffic:
    """Return one of ``part`` equal parts of the traffic, or a closed loop of so many requests."""
    traffic = traffic.routed_to(part)
    arrivals = traffic.arrivals
    if isinstance(arrivals, ClosedLoop):
        alone = replace(traffic, arrivals=replace(arrivals, concurrency=requests))
        return alone.with_usual_spread()
    if isinstance(arrivals, OpenLoop):
        # A part of the least rate is that rate: either way nobody waits for anybody.
        return traffic.at(max(traffic.rate / part, LEAST_RATE))
    return traffic.shared_by(max(1, round(part)))


def limits_of(targets: Targets) -> Limits:
    """Return what makes a request good; without a goodput target nothing is limited."""
    if not targets.goodput:
        return Limits()
    slowest = targets.tokens_per_s_per_user
    return Limits(
        ttft_s=targets.ttft_s or inf,
        itl_s=1.0 / slowest if slowest else inf,
        e2e_s=targets.e2e_s or inf,
    )


def figures_of_replay(served: ReplayedService) -> Figures:
    """Return all figures a target may bound."""
    figures: dict[str, Floats] = {GOOD_SHARE: served.good_share}
    for name in LATENCIES:
        spread: Percentiles = getattr(served, f"{name}_s")
        figures |= {f"{name}_p{percent}_s": getattr(spread, f"p{percent}") for percent in PERCENTS}
        figures[f"{name}_s"] = spread.mean
    figures["tokens_per_s_per_user"] = rate(np.nan_to_num(served.tpot_s.mean))
    if not np.isnan(served.rate).all():
        figures[SPARE_RATE] = np.nan_to_num(served.largest_stable_rate / served.rate)
    return figures
