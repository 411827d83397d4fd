"""The time of one engine step, operator by operator.

A step processes ``prefill`` prompt tokens and one token of each of ``decode`` sequences; K + 1 of
each where K guesses are verified, after K passes of what guesses. T is their sum, L the number of
layers, H the hidden size, w the bytes of a value; sizes are one rank's.

=================  ==========================  ==========================  ==========  ============
operator           FLOPs                       bytes in memory             launches    collective
=================  ==========================  ==========================  ==========  ============
matrices           2 x values x rows           values x w, experts once    1 a matrix
                                               each they are visited
routed experts                                 T x experts a token x H     1 a layer
                                               x `expert_traffic`
attention, decode  2 x heads x dims x cached   cached tokens x bytes,      in a layer
                   tokens                      state, index keys
attention, prompt  2 x heads x dims x tokens                               in a layer
                   looked back at
linear, prompt     2 x passes x values of                                  in a layer
                   the state
activations                                    `ACTIVATION_PASSES` x H x   in a layer
                                               T x L x 2
all-reduces                                                                            2 a layer of
                                                                                       H x T x 2
pipeline hops                                                                          H x T x 2 a
                                                                                       stage
layers, cores                                                              `*_latency_s` a layer
host                                                                       a step, a sequence
=================  ==========================  ==========================  ==========  ============
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.physics.batch import ACTIVATION_BYTES, Batch, OperatorTime
from budsim.performance.physics.collectives import all_reduces, pipeline_hops
from budsim.performance.physics.ranks import Drafts, Ranks

# How often a layer reads or writes a vector of the hidden size: both norms with their residuals,
# rotary, and the product of the feed-forward part. Our estimate of a Llama layer, not fitted.
ACTIVATION_PASSES = 14.0

# From so many sequences on llama.cpp multiplies them in tiles, head by head (sgemm.cpp: from two on
# x86, from eight on Arm).
TILED_SEQUENCES = 8.0

# Tiles one head has, so that about so many cores find work; read off llama.cpp's rows.
TILES_OF_HEAD = 8.0

# Least share of a peak: keeps products without rows from dividing by 0.
LEAST_REACHED = 1e-9
# Seconds or rows that keep 0 / 0 at 0.
TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of one step by cause; each of shape (n,). No step is shorter than ``ceiling_s``.

    ``ceiling_s`` is the bare roofline: its arithmetic, or its traffic, at the data sheet's rates.
    """

    weights_s: Floats
    compute_s: Floats
    cache_s: Floats
    link_s: Floats
    overhead_s: Floats
    ceiling_s: Floats

    @property
    def total_s(self) -> Floats:
        """The whole step."""
        return self.weights_s + self.compute_s + self.cache_s + self.link_s + self.overhead_s


# Fields of `StepTime` that add up to a step.
CAUSES = ("weights_s", "compute_s", "cache_s", "link_s", "overhead_s")


def step_time(
    ranks: Ranks,
    *,
    prefill: Floats,
    decode: Floats,
    prefill_context: Floats,
    decode_context: Floats,
    decode_attended: Floats | None = None,
) -> StepTime:
    """Return the time of one step.

    Parameters
    ----------
    ranks : Ranks
        Prepared candidates.
    prefill, decode : float arrays, shape (n,)
        Prompt tokens and running sequences in the step, of the whole replica.
    prefill_context, decode_context : float arrays, shape (n,)
        Mean number of tokens a prompt token and a running sequence look back at.
    decode_attended : float array, shape (n,), optional
        Mean number of cached tokens a running sequence multiplies, masked ones too; by default
        those it looks back at.
    """
    batch = Batch(
        prefill=prefill,
        decode=decode,
        prefill_context=prefill_context,
        decode_context=decode_context,
        decode_attended=decode_context if decode_attended is None else decode_attended,
    )
    if ranks.drafts is None:
        return _batch_time(ranks, batch)
    return _with_drafts(ranks.drafts, ranks, batch)


def _batch_time(ranks: Ranks, batch: Batch) -> StepTime:
    step = _summed(operator_times(ranks, batch), len(ranks.candidates))
    overlap = ranks.constants.overlap_exponent
    if (overlap > 1.0).any():
        step = _overlapped(ranks, batch, step)
    return _launched(ranks, step) if ranks.step_floor_s.any() else step


def _launched(ranks: Ranks, step: StepTime) -> StepTime:
    """Return a step that is no shorter than the host's launches of its layers."""
    missing = np.maximum(ranks.step_floor_s - step.total_s, 0.0)
    return replace(step, overhead_s=step.overhead_s + missing)


def _with_drafts(drafts: Drafts, ranks: Ranks, batch: Batch) -> StepTime:
    """Return a step that verifies guesses, and the passes of the drafter before it.

    The first pass also reads the step's prompts, because the drafter caches them too. Guesses of
    one sequence follow each other: each is a pass of its own.
    """
    verify = _batch_time(ranks, replace(batch, verified=drafts.verified))
    runs = drafts.passes > 0
    first = _batch_time(drafts.ranks, batch)
    later = _batch_time(drafts.ranks, replace(batch, prefill=np.zeros_like(batch.prefill)))
    times = np.where(runs, 1.0, 0.0), np.maximum(drafts.passes - 1.0, 0.0)
    parts = {
        part.name: getattr(verify, part.name)
        + times[0] * getattr(first, part.name)
        + times[1] * getattr(later, part.name)
        for part in fields(StepTime)
    }
    return StepTime(**parts)


def with_prompts(ranks: Ranks, decode: StepTime, mixed: StepTime) -> StepTime:
    """Return a step with prompts as an engine takes it, from its kernels' times alone.

    What the prompts add to ``decode`` (the same step without them; zeros where none decodes) grows
    by ``prompt_factor``, and the step is no shorter than the host's launches of its layers.
    """
    factor = ranks.constants.prompt_factor
    parts = {
        name: getattr(decode, name) + factor * (getattr(mixed, name) - getattr(decode, name))
        for name in CAUSES
    }
    total = np.asarray(sum(parts.values()), dtype=np.float64)
    parts["overhead_s"] = parts["overhead_s"] + np.maximum(ranks.prompt_step_floor_s - total, 0.0)
    return StepTime(**parts, ceiling_s=mixed.ceiling_s)


def operator_times(ranks: Ranks, batch: Batch) -> dict[str, OperatorTime]:
    """Return the time of each operator of `OPERATORS` in a step, before any of them overlap."""
    return {name: operator(ranks, batch) for name, operator in OPERATORS.items()}


def _summed(times: Mapping[str, OperatorTime], rows: int) -> StepTime:
    def total(name: str) -> Floats:
        """Return the sum of one part over all operators, in seconds, shape (rows,)."""
        return np.asarray(sum((getattr(each, name) for each in times.values()), np.zeros(rows)))

    parts = {name: total(name) for name in CAUSES}
    ceiling = np.maximum(total("ideal_compute_s"), total("ideal_traffic_s"))
    return StepTime(**parts, ceiling_s=ceiling)


def _overlapped(ranks: Ranks, batch: Batch, step: StepTime) -> StepTime:
    """Return a step in which traffic and all else hide each other; parts keep their shares."""
    constants = ranks.constants
    traffic = step.weights_s + _cache_traffic(ranks, batch) / constants.cache_bandwidth
    rest = np.maximum(step.total_s - traffic, 0.0)
    together = p_norm(traffic, rest, constants.overlap_exponent)
    share = np.where(
        constants.overlap_exponent > 1.0, together / np.maximum(traffic + rest, TINY), 1.0
    )
    parts = {name: getattr(step, name) * share for name in CAUSES}
    return StepTime(**parts, ceiling_s=step.ceiling_s)


def p_norm(a: Floats, b: Floats, exponent: Floats) -> Floats:
    """Return (a**p + b**p)**(1/p): the longer of two times, and more where they are close."""
    longer, shorter = np.maximum(a, b), np.minimum(a, b)
    ratio = np.divide(shorter, longer, out=np.zeros_like(longer), where=longer > 0)
    return np.asarray(longer * (1.0 + ratio**exponent) ** (1.0 / exponent), dtype=np.float64)


def matrices(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return products with weights: arithmetic and traffic of each matrix by their p-norm.

    Before that come, one after the other, weights that an engine first writes out in 16 bit.
    The time counts as weights by the share of traffic in it, as compute by that of arithmetic.
    """
    held, constants = ranks.matrices, ranks.constants
    touched = touched_experts(ranks.experts, ranks.experts_per_token, batch.tokens)
    rows = _rows(ranks, batch)
    compute = held.flops_per_token * rows / held.peak_flops_per_s
    read_share = (touched / np.maximum(ranks.experts, 1.0))[:, None]
    traffic = held.read_bytes * np.where(held.is_expert, read_share, 1.0) / ranks.bandwidth[:, None]

    per_expert = (batch.tokens * ranks.experts_per_token / np.maximum(touched, 1.0))[:, None]
    tile_rows = np.where(held.is_expert, per_expert, rows)
    half = _by_expert(ranks, constants.expert_half_rows, constants.half_rows)
    reached = held.reached * tile_rows / np.maximum(tile_rows + half, TINY)
    busy_compute = compute / np.maximum(reached, LEAST_REACHED)
    busy_traffic = traffic / held.read_share

    both = p_norm(busy_compute, busy_traffic, constants.roofline_exponent[:, None])
    by_traffic = both * busy_traffic / np.maximum(busy_compute + busy_traffic, TINY)
    written_s = held.written_out_bytes / ranks.bandwidth[:, None] / held.read_share
    return OperatorTime(
        weights_s=(by_traffic + written_s).sum(axis=1),
        compute_s=(both - by_traffic).sum(axis=1),
        ideal_compute_s=compute.sum(axis=1),
        ideal_traffic_s=traffic.sum(axis=1),
    )


def _rows(ranks: Ranks, batch: Batch) -> Floats:
    """Return the rows each matrix is multiplied with, (n, matrices).

    The head meets one row for each running sequence, and one where a step holds a prompt.
    """
    sampled = (batch.decoded + np.minimum(batch.prefill, 1.0))[:, None]
    rows = np.where(ranks.matrices.is_sampled, sampled, batch.tokens[:, None])
    return np.asarray(rows * ranks.matrices.token_share, dtype=np.float64)


def _by_expert(ranks: Ranks, expert: Floats, dense: Floats) -> Floats:
    """Spread two constants over the matrices: of experts and of all others, (n, matrices)."""
    return np.where(ranks.matrices.is_expert, expert[:, None], dense[:, None])


def touched_experts(experts: Floats, per_token: Floats, tokens: Floats) -> Floats:
    """Return how many distinct experts ``tokens`` independent draws of ``per_token`` reach.

    E x (1 - (1 - k / E)**T): of 8 experts, 2 a token, one token reaches 2 and two reach 3.5.
    """
    share = np.divide(per_token, experts, out=np.ones_like(experts), where=experts > 0)
    missed = tokens * np.log1p(-np.minimum(share, 1 - 1e-9))
    return np.asarray(experts * -np.expm1(missed), dtype=np.float64)


def routed_experts(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return the memory traffic of sending tokens to their experts and summing the results."""
    routed = batch.tokens * ranks.experts_per_token * ranks.layers.moe / ranks.candidates.ep
    moved = routed * ranks.hidden * ranks.constants.expert_traffic
    return OperatorTime(compute_s=moved / ranks.bandwidth)


def decode_attention(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return attention of running sequences: cache traffic and arithmetic by their p-norm.

    All tokens of a sequence that are verified share one pass over its cache.
    """
    attention, constants = ranks.attention, ranks.constants
    sequences = batch.decode / ranks.candidates.dp
    attended = np.minimum(batch.decode_attended[:, None], attention.window)
    flops = sequences * batch.verified * (attention.decode_flops * attended).sum(axis=1)
    compute, traffic = flops / attention.peak_flops_per_s, _cache_traffic(ranks, batch)
    busy = p_norm(
        traffic / constants.cache_bandwidth,
        compute / constants.decode_attention,
        constants.roofline_exponent,
    )
    return OperatorTime(cache_s=busy, ideal_compute_s=compute, ideal_traffic_s=traffic)


def _cache_traffic(ranks: Ranks, batch: Batch) -> Floats:
    """Return seconds of reading cache, state and index keys at the data sheet's bandwidth."""
    attention = ranks.attention
    seen = np.minimum(batch.decode_context[:, None], attention.window)
    cached = (attention.cached_bytes_per_token * attention.reads * seen).sum(axis=1)
    searched = attention.index_bytes * batch.decode_context
    each = cached + attention.state_bytes + searched
    sequences = batch.decode / ranks.candidates.dp
    return np.asarray(sequences * each / ranks.bandwidth, dtype=np.float64)


def prefill_attention(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return attention of prompts: arithmetic only, kernels reuse keys on the chip.

    It reaches s x c / (c + h) of the peak where a token looks back at c others and h is
    ``prefill_half_context``: as long as if it looked back at h more with the share s. What steps
    with prompts take longer by (``prompt_factor``) lies between products, not in these kernels.
    """
    attention, constants = ranks.attention, ranks.constants
    seen = np.minimum(batch.prefill_context[:, None], attention.window)
    tokens = batch.prefill / ranks.candidates.dp / attention.peak_flops_per_s
    each = attention.prefill_flops.sum(axis=1)
    attended = tokens * (attention.prefill_flops * seen).sum(axis=1)
    indexed = tokens * attention.index_flops * batch.prefill_context
    chosen = np.where(ranks.layers.indexed > 0, constants.sparse_prefill, 1.0)
    busy = (attended + tokens * each * constants.prefill_half_context) / chosen + indexed
    reached = constants.prefill_attention * constants.prompt_factor
    return OperatorTime(compute_s=busy / reached, ideal_compute_s=attended + indexed)


def linear_prompts(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return prompts in layers of linear attention: arithmetic only, tokens follow each other."""
    flops = batch.prefill / ranks.candidates.dp * ranks.attention.scan_flops
    compute = flops / ranks.attention.peak_flops_per_s
    return OperatorTime(compute_s=compute / ranks.constants.linear_prefill, ideal_compute_s=compute)


def activations(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return the memory traffic of norms, residuals and all else between products."""
    values = ranks.hidden * ranks.layers.all * batch.tokens / ranks.candidates.dp
    moved = ACTIVATION_PASSES * ACTIVATION_BYTES * values
    return OperatorTime(compute_s=moved / (ranks.bandwidth * ranks.constants.bandwidth))


def layer_overhead(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return launches, and time each layer takes beside its arithmetic and traffic."""
    constants, layers = ranks.constants, ranks.layers
    # Captured graphs fit decode steps only: with prompts each kernel is launched by the host, and
    # in eager mode always.
    uncaptured = np.where(ranks.eager, 1.0, np.minimum(batch.prefill, 1.0))
    launched = uncaptured * constants.prefill_latency_s
    return OperatorTime(
        overhead_s=layers.all * (constants.layer_latency_s + launched)
        + layers.moe * constants.moe_latency_s
        + layers.indexed * constants.index_latency_s
        + layers.linear * constants.state_latency_s
        + ranks.launches_s
    )


def core_overhead(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return time that cores of a processor cannot share; 0 on accelerators."""
    constants = ranks.constants
    each = (
        constants.core_latency_s * ranks.cores
        + constants.prompt_latency_s * batch.prefill
        + constants.sequence_latency_s * batch.decode
    )
    return OperatorTime(overhead_s=ranks.layers.all * each + _heads_in_turn(ranks, batch))


def _heads_in_turn(ranks: Ranks, batch: Batch) -> Floats:
    """Return seconds of sequences' attention that cores cannot share.

    llama.cpp multiplies several sequences head by head in tiles, of which a head has few.
    """
    together = np.clip((batch.decode - 1.0) / (TILED_SEQUENCES - 1.0), 0.0, 1.0)
    idle = 1.0 - np.minimum(TILES_OF_HEAD / np.maximum(ranks.cores, 1.0), 1.0)
    attended = np.minimum(batch.decode_attended[:, None], ranks.attention.window)
    tokens = (ranks.attention.head_layers * attended).sum(axis=1)
    return np.asarray(ranks.constants.head_latency_s * tokens * together * idle, dtype=np.float64)


def host_overhead(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return host time for a step and for each running sequence of a rank.

    Verifying guesses adds to both. A step without sequences guesses nothing.
    """
    table = ranks.candidates
    step = table.by_engine([engine.step_overhead_s for engine in table.engines])
    sequence = table.by_engine([engine.sequence_overhead_s for engine in table.engines])
    if ranks.drafts is not None:
        guessing = (ranks.drafts.verified > 1.0) & (batch.decode > 0)
        step = step + guessing * table.by_engine([each.guess_step_s for each in table.engines])
        more = table.by_engine([each.guess_sequence_s for each in table.engines])
        sequence = sequence + guessing * more
    return OperatorTime(overhead_s=step + batch.decode / table.dp * sequence)


def encoders(ranks: Ranks, batch: Batch) -> OperatorTime:
    """Return the towers' time for the images, video and audio of the step's prompt tokens.

    Items of all its prompts share one launch, that of the first. Of 10 ms a prompt alone and 4 ms
    among others, two take 10 ms and five 20 ms.
    """
    first = np.minimum(batch.prefill, ranks.candidates.input_tokens) * ranks.encoder_s_per_token
    return OperatorTime(
        compute_s=np.maximum(first, batch.prefill * ranks.batched_encoder_s_per_token)
    )


# Every operator of a step.
OPERATORS: Mapping[str, Callable[[Ranks, Batch], OperatorTime]] = {
    "matrices": matrices,
    "routed experts": routed_experts,
    "decode attention": decode_attention,
    "prefill attention": prefill_attention,
    "linear prompts": linear_prompts,
    "encoders": encoders,
    "activations": activations,
    "all-reduces": all_reduces,
    "pipeline hops": pipeline_hops,
    "layers": layer_overhead,
    "cores": core_overhead,
    "host": host_overhead,
}
