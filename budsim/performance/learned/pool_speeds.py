"""How much longer prefill workers of measured deployments take than physics says."""

from __future__ import annotations

import numpy as np

from budsim.engine_ops.engine_profile import Batching
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Floats
from budsim.performance.serving.pools.pool_times import Pools

# Terms of the logarithm of the factor, in the order of `speed_terms`.
SPEED_TERMS = ("one tensorrt rocm log_input rocm_log_input ranks prefill_first_fp8").split()

# Factors are clipped to this either way, in the log: what the runs they are fitted through hold.
LARGEST_SPEED = 1.6

HOPPER = "sm90"


def prefill_factors(pools: Pools, weights: Floats) -> Floats:
    """Return the factors on prefill seconds, shape (n,), of weights in the order of the terms."""
    logs = speed_terms(pools) @ weights
    return np.asarray(np.exp(np.clip(logs, -LARGEST_SPEED, LARGEST_SPEED)), dtype=np.float64)


def speed_terms(pools: Pools) -> Floats:
    """Return the terms of each deployment, shape (n, len(`SPEED_TERMS`)).

    What recipes of one engine and kind of device share: chunk sizes, kernels, what a batch of
    prompts costs besides them. ``log_input`` is that of prompts in units of 1024 tokens.
    """
    workers = pools.prefill
    of_engine, of_device = workers.by_engine, workers.by_device
    tensorrt = of_engine([float("trtllm" in each.name) for each in workers.engines])
    first = of_engine([float(each.batching is Batching.PREFILL_FIRST) for each in workers.engines])
    rocm = of_device([float(each.kind is DeviceKind.ROCM) for each in workers.devices])
    hopper = of_device([float(each.generation == HOPPER) for each in workers.devices])
    from budsim.commons.precision import FORMATS

    bits = np.array([FORMATS[each].bits for each in workers.precisions])[workers.weight_precision]
    length = np.log(workers.input_tokens / 1024.0)
    ranks = (workers.dp > 1).astype(np.float64)
    return np.stack(
        [
            np.ones(len(pools)),
            tensorrt,
            rocm,
            length,
            rocm * length,
            ranks,
            first * (1.0 - rocm) * (bits > 6.0) * (1.0 - hopper),
        ],
        axis=1,
    ).astype(np.float64)
