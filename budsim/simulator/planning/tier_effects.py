"""What KV cache in host memory and in a store gains: where prefixes are found, TTFT without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictor import Predictor
from budsim.performance.serving.host_tier import found_shares
from budsim.performance.serving.shared_store import store_tier, with_store
from budsim.simulator.planning.choices import Choices
from budsim.simulator.planning.plans import HostTierEffect
from budsim.simulator.planning.replays import replay_rows
from budsim.simulator.planning.scoring import Scoring


def tier_effects(
    scoring: Scoring, choices: Choices, shares: Floats, predictor: Predictor
) -> Sequence[HostTierEffect | None]:
    """Return the effect of host memory and store on each row, None where no prefix may be dropped.

    ``shares`` (0..1] of the traffic go to each row. Replays are compared, as the rows themselves
    are shown.
    """
    candidates = scoring.candidates(choices)
    if candidates.prefix_set_tokens is None or not candidates.prefix_set_tokens.any():
        return [None] * len(choices.tp)
    without = replace(candidates, tier_bytes=None, store_bytes=None)
    predictions, replayed = replay_rows(scoring.question, predictor, without, choices, shares)
    if scoring.question.traffic.is_open:
        # Caches are as full as running requests make them, not as the most allowed would.
        running = np.nan_to_num(replayed.served.running, nan=np.inf)
        candidates = replace(candidates, concurrency=np.clip(running, 1.0, choices.concurrency))
    memory = memory_use(prepare(candidates))
    store = store_tier(candidates, memory)
    found = with_store(candidates, found_shares(candidates, memory), store)
    tiers = candidates.tier_bytes
    stated = np.zeros(len(choices.tp)) if tiers is None else tiers
    devices = choices.tp * choices.pp
    return [
        HostTierEffect(
            host_bytes=float(stated[row] * devices[row]),
            device_share=float(found.device[row]),
            host_share=float(found.host[row]),
            ttft_without_s=float(predictions.service.ttft_s[row]),
            store_bytes=_capacity(scoring, choices, row) if store.tokens[row] else 0.0,
            store_share=float(found.store[row]),
        )
        for row in range(len(choices.tp))
    ]


def _capacity(scoring: Scoring, choices: Choices, row: int) -> float:
    """Return the bytes of the store that a row reads, all of it."""
    link = scoring.options[int(choices.option[row])].store
    return link.store.capacity_bytes if link else 0.0
