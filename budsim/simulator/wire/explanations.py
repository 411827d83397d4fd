"""Why a node group is as good as it is, as callers read it."""

from __future__ import annotations

import math

from pydantic import BaseModel, Field

from budsim.commons.units import KILO
from budsim.simulator.planning import plans
from budsim.simulator.wire.fields import gigabytes

# Names of bounded figures on the wire.
TARGET_NAMES = {
    "ttft_s": "ttft",
    "e2e_s": "e2e_latency",
    "tokens_per_s_per_user": "throughput_per_user",
    "good_share": "goodput",
}


class NextReplica(BaseModel):
    """A node group with one more replica and the same requests; units as in the node group."""

    devices: int
    is_free: bool
    ttft: float
    throughput_per_user: float
    e2e_latency: float
    cost_per_million_tokens: float


class HostTier(BaseModel):
    """Where shared prefixes are found, and what KV cache in host memory and in a store gains.

    Of the shared prefix tokens ``device_share`` are found on the device, ``host_share`` only in
    host memory, ``store_share`` only in the store of all replicas, and the rest is computed again.
    """

    host_memory_gb: float = Field(description="host memory of one replica's KV cache; 0: none")
    device_share: float = Field(description="found on the device, 0 to 1")
    host_share: float = Field(description="found only in host memory, 0 to 1")
    ttft_without: float | None = Field(
        description="TTFT without host memory and store, ms; null where the traffic is then not "
        "carried"
    )
    store_gb: float = Field(0.0, description="capacity of the store of all replicas; 0: none")
    store_share: float = Field(0.0, description="found only in that store, 0 to 1")


class Explanation(BaseModel):
    """What the speed of a node group depends on.

    ``time_shares`` of a request sum to 1. ``headroom`` is the share by which a figure may get worse
    before its target is missed, negative when it is missed; ``binding_target`` has the least.
    """

    time_shares: dict[str, float]
    headroom: dict[str, float]
    binding_target: str | None
    next_replica: NextReplica | None
    encoder_ms: float | None = Field(
        None, description="time of encoders for the images, video and audio of one request, ms"
    )
    host_tier: HostTier | None = Field(
        None, description="null where prefixes are always found on the device"
    )


def explanation_of(found: plans.Explanation) -> Explanation:
    """Return an explanation in the wire's units."""
    return Explanation(
        time_shares={cause: round(share, 4) for cause, share in found.time_shares.items()},
        headroom={_target_name(name): room for name, room in found.headroom.items()},
        binding_target=_target_name(found.binding) if found.binding else None,
        next_replica=_next_replica(found.next_replica) if found.next_replica else None,
        encoder_ms=found.encoder_s * KILO or None,
        host_tier=_host_tier(found.host_tier) if found.host_tier else None,
    )


def _target_name(figure: str) -> str:
    """Return the wire's name of a bounded figure: ``e2e_p99_s`` is ``e2e_latency_p99``."""
    if figure in TARGET_NAMES:
        return TARGET_NAMES[figure]
    latency, _, percent = figure.removesuffix("_s").partition("_")
    return f"{TARGET_NAMES.get(f'{latency}_s', latency)}_{percent}"


def _next_replica(following: plans.NextReplica) -> NextReplica:
    return NextReplica(
        devices=following.devices,
        is_free=following.is_free,
        ttft=following.ttft_s * KILO,
        throughput_per_user=following.tokens_per_s_per_user,
        e2e_latency=following.e2e_s,
        cost_per_million_tokens=following.cost_per_million_tokens_usd,
    )


def _host_tier(found: plans.HostTierEffect) -> HostTier:
    without = found.ttft_without_s
    return HostTier(
        host_memory_gb=gigabytes(found.host_bytes),
        device_share=round(found.device_share, 4),
        host_share=round(found.host_share, 4),
        ttft_without=None if math.isnan(without) else without * KILO,
        store_gb=gigabytes(found.store_bytes),
        store_share=round(found.store_share, 4),
    )
