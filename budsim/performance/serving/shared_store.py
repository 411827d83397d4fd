"""A store of KV cache that all replicas share: what it holds, and how fast it is read.

What one replica computed is found by all of them, over the network. Engines read whatever they
find; whether that is faster than computing it again decides whether a replica has a store at all,
which the search tries both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from budsim.performance.candidates import Candidates, Floats
from budsim.performance.predictions import MemoryUse
from budsim.performance.serving.host_tier import FoundShares, held_share, host_tier


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTier:
    """The store as one replica of each row sees it; arrays of shape (n,).

    Attributes
    ----------
    tokens : float array
        Tokens it holds of the prefixes this replica meets; 0 where it is not used.
    token_s : float array
        Seconds to read one token: each device reads its own part.
    """

    tokens: Floats
    token_s: Floats


def store_tier(table: Candidates, memory: MemoryUse) -> StoreTier:
    """Return the shared store as one replica of each row sees it.

    A store of 1 TB holds 10 million tokens of 100 kB. Tensor parallelism that repeats heads does
    not repeat them in the store (vLLM docs, MooncakeStoreConnector, and LMCache: MLA is stored
    once).
    """
    nothing = np.zeros(len(table))
    if table.store_bytes is None or table.store_bytes_per_s is None:
        return StoreTier(tokens=nothing, token_s=nothing)
    token_s = memory.kv_bytes_per_token / np.maximum(table.store_bytes_per_s, 1.0)
    used = table.store_bytes > 0.0
    if table.store_through_host is not None:
        used = used & (~table.store_through_host | (host_tier(table, memory).tokens > 0.0))
    tokens = np.where(used, table.store_bytes / _bytes_of_token(table), 0.0)
    return StoreTier(tokens=tokens, token_s=np.where(used, token_s, 0.0))


def with_store(table: Candidates, found: FoundShares, store: StoreTier) -> FoundShares:
    """Return what is found with a store that keeps all that any replica computed last.

    It holds what device and host hold, and more where it is larger than both.
    """
    if not store.tokens.any():
        return found
    most = np.maximum(held_share(table, store.tokens), found.all)
    return replace(found, store=np.where(store.tokens > 0.0, most - found.all, 0.0))


def _bytes_of_token(table: Candidates) -> Floats:
    """Return the bytes of one token's cache, of all layers and heads once, (n,)."""
    bytes_of = [
        [model.kv_bytes_per_token(precision) for precision in table.precisions]
        for model in table.architectures
    ]
    each = np.array(bytes_of, dtype=np.float64)[table.architecture, table.kv_precision]
    return np.asarray(np.maximum(each, 1e-9), dtype=np.float64)
