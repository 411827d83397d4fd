"""The operators of a step that use links: sums, exchanges with experts, and pipeline hops."""

from __future__ import annotations

import numpy as np

from budsim.performance.candidates import Booleans, Floats
from budsim.performance.physics.batch import ACTIVATION_BYTES, Batch, OperatorTime
from budsim.performance.physics.ranks import Ranks

# All-reduces a layer: after attention and after the feed-forward part (Megatron-LM, 2019).
ALL_REDUCES = 2.0
# Devices of one server: above that, engines exchange tokens between experts instead of summing.
# Of experts on several link domains `_exchanges` tells the time.
NODE_DEVICES = 8

# Bytes of a value sent to an expert and back: 8 and 16 bit (DeepEP README, low-latency kernels).
EXCHANGED_BYTES = 3.0
# Seconds one exchange of tokens over a network takes beside the transfer: what DeepEP's README
# measured on two nodes of H800 (118 us there, 195 us back) less the transfer at 50 GB/s.
EXCHANGE_LATENCY_S = 45e-6


def all_reduces(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return sums over a tensor-parallel group: a rank sends its message 2 (n - 1) / n times.

    A ring scatters n - 1 parts of the message and gathers n - 1 parts. Where all ranks write to all
    at once, each may send its whole message to n - 1 others instead, which takes one meeting of all
    and not two: 4 us and 7 x 128 KiB over 300 GB/s are 7 us, a ring takes 9 (one and two shots of
    vLLM's custom_all_reduce.cuh). Attention ranks on more devices than one node has exchange tokens
    with experts instead.
    """
    tp, constants = ranks.candidates.tp, ranks.constants
    latency = (
        constants.all_reduce_latency_s * np.log2(np.maximum(tp, 2)) ** constants.all_reduce_depth
    )
    message_s = _message(ranks, batch) / (ranks.links.group * constants.link)
    ring = 2.0 * (tp - 1.0) / tp * message_s
    at_once = np.minimum((tp - 1.0) * message_s, latency + ring)
    each = latency + np.where(constants.all_reduce_depth > 0.0, ring, at_once)
    summed = ALL_REDUCES * ranks.layers.all * each
    wide = _is_wide(ranks)
    if wide.any():
        summed = np.where(wide, _expert_exchange(ranks, batch, latency), summed)
    return OperatorTime(
        link_s=np.where(
            ranks.links.is_wide,
            _exchanges(ranks, batch),
            np.where(tp > 1, summed, 0.0),
        )
    )


def _exchanges(ranks: Ranks, batch: Batch) -> Floats:
    """Return the time tokens take to experts on other nodes and back, and attention inside a node.

    Each token is sent to each of its experts, (n - 1) / n of which are on other of n nodes, in FP8,
    and comes back in 16 bit. 128 tokens a device, 8 experts, hidden size 7,168, two nodes, 50 GB/s:
    128 x 8 x 7,168 x 0.5 x 1 B / 50 GB/s = 73 us and 45 us to send; twice as long and 45 us back.
    DeepEP measured 118 and 195 us.
    """
    table = ranks.candidates
    each = ranks.hidden * batch.tokens / table.tp * ranks.experts_per_token
    remote = each * (1.0 - 1.0 / ranks.links.domains)
    moved_s = remote * EXCHANGED_BYTES / ranks.links.network
    rank = np.maximum(table.tp / table.dp, 1.0)
    sent = 2.0 * (rank - 1.0) / rank * _message(ranks, batch) / table.dp
    summed_s = sent / (ranks.links.inside * ranks.constants.link)
    return np.asarray(
        ranks.layers.moe * (2.0 * EXCHANGE_LATENCY_S + moved_s) + ranks.layers.all * summed_s
    )


def _is_wide(ranks: Ranks) -> Booleans:
    """Return where every device is an attention rank, on more of them than one node has."""
    table = ranks.candidates
    every = (table.dp == table.tp) & (table.ep == table.tp)
    return np.asarray(every & (table.tp > NODE_DEVICES), dtype=np.bool_)


def _expert_exchange(ranks: Ranks, batch: Batch, latency: Floats) -> Floats:
    """Return seconds to send each rank's tokens to their experts and the results back.

    Tokens of a rank x experts a token x H x 3 bytes: out in 8 bit, back in 16 (DeepEP).
    """
    own = batch.tokens / ranks.candidates.dp
    sent = EXCHANGED_BYTES * own * ranks.experts_per_token * ranks.hidden
    each = 2.0 * latency + sent / (ranks.links.group * ranks.constants.link)
    return np.asarray(ranks.layers.moe * each, dtype=np.float64)


def pipeline_hops(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return handing hidden states from each pipeline stage to the next."""
    constants = ranks.constants
    sent = _message(ranks, batch) / (ranks.links.hop * constants.link)
    return OperatorTime(link_s=(ranks.candidates.pp - 1.0) * (constants.hop_latency_s + sent))


def _message(ranks: Ranks, batch: Batch) -> Floats:
    """Return the bytes of the hidden states of a step."""
    return np.asarray(ACTIVATION_BYTES * ranks.hidden * batch.tokens, dtype=np.float64)
