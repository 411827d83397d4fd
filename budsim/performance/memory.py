"""What fits: weights, activations and cache of the fullest rank within what the engine may take."""

from __future__ import annotations

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Floats
from budsim.performance.predictions import MemoryUse
from budsim.performance.roofline import ACTIVATION_BYTES, Ranks

LOGIT_BYTES = 4.0


def memory_use(ranks: Ranks) -> MemoryUse:
    """Return the memory of the fullest device rank of each candidate.

    The engine may take ``memory_fraction`` of the device (vLLM's ``gpu-memory-utilization``, SGLang's
    ``mem-fraction-static``) and no more than is free. Out of that come weights, the activation peak of one step of
    ``token_budget`` tokens, and the engine's own reserve (CUDA context and graphs, communication buffers); the KV cache gets
    the rest. Recurrent state of linear-attention layers is charged to the sequences that hold it.
    """
    table = ranks.candidates
    total = table.by_device([device.memory_bytes for device in table.devices])
    budget = np.minimum(total * table.memory_fraction, table.memory_free_bytes)
    weights = ranks.weight_bytes / table.pp
    reserved = table.by_engine([engine.reserved_bytes for engine in table.engines]) * _has_context(ranks)
    activations = activation_bytes(ranks)
    kv = np.maximum(budget - weights - activations - reserved, 0.0)
    per_token = cache_bytes_per_token(ranks) / table.pp
    return MemoryUse(
        budget_bytes=budget,
        weight_bytes=weights,
        activation_bytes=activations,
        reserved_bytes=reserved,
        kv_bytes=kv,
        kv_bytes_per_token=per_token,
        kv_capacity_tokens=np.floor(kv / np.maximum(per_token, 1.0)) * table.dp,
    )


def cache_bytes_per_token(ranks: Ranks) -> Floats:
    """Return cache bytes one rank holds per token of a finished sequence, windows and recurrent state averaged over it."""
    length = ranks.candidates.input_tokens + ranks.candidates.output_tokens
    held = np.minimum(length[:, None], ranks.window) / length[:, None]
    indexed = np.where(ranks.model.attention.latent[ranks.candidates.architecture], 1.0, held)
    return np.asarray((ranks.cached_bytes_per_token * indexed).sum(axis=1) + ranks.state_bytes / 2.0 / length)


def activation_bytes(ranks: Ranks) -> Floats:
    """Return the activation peak engines reserve at start: a full step's residual, input and widest layer, and the logits."""
    table, matrices = ranks.candidates, ranks.model.matrices
    inner = np.where(matrices.sampled, 0.0, matrices.outputs * matrices.multiplied * matrices.active_copies)[table.architecture]
    widest = (inner * ranks.matrix_tokens_share / np.where(inner > 0, table.tp[:, None], 1)).max(axis=1)
    logits = table.max_sequences * ranks.model.vocabulary[table.architecture]
    return np.asarray(table.token_budget * ACTIVATION_BYTES * (2.0 * ranks.hidden + 1.5 * widest) + 2.0 * LOGIT_BYTES * logits)


def _has_context(ranks: Ranks) -> Floats:
    """CPU engines keep no device context or graphs."""
    return ranks.candidates.by_device([float(d.kind is not DeviceKind.CPU) for d in ranks.candidates.devices])
