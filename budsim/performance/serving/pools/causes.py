"""Where the time of a request goes that is read by one worker and answered by another."""

from __future__ import annotations

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.physics.operators import StepTime
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import BOUNDS
from budsim.performance.serving.pools.pool_times import (
    HANDSHAKE_S,
    Pools,
    decode_ranks,
    decode_step,
    prefill_step,
)
from budsim.performance.serving.pools.queues import PoolService

# Fields of a step in the order of `BOUNDS`, which ends with the queue.
_CAUSES = ("weights_s", "cache_s", "compute_s", "link_s", "overhead_s")


def pool_causes(pools: Pools, served: PoolService) -> Floats:
    """Return seconds of a request by cause, shape (len(`BOUNDS`), n).

    Prefill and decoding as their steps are divided; the transfer is the link's, the handshake the
    engine's.
    """
    prompt = pools.prefill.input_tokens * (1.0 - pools.prefill.prefix_hit_share)
    prefill = _shares(prefill_step(prepare(pools.prefill), np.maximum(prompt, 1.0)))
    each = served.running / pools.decode_workers
    decode = _shares(decode_step(decode_ranks(pools.decode), each))
    further = np.maximum(pools.decode.output_tokens - 1.0, 0.0)
    spent = prefill * served.prefill_s + decode * further * served.tpot_s
    spent[BOUNDS.index("link")] += np.maximum(served.transfer_s - HANDSHAKE_S, 0.0)
    spent[BOUNDS.index("engine overhead")] += HANDSHAKE_S
    waiting = served.queue_s + served.place_s
    return np.concatenate([spent, waiting[None, :]])


def _shares(step: StepTime) -> Floats:
    """Return the shares of a step by cause, without the queue."""
    return np.stack([getattr(step, name) for name in _CAUSES]) / step.total_s
