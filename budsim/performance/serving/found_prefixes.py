"""The prefixes that caches still hold, and what loading them takes, for the closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.physics.operators import step_time
from budsim.performance.physics.ranks import Ranks
from budsim.performance.predictions import MemoryUse
from budsim.performance.serving.host_tier import found_shares, host_tier
from budsim.performance.serving.shared_store import store_tier, with_store


def with_found_prefixes(ranks: Ranks, memory: MemoryUse) -> tuple[Ranks, Floats, Floats]:
    """Return the ranks with the prefixes that caches still hold, and the time loads of them take.

    Times are seconds a request, shape (n,): of all loads, and of those on the busier link, to the
    host or to a shared store. Loads from the host that overlap the step's prompts count only as far
    as they take longer; reads of a store do not overlap.
    """
    table = ranks.candidates
    if table.prefix_set_tokens is None:
        return ranks, np.zeros(len(table)), np.zeros(len(table))
    store, tier = store_tier(table, memory), host_tier(table, memory)
    found = with_store(table, found_shares(table, memory), store)
    reused = table.input_tokens * table.prefix_hit_share
    load_s, read_s = reused * found.host * tier.token_s, reused * found.store * store.token_s
    share = table.prefix_hit_share * found.all
    ranks = replace(ranks, candidates=replace(table, prefix_hit_share=share))
    prompt = np.maximum(table.input_tokens * (1.0 - share), 1.0)
    alone = step_time(
        ranks,
        prefill=np.minimum(prompt, table.token_budget),
        decode=np.zeros_like(prompt),
        prefill_context=table.input_tokens,
        decode_context=table.input_tokens,
    ).total_s
    seen_s = np.where(tier.overlaps, np.maximum(load_s - alone, 0.0), load_s)
    return ranks, seen_s + read_s, np.maximum(seen_s, read_s)
