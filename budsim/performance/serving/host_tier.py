"""KV cache in host memory: how much of it, how fast it is loaded, and what is found where.

Engines copy what they compute to the host, so that the host holds the tokens computed last. A
prefix that the device no longer holds is loaded over the device's link to its host instead of
computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from budsim.hardware_ops.host_links import host_link_bytes_per_s
from budsim.performance.candidates import Booleans, Candidates, Floats
from budsim.performance.predictions import MemoryUse

# Halvings of an interval of 0 to 1: to a millionth.
HALVINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTier:
    """Host memory of each row's replica; arrays of shape (n,).

    Attributes
    ----------
    tokens : float array
        Tokens it holds, of all attention ranks; 0 where there is none.
    token_s : float array
        Seconds to load one token: each device loads its own part over its own link.
    overlaps : bool array
        Whether engines hide loads behind the prompts of the same step.
    """

    tokens: Floats
    token_s: Floats
    overlaps: Booleans


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundShares:
    """Shares (0..1) of reusable prompt tokens, (n,).

    Those found on the device, those found in host memory only, and those found only in a store
    that replicas share.
    """

    device: Floats
    host: Floats
    store: Floats

    @property
    def all(self) -> Floats:
        """Found anywhere."""
        return self.device + self.host + self.store


def host_tier(table: Candidates, memory: MemoryUse) -> HostTier:
    """Return the host memory each row's replica may use.

    1 GB of host memory for each device and 10 kB of cache for each token on it hold 100,000 tokens.
    """
    tiers = [engine.host_tier for engine in table.engines]
    reached = table.by_engine([tier.reached if tier else 0.0 for tier in tiers])
    link = table.by_device([host_link_bytes_per_s(device) for device in table.devices]) * reached
    per_token = np.maximum(memory.kv_bytes_per_token, 1e-9)
    stated = np.zeros(len(table)) if table.tier_bytes is None else table.tier_bytes
    tokens = np.where(link > 0.0, stated / per_token, 0.0) * table.dp
    # An engine that needs more on the host than on the device is started without.
    larger = table.by_engine([bool(tier and tier.exceeds_device) for tier in tiers]) > 0
    tokens = np.where(larger & (tokens <= memory.kv_capacity_tokens), 0.0, tokens)
    return HostTier(
        tokens=np.asarray(tokens, dtype=np.float64),
        token_s=memory.kv_bytes_per_token / np.maximum(link, 1.0),
        overlaps=table.by_engine([bool(tier and tier.overlaps) for tier in tiers]) > 0,
    )


def found_shares(table: Candidates, memory: MemoryUse) -> FoundShares:
    """Return which share of reusable tokens is still on the device, and which on the host.

    The device has as much room for them as running requests leave. `shared_store.with_store` adds
    what a store holds.
    """
    nothing = np.zeros(len(table))
    if table.prefix_set_tokens is None:
        return FoundShares(device=np.ones(len(table)), host=nothing, store=nothing)
    context = table.input_tokens + table.output_tokens / 2.0
    running = np.minimum(table.concurrency, table.max_num_seqs * table.dp) * context
    room = np.maximum(memory.kv_running_tokens - running, 0.0) / table.dp
    most = np.maximum(room, host_tier(table, memory).tokens / table.dp)
    device, both = held_share(table, room), held_share(table, most)
    return FoundShares(device=device, host=both - device, store=nothing)


def held_share(table: Candidates, room: Floats) -> Floats:
    """Return the share of a set of prefixes that a cache of ``room`` tokens holds, (n,).

    Prefixes of T tokens each, W in all, are used at random, and each request leaves a further N
    tokens that nobody uses again. After k requests W (1 - exp(-x)) + x W N / T tokens were used,
    where x = k T / W. So the share h that is held solves W (h - N / T ln(1 - h)) = room.
    """
    assert table.prefix_set_tokens is not None
    shared = np.maximum(table.input_tokens * table.prefix_hit_share, 1.0)
    alone = np.zeros(len(table)) if table.unshared_tokens is None else table.unshared_tokens
    filled = room / np.maximum(table.prefix_set_tokens, 1.0)
    low, high = np.zeros(len(table)), np.ones(len(table))
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        fits = middle - alone / shared * np.log1p(-middle) <= filled
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.where(table.prefix_set_tokens > 0, low, 1.0)
