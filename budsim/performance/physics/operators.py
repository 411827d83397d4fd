"""The time of one engine step, operator by operator: no step is faster than the arithmetic or the memory allows.

A step processes ``prefill`` prompt tokens and one token for each of ``decode`` running sequences. Every matrix takes the
longer of its arithmetic and its traffic, blended by a p-norm because kernels near the ridge reach neither ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from budsim.commons.precision import FORMATS, Precision
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.physics.architecture_arrays import (
    ModelShapes,
    cached_bytes,
    peak_formats,
    shapes,
    stored_bytes,
)
from budsim.performance.physics.efficiency import (
    TUNING,
    Efficiency,
    Tuning,
    attention_peak,
    efficiency,
    matrix_peak,
)

ACTIVATION_BYTES = 2.0
NARROW_BITS = 12.0
STATE_BYTES = 8.0
"""A linear layer reads and writes its state, kept in fp32, at every token."""
TILED_SEQUENCES, TILES_OF_HEAD = 8.0, 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """What one device of each candidate holds and can do; columns of shape (n,) or (n, matrices) or (n, attention layers).

    Everything that does not depend on the step is worked out once here.
    """

    candidates: Candidates
    model: ModelShapes
    column_bytes: Floats
    weight_bytes: Floats
    matrix_flops_per_token: Floats
    matrix_bytes: Floats
    matrix_peak: Floats
    matrix_gemm: Floats
    launches_s: Floats
    matrix_tokens_share: Floats
    experts: Floats
    experts_per_token: Floats
    is_expert: Floats
    is_sampled: Floats
    cached_bytes_per_token: Floats
    cache_reads: Floats
    window: Floats
    state_bytes: Floats
    attention_heads: Floats
    decode_attention_flops: Floats
    prefill_attention_flops: Floats
    index_flops: Floats
    index_bytes: Floats
    index_layers: Floats
    state_layers: Floats
    attention_peak: Floats
    bandwidth: Floats
    link_bandwidth: Floats
    hop_bandwidth: Floats
    hidden: Floats
    layers: Floats
    moe_layers: Floats
    cores: Floats
    coefficients: Efficiency


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of one step by cause; each of shape (n,). ``ceiling_s`` is the bare roofline, which no step beats."""

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


def prepare(candidates: Candidates, tuning: Tuning = TUNING) -> Ranks:
    """Work out per-rank sizes and speeds of every candidate, at the attainable shares in ``tuning``."""
    model = shapes(candidates.architectures)
    coefficients = efficiency(candidates, tuning)
    row = candidates.architecture
    matrices, attention = model.matrices, model.attention
    tp = candidates.tp.astype(np.float64)
    attention_tp = np.maximum(tp / candidates.dp, 1.0)
    compute_share, bandwidth = _speeds(candidates, coefficients)
    local = _local_share(candidates, model, attention_tp)
    formats = peak_formats(candidates.architectures, candidates.precisions)[
        row, candidates.weight_precision
    ]
    widths = _widths(candidates, formats.astype(np.int64))
    matrix_peaks, attention_peaks = _peaks(candidates, tuning)
    peaks = matrix_peaks[
        candidates.engine[:, None], candidates.device[:, None], formats.astype(np.int64)
    ]
    width = stored_bytes(candidates.architectures, candidates.precisions)[
        row, candidates.weight_precision
    ]
    held = (matrices.layers * matrices.inputs * matrices.outputs)[row] * local
    stored = held * matrices.copies[row] * width
    values = held * matrices.multiplied[row]
    cached = cached_bytes(candidates.architectures, candidates.precisions)[
        row, candidates.kv_precision
    ]
    heads = attention.heads[row] / attention_tp[:, None]
    cache_share = np.where(
        attention.latent[row],
        1.0,
        np.maximum(1.0 / attention_tp[:, None], 1.0 / attention.kv_heads[row]),
    )
    groups = np.maximum(heads / np.maximum(attention.kv_heads[row] * cache_share, 1e-9), 1.0)
    repeats = 1.0 + coefficients.reread[:, None] * (groups - 1.0)
    scores = 2.0 * coefficients.score_dims[:, None]
    tp_link, hop = _links(candidates)
    return Ranks(
        candidates=candidates,
        model=model,
        column_bytes=stored,
        weight_bytes=stored.sum(axis=1) + model.extra_bytes[row],
        matrix_flops_per_token=2.0 * values * matrices.active_copies[row],
        matrix_bytes=values * matrices.copies[row].clip(1.0) * width,
        matrix_peak=peaks * compute_share[:, None],
        matrix_gemm=_attainable(coefficients, matrices.expert[row], widths),
        launches_s=_launches(candidates, model, coefficients, widths),
        matrix_tokens_share=np.where(matrices.attention[row], 1.0 / candidates.dp[:, None], 1.0),
        experts=model.experts[row],
        experts_per_token=model.experts_per_token[row],
        is_expert=matrices.expert[row].astype(np.float64),
        is_sampled=matrices.sampled[row].astype(np.float64),
        cached_bytes_per_token=attention.layers[row] * cached * cache_share,
        cache_reads=repeats,
        window=attention.window[row],
        state_bytes=(attention.layers * attention.state)[row].sum(axis=1)
        * STATE_BYTES
        / attention_tp,
        attention_heads=attention.layers[row] * heads,
        decode_attention_flops=2.0
        * attention.layers[row]
        * heads
        * (attention.decode_dims[row] + scores),
        prefill_attention_flops=2.0
        * attention.layers[row]
        * heads
        * (attention.prefill_dims[row] + scores),
        index_flops=(2.0 * attention.layers * attention.index_dims).sum(axis=1)[row],
        index_bytes=(attention.layers * attention.index_width).sum(axis=1)[row],
        state_layers=(attention.layers * (attention.state > 0)).sum(axis=1)[row],
        index_layers=(attention.layers * (attention.index_width > 0)).sum(axis=1)[row],
        attention_peak=attention_peaks[candidates.engine, candidates.device] * compute_share,
        bandwidth=bandwidth,
        link_bandwidth=tp_link,
        hop_bandwidth=hop,
        hidden=model.hidden[row],
        layers=model.layers[row],
        moe_layers=model.moe_layers[row],
        cores=_cores(candidates),
        coefficients=coefficients,
    )


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
        Mean number of cached tokens a running sequence multiplies, masked ones too; by default those it looks back at.
    """
    eff = ranks.coefficients
    tokens = prefill + decode
    ideal_compute, ideal_traffic, busy_compute, busy_traffic = _matrix_times(
        ranks, tokens, decode, prefill
    )
    matrix = _blend(busy_compute, busy_traffic, eff.blend[:, None])
    by_traffic = matrix * busy_traffic / np.maximum(busy_compute + busy_traffic, 1e-30)
    attended = decode_context if decode_attended is None else decode_attended
    cache, cache_compute, prefill_compute = _attention_times(
        ranks, prefill, decode, prefill_context, decode_context, attended
    )
    activations = (
        14.0 * ACTIVATION_BYTES * ranks.hidden * ranks.layers * tokens / ranks.candidates.dp
    )
    attention = _blend(cache / eff.cache_bandwidth, cache_compute / eff.decode_attention, eff.blend)
    step = StepTime(
        weights_s=by_traffic.sum(axis=1),
        compute_s=(matrix - by_traffic).sum(axis=1)
        + prefill_compute / eff.prefill_attention
        + activations / (ranks.bandwidth * eff.bandwidth)
        + _routed_time(ranks, tokens),
        cache_s=attention,
        link_s=_link_time(ranks, tokens),
        overhead_s=_overhead(ranks, prefill, decode, attended),
        ceiling_s=np.maximum(
            ideal_compute.sum(axis=1) + cache_compute + prefill_compute,
            ideal_traffic.sum(axis=1) + cache,
        ),
    )
    return (
        _overlapped(step, cache / eff.cache_bandwidth, eff.overlap)
        if (eff.overlap > 1.0).any()
        else step
    )


def _overlapped(step: StepTime, cache_traffic_s: Floats, overlap: Floats) -> StepTime:
    """Return a step in which traffic and everything else hide each other by their p-norm; parts keep their shares."""
    traffic = step.weights_s + cache_traffic_s
    rest = np.maximum(step.total_s - traffic, 0.0)
    share = np.where(
        overlap > 1.0, _blend(traffic, rest, overlap) / np.maximum(traffic + rest, 1e-30), 1.0
    )
    return StepTime(
        weights_s=step.weights_s * share,
        compute_s=step.compute_s * share,
        cache_s=step.cache_s * share,
        link_s=step.link_s * share,
        overhead_s=step.overhead_s * share,
        ceiling_s=step.ceiling_s,
    )


def _matrix_times(
    ranks: Ranks, tokens: Floats, decode: Floats, prefill: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return ideal and attainable seconds of arithmetic and of traffic per matrix column, each of shape (n, columns)."""
    eff = ranks.coefficients
    sampled = decode + np.minimum(prefill, 1.0)
    rows = (
        np.where(ranks.is_sampled > 0, sampled[:, None], tokens[:, None])
        * ranks.matrix_tokens_share
    )
    touched = touched_experts(ranks.experts, ranks.experts_per_token, tokens)
    read_share = np.where(
        ranks.is_expert > 0, (touched / np.maximum(ranks.experts, 1.0))[:, None], 1.0
    )
    per_expert = tokens * ranks.experts_per_token / np.maximum(touched, 1.0)
    tile_rows = np.where(ranks.is_expert > 0, per_expert[:, None], rows)
    compute = ranks.matrix_flops_per_token * rows / ranks.matrix_peak
    traffic = ranks.matrix_bytes * read_share / ranks.bandwidth[:, None]
    half_rows = np.where(ranks.is_expert > 0, eff.expert_half_rows[:, None], eff.half_rows[:, None])
    attainable = ranks.matrix_gemm * tile_rows / (tile_rows + half_rows)
    busy_compute = compute / np.maximum(attainable, 1e-9)
    expert_bandwidth = np.where(
        ranks.is_expert > 0, eff.expert_bandwidth[:, None], eff.bandwidth[:, None]
    )
    return compute, traffic, busy_compute, traffic / expert_bandwidth


def touched_experts(experts: Floats, per_token: Floats, tokens: Floats) -> Floats:
    """Return the expected number of distinct experts that ``tokens`` independent draws of ``per_token`` reach."""
    share = np.divide(per_token, experts, out=np.ones_like(experts), where=experts > 0)
    return np.asarray(
        experts * -np.expm1(tokens * np.log1p(-np.minimum(share, 1 - 1e-9))), dtype=np.float64
    )


def _routed_time(ranks: Ranks, tokens: Floats) -> Floats:
    """Return seconds of moving routed tokens to their experts and of summing what comes back, memory traffic only."""
    eff = ranks.coefficients
    routed = tokens * ranks.experts_per_token * ranks.moe_layers / ranks.candidates.ep
    return np.asarray(
        routed * ranks.hidden * eff.expert_traffic / ranks.bandwidth, dtype=np.float64
    )


def _widths(candidates: Candidates, formats: Integers) -> Floats:
    """Return the bits of a value each matrix column is multiplied in; formats the device lacks are brought to 16 before."""
    widths = np.array([FORMATS[precision].bits for precision in Precision])
    native = np.array(
        [[device.runs_natively(p) for p in Precision] for device in candidates.devices]
    )
    return np.asarray(
        np.where(native[candidates.device[:, None], formats], widths[formats], 16.0),
        dtype=np.float64,
    )


def _launches(
    candidates: Candidates, model: ModelShapes, eff: Efficiency, widths: Floats
) -> Floats:
    """Return seconds a step spends launching matrix products; narrow ones bring their activations to that format first."""
    matrices, row = model.matrices, candidates.architecture
    each = eff.gemm_latency_s[:, None] + np.where(
        widths < NARROW_BITS, eff.narrow_latency_s[:, None], 0.0
    )
    dense = matrices.multiplied[row] & ~matrices.expert[row] & ~matrices.sampled[row]
    experts = matrices.expert[row] & (widths < NARROW_BITS)
    narrow_layers = np.where(experts, matrices.layers[row], 0.0).max(axis=1)
    return np.asarray(
        (each * matrices.layers[row] * dense).sum(axis=1)
        + eff.expert_narrow_latency_s * narrow_layers
    )


def _attainable(eff: Efficiency, expert: Booleans, widths: Floats) -> Floats:
    """Return the share of the peak each matrix column reaches at best, by the bits it is multiplied in."""
    eight = np.where(expert, eff.expert_eight_bit[:, None], eff.eight_bit[:, None])
    four = np.where(expert, eff.expert_four_bit[:, None], eff.four_bit[:, None])
    narrow = np.where(widths < 6.0, four, np.where(widths < NARROW_BITS, eight, 1.0))
    return np.asarray(
        np.where(expert, eff.expert_gemm[:, None], eff.gemm[:, None]) * narrow, dtype=np.float64
    )


def _attention_times(
    ranks: Ranks,
    prefill: Floats,
    decode: Floats,
    prefill_context: Floats,
    decode_context: Floats,
    decode_attended: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Return ideal seconds of cache traffic, of decode arithmetic and of prefill arithmetic."""
    dp = ranks.candidates.dp
    sequences, prompts = decode / dp, prefill / dp
    seen = np.minimum(decode_context[:, None], ranks.window)
    prompt_seen = np.minimum(prefill_context[:, None], ranks.window)
    searched = ranks.index_bytes * decode_context
    cached = (ranks.cached_bytes_per_token * ranks.cache_reads * seen).sum(axis=1)
    read = sequences * (cached + ranks.state_bytes + searched)
    multiplied = np.minimum(decode_attended[:, None], ranks.window)
    decode_flops = sequences * (ranks.decode_attention_flops * multiplied).sum(axis=1)
    indexing = ranks.index_flops * prefill_context
    prefill_flops = prompts * ((ranks.prefill_attention_flops * prompt_seen).sum(axis=1) + indexing)
    return (
        read / ranks.bandwidth,
        decode_flops / ranks.attention_peak,
        prefill_flops / ranks.attention_peak,
    )


def _link_time(ranks: Ranks, tokens: Floats) -> Floats:
    """Two all-reduces a layer inside the tensor-parallel group, one hop a stage between pipeline stages."""
    eff = ranks.coefficients
    tp, pp = ranks.candidates.tp, ranks.candidates.pp
    message = ACTIVATION_BYTES * ranks.hidden * tokens
    ring = 2.0 * (tp - 1.0) / tp * message / (ranks.link_bandwidth * eff.link)
    reduce = np.where(
        tp > 1, eff.reduce_latency_s * np.log2(np.maximum(tp, 2)) ** eff.reduce_depth + ring, 0.0
    )
    hops = (pp - 1.0) * (eff.hop_latency_s + message / (ranks.hop_bandwidth * eff.link))
    return 2.0 * ranks.layers * reduce + hops


def _overhead(ranks: Ranks, prefill: Floats, decode: Floats, attended: Floats) -> Floats:
    """Host and launch time of a step, and what does not spread over cores; steps with prompts run without captured graphs."""
    eff = ranks.coefficients
    engines = ranks.candidates.engines
    host = ranks.candidates.by_engine([engine.step_overhead_s for engine in engines])
    host = host + decode / ranks.candidates.dp * ranks.candidates.by_engine(
        [engine.sequence_overhead_s for engine in engines]
    )
    launches = eff.layer_latency_s + np.minimum(prefill, 1.0) * eff.prefill_latency_s
    single = (
        eff.core_latency_s * ranks.cores
        + eff.prompt_latency_s * prefill
        + eff.sequence_latency_s * decode
    )
    kinds = ranks.moe_layers * eff.moe_latency_s + ranks.index_layers * eff.index_latency_s
    kinds = kinds + ranks.state_layers * eff.state_latency_s
    return (
        host
        + ranks.layers * (launches + single)
        + kinds
        + ranks.launches_s
        + _heads_in_turn(ranks, decode, attended)
    )


def _heads_in_turn(ranks: Ranks, decode: Floats, attended: Floats) -> Floats:
    """Return seconds of sequences' attention that cores cannot share.

    llama.cpp multiplies several sequences head by head in tiles, of which a head has few (sgemm.cpp, from two sequences on x86
    and eight on Arm): about eight cores find work.
    """
    together = np.clip((decode - 1.0) / (TILED_SEQUENCES - 1.0), 0.0, 1.0)
    idle = 1.0 - np.minimum(TILES_OF_HEAD / np.maximum(ranks.cores, 1.0), 1.0)
    tokens = (ranks.attention_heads * np.minimum(attended[:, None], ranks.window)).sum(axis=1)
    return np.asarray(
        ranks.coefficients.head_latency_s * tokens * together * idle, dtype=np.float64
    )


def _blend(a: Floats, b: Floats, exponent: Floats) -> Floats:
    """Return the p-norm of two times: the longer one, and a little more where they are close."""
    longer, shorter = np.maximum(a, b), np.minimum(a, b)
    ratio = np.divide(shorter, longer, out=np.zeros_like(longer), where=longer > 0)
    return np.asarray(longer * (1.0 + ratio**exponent) ** (1.0 / exponent), dtype=np.float64)


def _local_share(candidates: Candidates, model: ModelShapes, attention_tp: Floats) -> Floats:
    """Return the share of each matrix column one rank holds, shape (n, columns)."""
    matrices, row = model.matrices, candidates.architecture
    ranks = np.where(matrices.attention[row], attention_tp[:, None], candidates.tp[:, None])
    share = np.where(matrices.column_sharded[row] | matrices.row_sharded[row], 1.0 / ranks, 1.0)
    repeated = np.maximum(1.0 / ranks, 1.0 / matrices.kv_heads[row])
    return np.asarray(share + matrices.kv_share[row] * (repeated - 1.0 / ranks), dtype=np.float64)


def _speeds(candidates: Candidates, eff: Efficiency) -> tuple[Floats, Floats]:
    """Return the share of arithmetic and the bytes per second one rank has: cores and time slices count here."""
    units = candidates.by_device([float(device.compute_units) for device in candidates.devices])
    cpu = (
        candidates.by_device(
            [float(device.kind is DeviceKind.CPU) for device in candidates.devices]
        )
        > 0
    )
    used = np.where(cpu & (candidates.cores > 0), np.minimum(candidates.cores / units, 1.0), 1.0)
    bandwidth = candidates.by_device(
        [device.memory_bandwidth_bytes_per_s for device in candidates.devices]
    )
    reach = np.minimum(used * eff.core_reach, candidates.compute_share)
    return used * np.where(cpu, 1.0, candidates.compute_share), bandwidth * np.where(
        cpu, reach, candidates.compute_share
    )


def _cores(candidates: Candidates) -> Floats:
    units = candidates.by_device([float(device.compute_units) for device in candidates.devices])
    return np.where(candidates.cores > 0, candidates.cores, units)


def _peaks(candidates: Candidates, tuning: Tuning) -> tuple[Floats, Floats]:
    """Return FLOP/s of every format, shape (engines, devices, formats), and of attention, shape (engines, devices)."""
    engines = tuple(engine.name for engine in candidates.engines)
    return (
        _usual_peaks(engines, candidates.devices)
        if tuning is TUNING
        else _peaks_of(engines, candidates.devices, tuning)
    )


@lru_cache(maxsize=64)
def _usual_peaks(engines: tuple[str, ...], devices: tuple[Device, ...]) -> tuple[Floats, Floats]:
    return _peaks_of(engines, devices, TUNING)


def _peaks_of(
    engines: tuple[str, ...], devices: tuple[Device, ...], tuning: Tuning
) -> tuple[Floats, Floats]:
    pairs = [[(engine, device) for device in devices] for engine in engines]
    matrices = [
        [[matrix_peak(*pair, precision, tuning) for precision in Precision] for pair in row]
        for row in pairs
    ]
    return np.array(matrices), np.array(
        [[attention_peak(*pair, tuning) for pair in row] for row in pairs]
    )


def _links(candidates: Candidates) -> tuple[Floats, Floats]:
    """Return bytes per second one rank sends inside its tensor-parallel group, and to the next pipeline stage.

    Where links are meshed a group uses only those between its members, a hop only those to one device.
    """
    up = candidates.by_device(
        [device.scale_up.bandwidth_bytes_per_s for device in candidates.devices]
    )
    meshed = [
        device.scale_up.domain_devices - 1.0 if device.scale_up.meshed else 1.0
        for device in candidates.devices
    ]
    peers = candidates.by_device(meshed)
    out = candidates.by_device(
        [device.scale_out.bandwidth_bytes_per_s for device in candidates.devices]
    )
    domain = candidates.by_device(
        [float(device.scale_up.domain_devices) for device in candidates.devices]
    )
    inside = candidates.tp <= domain
    hop_inside = candidates.tp * candidates.pp <= domain
    group = up * np.clip((candidates.tp - 1.0) / peers, 1.0 / peers, 1.0)
    hop = up / peers
    return np.where(inside, group, np.minimum(up, out)), np.where(
        hop_inside, hop, np.minimum(up, out)
    )
