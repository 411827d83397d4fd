"""Two pools under requests that come at a rate, by their means."""

from __future__ import annotations

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.serving.pools.pool_times import Pools, PoolTimes, pool_times
from budsim.performance.serving.pools.queues import (
    AWAITED_STEPS,
    PoolService,
    TokenTimes,
    token_times,
)

# Rounds in which the sequences that decode settle.
SETTLING_ROUNDS = 30

# A queue is never said to be longer than at this load: rows beyond it are not carried.
BUSIEST = 0.99


def pools_at_rate(
    pools: Pools, rate: Floats, times: PoolTimes | None = None, token_s: TokenTimes | None = None
) -> PoolService:
    """Return the mean service of each deployment where so many requests come per second, (n,).

    Prefill workers are a queue with several servers: its wait is Sakasegawa's (1977) for arrivals
    without memory and prompts of equal length. By Little's law as many sequences decode as come in
    the time that one takes. Rows that do not carry the rate are answered at their limit.
    """
    known, token_s = times or pool_times(pools), token_s or token_times(pools)
    further = np.maximum(pools.decode.output_tokens - 1.0, 0.0)
    running = np.ones(len(pools))
    for _ in range(SETTLING_ROUNDS):
        tpot = token_s(running / pools.decode_workers)
        running = np.clip(rate * further * tpot, 1.0, known.places)
    tpot = token_s(running / pools.decode_workers)
    workers = pools.prefill_workers
    busy = np.minimum(rate * known.prompt_s / workers, BUSIEST)
    crowd = busy ** (np.sqrt(2.0 * (workers + 1.0)) - 1.0) / (workers * (1.0 - busy))
    waited = 0.5 * known.prompt_s * crowd
    transfer = known.transfer_at(rate)
    awaited = AWAITED_STEPS * tpot * pools.decode.tokens_per_step
    return PoolService(
        ttft_s=waited + known.lone_prompt_s + transfer + awaited,
        tpot_s=tpot,
        queue_s=waited,
        prefill_s=known.lone_prompt_s,
        transfer_s=transfer,
        place_s=awaited,
        running=running,
        prefill_busy=busy,
    )
