"""What a plan takes from the grid: power, energy and CO2 per million tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from budsim.commons.units import KILO, MEGA, SECONDS_PER_HOUR
from budsim.engine_ops.base import PoolRole
from budsim.hardware_ops.power import device_w, host_w
from budsim.simulator.planning.plans import ReplicaGroup
from budsim.simulator.planning.question import Question

MEMORY: Final = ("weight bandwidth", "KV cache bandwidth")
QUEUE: Final = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What the devices of a plan, their servers and the data centre around them take.

    ``power_w`` is drawn from the grid. The others are per million tokens that cost counts: output
    tokens, of pooling models those they read.
    """

    power_w: float
    kwh_per_million_tokens: float
    g_co2_per_million_tokens: float


def energy_of(question: Question, groups: Sequence[ReplicaGroup]) -> Energy:
    """Return what the groups of a plan take at the question's load.

    1,000 W that make 100 tokens/s take 2.78 kWh per million tokens; at 445 g/kWh, 1,236 g CO2.
    """
    site = question.power_site
    power_w = site.pue * sum(_group_w(question, group) for group in groups)
    # Both pools of a disaggregated plan see the same requests: they are counted once.
    finishing = [each for each in groups if each.role is not PoolRole.PREFILL] or groups
    per_s = sum(group.replicas * group.service.requests_per_s.value for group in finishing)
    tokens_per_h = per_s * question.traffic.counted_tokens * SECONDS_PER_HOUR
    kwh = power_w / KILO / tokens_per_h * MEGA if tokens_per_h > 0 else float("inf")
    return Energy(
        power_w=power_w,
        kwh_per_million_tokens=kwh,
        g_co2_per_million_tokens=kwh * site.g_co2_per_kwh,
    )


def group_device_w(question: Question, group: ReplicaGroup) -> float:
    """Return the mean power of one device of a group, W."""
    shares = group.explanation.time_shares
    # While a request waits, the device works for others.
    working = 1.0 - shares.get(QUEUE, 0.0)
    memory = sum(shares.get(name, 0.0) for name in MEMORY) / working if working > 0 else 1.0
    compute = shares.get("compute", 0.0) / working if working > 0 else 0.0
    is_open = question.traffic.is_open and group.replayed is not None
    busy = group.replayed.utilisation if is_open and group.replayed else 1.0
    return device_w(group.config.device, memory=memory, compute=compute, busy=busy)


def _group_w(question: Question, group: ReplicaGroup) -> float:
    return group.devices * (group_device_w(question, group) + host_w(group.config.device))
