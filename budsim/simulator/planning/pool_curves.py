"""Two pools of a plan under other loads: what their requests see one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from budsim.engine_ops import serving_engines
from budsim.performance.serving.replay import ReplayedService
from budsim.simulator.planning.group_changes import hardware_of_pools
from budsim.simulator.planning.known_pools import (
    Configs,
    judged_as_shown,
    paired_of,
    scoring_of,
)
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import Question

# Rate, requests/s, that everything carries: a replay of it tells the largest stable one.
PROBE_RATE = 1e-3


def pools_under_loads(
    question: Question, plan: Plan
) -> tuple[float, Callable[[float], ReplayedService]]:
    """Return the largest rate that both pools of a plan carry, and what tells their service.

    The function takes a load of the whole plan, requests per second or in flight. The largest rate
    is nan in a closed loop. Workers stay as they are launched.
    """
    hardware = hardware_of_pools(question, plan)
    engine = serving_engines[plan.groups[0].engine]

    def served(load: float) -> ReplayedService:
        """Replay one load."""
        asked = question.at_rate(load) if is_open else question.with_concurrency(int(load))
        configs = _configs(plan, None if is_open else int(load))
        counts = plan.groups[0].replicas, plan.groups[1].replicas
        scoring = scoring_of(asked, engine, hardware, configs)
        judged = judged_as_shown(asked, paired_of(scoring, hardware, configs, counts))
        assert judged.replayed is not None
        return judged.replayed.served

    is_open = question.traffic.is_open
    largest = float(served(PROBE_RATE).largest_stable_rate[0]) if is_open else np.nan
    return largest, served


def _configs(plan: Plan, in_flight: int | None) -> Configs:
    """Return the workers of both pools with their share of so many requests; None: as they are."""
    prefill, decode = (
        group.config
        if in_flight is None
        else replace(group.config, concurrency=-(-in_flight // group.replicas))
        for group in plan.groups
    )
    return prefill, decode
