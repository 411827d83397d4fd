"""What one device of each candidate holds and can do: all that does not depend on the step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from budsim.commons.precision import FORMATS, Precision
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.physics.architecture_arrays import (
    ArchitectureArrays,
    architecture_arrays,
    cached_bytes,
    compute_formats,
    stored_bytes,
)
from budsim.performance.physics.attainable import KernelConstants
from budsim.performance.physics.constants import (
    FITTED,
    PhysicsConstants,
    host_time,
    kernel_constants,
)
from budsim.performance.physics.encoders import TowerRates, encoder_s_per_token
from budsim.performance.physics.first_token import HostTime
from budsim.performance.physics.links import LinkBandwidth, link_bandwidth
from budsim.performance.physics.peaks import peaks

# Bits of the format weights are brought to where the device cannot multiply theirs.
CONVERTED_BITS = 16.0

# Products in fewer bits than this count as 8 bit and as 4 bit; block formats lie between.
EIGHT_BIT_BELOW, FOUR_BIT_BELOW = 12.0, 6.0

# Its code among the formats, in the order of `Precision`.
MXFP4 = list(Precision).index(Precision.MXFP4)
NVFP4_BITS = FORMATS[Precision.NVFP4].bits

# Launches of a layer that also attends to an encoder, by those of one that does not: a third part,
# and attention without fused kernels. Fitted on decode steps of T5 models in TGIS (LLM Pilot).
CROSS_ATTENTION_LAUNCHES = 2.3

# Launches of a layer of experts, by those of a dense one: routing, sorting, grouped products and
# the sum instead of two products. 2 fits TTFT of short prompts on vLLM, SGLang and TensorRT-LLM.
EXPERT_LAUNCHES = 2.0

# Place of the format that towers are run in.
BF16 = list(Precision).index(Precision.BF16)

# Bytes a linear layer moves for each value of its state at every token: fp32, read and written.
STATE_BYTES = 4.0 + 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOperators:
    """Weight matrices as one rank holds them; arrays of shape (n, matrices), layers summed.

    Attributes
    ----------
    stored_bytes : bytes in memory
    read_bytes : bytes a step reads; a tied table that is only looked up counts as the head
    written_out_bytes : bytes a step moves to write weights out in 16 bit, before it reads those
    flops_per_token : FLOPs for each row multiplied, those of the experts a token visits
    peak_flops_per_s : of the format it is multiplied in
    reached : share of that peak with many rows, 0..1
    read_share : share of the memory bandwidth that reading it reaches, 0..1
    token_share : of the step's tokens, 0..1: attention ranks divide them
    is_expert, is_sampled : 1.0 for experts, and for the head, which only sampled tokens meet
    """

    stored_bytes: Floats
    read_bytes: Floats
    written_out_bytes: Floats
    flops_per_token: Floats
    peak_flops_per_s: Floats
    reached: Floats
    read_share: Floats
    token_share: Floats
    is_expert: Booleans
    is_sampled: Booleans


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOperators:
    """Attention as one rank computes it; per layer group (n, groups), or summed over them (n,).

    Attributes
    ----------
    cached_bytes_per_token : bytes of KV cache a token leaves, (n, groups)
    reads : how often query heads that share key heads read them, (n, groups)
    window : tokens a layer looks back at most, (n, groups)
    head_layers : query heads times layers, (n, groups)
    decode_flops, prefill_flops : FLOPs for each token and token looked back at, (n, groups)
    state_bytes : of linear layers, moved for each running sequence, (n,)
    scan_flops : FLOPs of passing a prompt token through linear layers, (n,)
    index_flops, index_bytes : of sparse indexers, for each token searched, (n,)
    peak_flops_per_s : at best, (n,)
    """

    cached_bytes_per_token: Floats
    reads: Floats
    window: Floats
    head_layers: Floats
    decode_flops: Floats
    prefill_flops: Floats
    state_bytes: Floats
    scan_flops: Floats
    index_flops: Floats
    index_bytes: Floats
    peak_flops_per_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """How many layers of each kind a model has; arrays of shape (n,)."""

    all: Floats
    moe: Floats
    indexed: Floats
    linear: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One rank of each candidate; ``bandwidth`` in bytes/s, ``launches_s`` seconds a step.

    No step is shorter than ``step_floor_s``, and none with prompts than ``prompt_step_floor_s``: so
    long the host takes to launch its layers. The first is 0 where graphs are captured.
    ``encoder_s_per_token`` is what towers add for each token of a prompt whose items pass alone,
    ``batched_encoder_s_per_token`` of one among many.
    """

    candidates: Candidates
    model: ArchitectureArrays
    constants: KernelConstants[Floats]
    host: HostTime
    matrices: MatrixOperators
    attention: AttentionOperators
    layers: Layers
    hidden: Floats
    experts: Floats
    experts_per_token: Floats
    cores: Floats
    bandwidth: Floats
    links: LinkBandwidth
    launches_s: Floats
    eager: Booleans
    step_floor_s: Floats
    prompt_step_floor_s: Floats
    encoder_s_per_token: Floats
    batched_encoder_s_per_token: Floats
    drafts: Drafts | None = None

    @property
    def weight_bytes(self) -> Floats:
        """Bytes of all weights of a rank, pipeline stages not yet divided."""
        extra = self.model.extra_bytes[self.candidates.architecture]
        return np.asarray(self.matrices.stored_bytes.sum(axis=1) + extra, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """What guesses tokens ahead; arrays of shape (n,).

    Attributes
    ----------
    ranks : Ranks
        One rank of each row's drafter, on the devices and in the layout of the row.
    passes : float array
        Forward passes of the drafter for each step; 0 where guessing costs none.
    verified : float array
        Tokens of each sequence a step verifies: one, and its guesses.
    """

    ranks: Ranks
    passes: Floats
    verified: Floats


def prepare(candidates: Candidates, constants: PhysicsConstants = FITTED) -> Ranks:
    """Return one rank of every candidate: bytes, FLOPs and attainable speeds, shape (n, ...)."""
    model = architecture_arrays(candidates.architectures)
    kernels = kernel_constants(candidates, constants)
    host = host_time(candidates, constants)
    row = candidates.architecture
    eager = _eager(candidates)
    decoded_s, prompted_s = _launched(model, row, host)
    compute_share, bandwidth = _shares_of_device(candidates, kernels)
    formats = compute_formats(candidates.architectures, candidates.precisions)[
        row, candidates.weight_precision
    ].astype(np.int64)
    bits = _multiplied_bits(candidates, formats)
    matrix_peaks, attention_peaks = peaks(candidates, constants)
    pair = candidates.engine, candidates.device
    peak = matrix_peaks[pair[0][:, None], pair[1][:, None], formats] * compute_share[:, None]
    alone, batched = encoder_s_per_token(
        candidates,
        kernels,
        TowerRates(
            peak_flops_per_s=matrix_peaks[(*pair, BF16)] * compute_share,
            attention_flops_per_s=attention_peaks[pair] * compute_share,
            bandwidth=bandwidth,
            launch_s=host.prompt_launch_s,
        ),
    )
    return Ranks(
        candidates=candidates,
        model=model,
        constants=kernels,
        host=host,
        matrices=_matrix_operators(candidates, model, peak, kernels, bits),
        attention=_attention_operators(
            candidates, model, kernels, attention_peaks[pair] * compute_share
        ),
        layers=_layers(model, row),
        hidden=model.hidden[row],
        experts=model.experts[row],
        experts_per_token=model.experts_per_token[row],
        cores=_cores(candidates),
        bandwidth=bandwidth,
        links=link_bandwidth(candidates),
        launches_s=_launches(model, row, kernels, formats, bits),
        eager=eager,
        step_floor_s=np.where(eager, decoded_s, 0.0),
        prompt_step_floor_s=prompted_s,
        encoder_s_per_token=alone,
        batched_encoder_s_per_token=batched,
        drafts=_drafts(candidates, constants),
    )


def _launched(model: ArchitectureArrays, row: Integers, host: HostTime) -> tuple[Floats, Floats]:
    """Return seconds the host takes to launch the layers of a step without, and with, prompts.

    A prompt passes the encoder's layers, too, and a layer of experts launches twice as much. 0.4 ms
    a layer, 24 layers of encoder and of decoder: 24 x 2.3 x 0.4 = 22 ms without prompts, 9.6 ms
    more with some.
    """
    encoder, moe = model.encoder_layers[row], model.moe_layers[row]
    kernels = np.where(encoder > 0, CROSS_ATTENTION_LAUNCHES, 1.0)
    launched = model.layers[row] * kernels + moe * (EXPERT_LAUNCHES - 1.0)
    decoded = launched * host.prompt_launch_s
    return decoded, decoded + encoder * host.prompt_launch_s


def _drafts(candidates: Candidates, constants: PhysicsConstants) -> Drafts | None:
    """Return the drafters of the rows, None where no row speculates.

    Rows without one get the first, in no pass.
    """
    ways = candidates.speculations
    drafters = tuple(dict.fromkeys(each.drafter for each in ways if each.drafter))
    if candidates.speculation is None:
        return None
    models = drafters or candidates.architectures[:1]
    codes = [models.index(each.drafter) if each.drafter else 0 for each in ways]
    table = replace(
        candidates,
        architectures=models,
        architecture=np.array(codes)[candidates.speculation],
        speculations=(),
        speculation=None,
        adapter_ranks=None,
        media=(),
        medium=None,
    )
    return Drafts(
        ranks=prepare(table, constants),
        passes=candidates.by_speculation([float(each.passes) for each in ways]),
        verified=candidates.draft_tokens + 1.0,
    )


def _eager(candidates: Candidates) -> Booleans:
    """Return which candidates decode without captured graphs, by their flag or their engine."""
    never = candidates.by_engine([float(not e.captures_graphs) for e in candidates.engines]) > 0
    return never if candidates.eager is None else never | candidates.eager


def attention_ranks(candidates: Candidates) -> Floats:
    """Return over how many ranks attention is split: attention data parallelism keeps it whole."""
    return np.maximum(candidates.tp.astype(np.float64) / candidates.dp, 1.0)


def _matrix_operators(
    candidates: Candidates,
    model: ArchitectureArrays,
    peak: Floats,
    kernels: KernelConstants[Floats],
    bits: Floats,
) -> MatrixOperators:
    matrices, row = model.matrices, candidates.architecture
    held = (matrices.layers * matrices.inputs * matrices.outputs)[row]
    held = held * _held_share(candidates, model)
    multiplied = held * matrices.multiplied[row]
    width = stored_bytes(candidates.architectures, candidates.precisions)[
        row, candidates.weight_precision
    ]
    read_values = multiplied * matrices.copies[row].clip(1.0)
    written_out = _written_out(candidates, matrices.expert[row], bits, width)
    multiplied_width = np.where(written_out, CONVERTED_BITS / 8.0, width)
    return MatrixOperators(
        stored_bytes=held * matrices.copies[row] * width,
        read_bytes=read_values * multiplied_width,
        written_out_bytes=read_values * np.where(written_out, width + multiplied_width, 0.0),
        flops_per_token=2.0 * multiplied * matrices.active_copies[row],
        peak_flops_per_s=peak,
        reached=_reached(candidates, model, kernels, bits, multiplied_width),
        read_share=_read_share(matrices.expert[row], kernels, bits),
        token_share=np.where(matrices.attention[row], 1.0 / candidates.dp[:, None], 1.0),
        is_expert=matrices.expert[row],
        is_sampled=matrices.sampled[row],
    )


def _written_out(candidates: Candidates, expert: Booleans, bits: Floats, width: Floats) -> Booleans:
    """Return which matrices a step writes out in 16 bit before it multiplies them."""
    engines = [float(each.writes_weights_out) for each in candidates.engines]
    writes = candidates.by_engine(engines)[:, None] > 0
    return np.asarray(writes & ~expert & _is_converted(bits, width), dtype=np.bool_)


def _is_converted(bits: Floats, width: Floats) -> Booleans:
    """Return which matrices are stored in fewer bits than the 16 they are multiplied in."""
    return np.asarray((8.0 * width < EIGHT_BIT_BELOW) & (bits == CONVERTED_BITS), dtype=np.bool_)


def _held_share(candidates: Candidates, model: ArchitectureArrays) -> Floats:
    """Return the share of each matrix one rank holds, shape (n, matrices).

    Key and value heads are repeated once there are more ranks than heads.
    """
    matrices, row = model.matrices, candidates.architecture
    ranks = np.where(
        matrices.attention[row], attention_ranks(candidates)[:, None], candidates.tp[:, None]
    )
    share = np.where(matrices.column_sharded[row] | matrices.row_sharded[row], 1.0 / ranks, 1.0)
    repeated = np.maximum(1.0 / ranks, 1.0 / matrices.kv_heads[row])
    return np.asarray(share + matrices.kv_share[row] * (repeated - 1.0 / ranks), dtype=np.float64)


def _attention_operators(
    candidates: Candidates,
    model: ArchitectureArrays,
    kernels: KernelConstants[Floats],
    peak: Floats,
) -> AttentionOperators:
    attention, row = model.attention, candidates.architecture
    ranks = attention_ranks(candidates)
    heads = attention.heads[row] / ranks[:, None]
    cache_share = _cached_share(model, row, ranks)
    key_heads = np.maximum(attention.kv_heads[row] * cache_share, 1e-9)
    sharing = np.maximum(heads / key_heads, 1.0)
    score = 2.0 * kernels.score_dims[:, None]
    multiply_adds = 2.0 * attention.layers[row] * heads
    width = cached_bytes(candidates.architectures, candidates.precisions)[
        row, candidates.kv_precision
    ]
    state = (attention.layers * attention.state)[row].sum(axis=1)
    return AttentionOperators(
        cached_bytes_per_token=attention.layers[row] * width * cache_share,
        reads=1.0 + kernels.reread[:, None] * (sharing - 1.0),
        window=attention.window[row],
        head_layers=attention.layers[row] * heads,
        decode_flops=multiply_adds * (attention.decode_dims[row] + score),
        prefill_flops=multiply_adds * (attention.prefill_dims[row] + score),
        state_bytes=state * STATE_BYTES / ranks,
        scan_flops=(attention.layers * attention.scan_flops)[row].sum(axis=1) / ranks,
        index_flops=(2.0 * attention.layers * attention.index_dims).sum(axis=1)[row],
        index_bytes=(attention.layers * attention.index_width).sum(axis=1)[row],
        peak_flops_per_s=peak,
    )


def _cached_share(model: ArchitectureArrays, row: Integers, ranks: Floats) -> Floats:
    """Return the share of a layer's cache one rank holds: MLA's latent is whole on every rank."""
    attention = model.attention
    divided = np.maximum(1.0 / ranks[:, None], 1.0 / attention.kv_heads[row])
    return np.asarray(np.where(attention.latent[row], 1.0, divided), dtype=np.float64)


def _layers(model: ArchitectureArrays, row: Integers) -> Layers:
    attention = model.attention
    return Layers(
        all=model.layers[row],
        moe=model.moe_layers[row],
        indexed=(attention.layers * (attention.index_width > 0)).sum(axis=1)[row],
        linear=(attention.layers * (attention.state > 0)).sum(axis=1)[row],
    )


def _multiplied_bits(candidates: Candidates, formats: Integers) -> Floats:
    """Return the bits of a value in the format each matrix is multiplied in, (n, matrices)."""
    bits = np.array([FORMATS[precision].bits for precision in Precision])
    native = np.array(
        [[device.runs_natively(each) for each in Precision] for device in candidates.devices]
    )
    is_native = native[candidates.device[:, None], formats]
    return np.asarray(np.where(is_native, bits[formats], CONVERTED_BITS), dtype=np.float64)


def _reached(
    candidates: Candidates,
    model: ArchitectureArrays,
    kernels: KernelConstants[Floats],
    bits: Floats,
    width: Floats,
) -> Floats:
    """Return the share of its peak each matrix reaches with many rows, (n, matrices).

    ``width`` are the bytes a product reads of a value, and ``bits`` those it is multiplied in.
    """
    converted = _is_converted(bits, width)
    expert = model.matrices.expert[candidates.architecture]
    has_16bit = np.array([device.runs_natively(Precision.BF16) for device in candidates.devices])
    emulated = ~has_16bit[candidates.device][:, None] & (bits == CONVERTED_BITS)
    eight = np.where(expert, kernels.expert_gemm_8bit[:, None], kernels.gemm_8bit[:, None])
    four = np.where(expert, kernels.expert_gemm_4bit[:, None], kernels.gemm_4bit[:, None])
    four = four * np.where(bits == NVFP4_BITS, kernels.nvfp4[:, None], 1.0)
    from_narrow = np.where(
        expert, kernels.expert_gemm_converted[:, None], kernels.gemm_converted[:, None]
    )
    wide = np.where(emulated, kernels.gemm_emulated[:, None], np.where(converted, from_narrow, 1.0))
    ratio = np.where(bits < FOUR_BIT_BELOW, four, np.where(bits < EIGHT_BIT_BELOW, eight, wide))
    share = np.where(expert, kernels.expert_gemm[:, None], kernels.gemm[:, None])
    return np.asarray(share * ratio, dtype=np.float64)


def _read_share(expert: Booleans, kernels: KernelConstants[Floats], bits: Floats) -> Floats:
    """Return the share of the memory bandwidth reading each matrix reaches, (n, matrices)."""
    narrow = np.where(bits < FOUR_BIT_BELOW, kernels.bandwidth_4bit[:, None], 1.0)
    dense = kernels.bandwidth[:, None] * narrow
    return np.where(expert, kernels.expert_bandwidth[:, None], dense)


def _launches(
    model: ArchitectureArrays,
    row: Integers,
    kernels: KernelConstants[Floats],
    formats: Integers,
    bits: Floats,
) -> Floats:
    """Return seconds a step spends launching products and bringing activations to 8 or 4 bit.

    Experts of one layer are launched together, at the price of ``moe_latency_s``. MXFP4 experts
    meet 16 bit activations, which nothing brings to fewer bits; where no shared expert runs beside
    them, one kernel also routes the tokens and sums the results.
    """
    matrices, narrow = model.matrices, bits < EIGHT_BIT_BELOW
    scaled = narrow & (bits >= FOUR_BIT_BELOW) & ~model.blocks[row][:, None]
    converted = np.where(
        scaled, kernels.scaled_gemm_latency_s[:, None], kernels.narrow_gemm_latency_s[:, None]
    )
    each = kernels.gemm_latency_s[:, None] + np.where(narrow, converted, 0.0)
    alone = matrices.multiplied[row] & ~matrices.expert[row] & ~matrices.sampled[row]
    is_mxfp4 = matrices.expert[row] & (formats == MXFP4)
    narrow_experts = matrices.expert[row] & narrow & ~is_mxfp4
    short_experts = narrow_experts & (bits < FOUR_BIT_BELOW)
    fused = is_mxfp4.any(axis=1) & ~matrices.shared_expert[row].any(axis=1)
    by_layer = np.where(narrow_experts.any(axis=1), kernels.narrow_experts_latency_s, 0.0)
    by_layer = np.where(short_experts.any(axis=1), kernels.short_experts_latency_s, by_layer)
    by_layer = by_layer - np.where(fused, kernels.fused_experts_s, 0.0)
    return np.asarray(
        (each * matrices.layers[row] * alone).sum(axis=1) + by_layer * model.moe_layers[row]
    )


def _shares_of_device(
    candidates: Candidates, kernels: KernelConstants[Floats]
) -> tuple[Floats, Floats]:
    """Return the share of arithmetic and the bytes/s one rank has: cores and time slices count.

    A time slice divides both. On a processor half of the cores reach more than half of the
    bandwidth (``core_reach``), and ``compute_share`` bounds the bandwidth alone.
    """
    devices = candidates.devices
    units = candidates.by_device([float(device.compute_units) for device in devices])
    is_cpu = candidates.by_device([float(d.kind is DeviceKind.CPU) for d in devices]) > 0
    bandwidth = candidates.by_device([device.memory_bandwidth_bytes_per_s for device in devices])
    bound = is_cpu & (candidates.cores > 0)
    used = np.where(bound, np.minimum(candidates.cores / units, 1.0), 1.0)
    reach = np.minimum(used * kernels.core_reach, candidates.compute_share)
    compute = used * np.where(is_cpu, 1.0, candidates.compute_share)
    return compute, bandwidth * np.where(is_cpu, reach, candidates.compute_share)


def _cores(candidates: Candidates) -> Floats:
    units = candidates.by_device([float(device.compute_units) for device in candidates.devices])
    return np.where(candidates.cores > 0, candidates.cores, units)
