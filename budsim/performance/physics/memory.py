"""What fits: weights, activations and cache of the fullest rank within what the engine may take.

The stages of a pipeline differ. The first holds the token table and, where layers do not divide
evenly, one layer more; the last holds the output head and samples. Both are sized, and the one with
the smaller cache decides, as engines let it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops.memory_rule import MemoryRule, ShareOf
from budsim.engine_ops.shared.kernels import compute_capability
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.physics.batch import ACTIVATION_BYTES
from budsim.performance.physics.compressed_caches import bytes_per_token_by_pages, stream_copies
from budsim.performance.physics.encoders import encoder_bytes
from budsim.performance.physics.ranks import Ranks
from budsim.performance.predictions import MemoryUse

# What the driver keeps of the size it reports: torch sees 79.19 of an H100's 79.65 GiB, 139.8 of an
# H200's 140.4, 23.5 of an RTX 4090's 24.0 and 94.6 of a Gaudi 2's 96 (start-up logs of
# `tests/performance/physics/startups.yaml`).
HIDDEN_BYTES = {DeviceKind.CUDA: 0.5 * GIB, DeviceKind.HPU: 1.4 * GIB}

# The least cache engines can be told to keep (VLLM_CPU_KVCACHE_SPACE), for models that cache
# nothing: prompts of encoders take their keys and values along (vLLM v1 has no KV cache group for
# encoder-only attention).
ENCODER_CACHE_BYTES = float(GIB)

# Copies of the widest layer's output alive at the peak of a step: both halves of a gated layer, and
# their product of half the width.
WIDEST_LAYER_COPIES = 1.5

# Multiples vLLM pads a rank's expert width and the hidden size to for its MXFP4 kernels (Hopper;
# quantization/mxfp4.py).
MXFP4_ROWS, MXFP4_COLUMNS = 128, 256


# Bytes of 32 MXFP4 values without their scale.
MXFP4_VALUES_BYTES = 16.0

# First CUDA compute capability (times ten) that multiplies MXFP4 with its scales as stored.
BLACKWELL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One rank of a pipeline stage; arrays of shape (n,)."""

    budget: Floats
    weights: Floats
    activations: Floats
    reserved: Floats
    kv: Floats
    per_token: Floats
    tokens: Floats
    admitted: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """`MemoryRule` spread over candidates; arrays of shape (n,)."""

    static: Booleans
    free: Booleans
    context: Floats
    group: Floats
    logit: Floats
    hidden_copies: Floats
    graph: Floats
    graph_share: Floats
    grouped: Booleans
    window_share: Floats
    mxfp4_scale: Floats
    in_flight: Floats
    block: Floats
    state_blocks: Floats
    state_pool: Floats
    state_width: Floats


def memory_use(ranks: Ranks) -> MemoryUse:
    """Return the memory of the fullest device rank of each candidate.

    What the engine may take, and what comes out of it, follow its `MemoryRule`: vLLM's
    ``gpu-memory-utilization`` is a share of the device for everything, SGLang's
    ``mem-fraction-static`` one for weights and cache with activations and graphs beside it,
    TensorRT-LLM's and Gaudi's one of what weights and activations leave. It is never more than what
    is free.
    """
    rules = _rules(ranks.candidates)
    first, last = _stages(ranks, rules)
    tighter = (first.tokens < last.tokens) | (
        (first.tokens == last.tokens) & (first.weights > last.weights)
    )

    def of(name: str) -> Floats:
        """Return a figure of the pipeline stage with less room, shape (n,)."""
        return np.asarray(
            np.where(tighter, getattr(first, name), getattr(last, name)), dtype=np.float64
        )

    return MemoryUse(
        budget_bytes=of("budget"),
        weight_bytes=of("weights"),
        activation_bytes=of("activations"),
        reserved_bytes=of("reserved"),
        kv_bytes=of("kv"),
        kv_bytes_per_token=of("per_token"),
        kv_capacity_tokens=of("admitted") * ranks.candidates.dp,
        kv_running_tokens=of("tokens") * ranks.candidates.dp,
    )


def _stages(ranks: Ranks, rules: _Rules) -> tuple[_Stage, _Stage]:
    """Return the first and the last stage of each pipeline; the same rank where there is one.

    Tensor parallelism splits vision towers as it does the model (norms and biases are too small to
    tell); rotary tables are whole on every rank.
    """
    table, layers = ranks.candidates, ranks.layers.all
    alone = table.pp == 1
    more, fewer = np.ceil(layers / table.pp) / layers, np.floor(layers / table.pp) / layers
    embedding, head, body = _weight_parts(ranks, rules)
    step, sampling, experts = _activation_parts(ranks, rules)
    extra = ranks.model.extra_bytes[table.architecture] / table.tp
    rotary = ranks.model.rotary_bytes[table.architecture]
    body = body + adapter_bytes(ranks) + _drafter_bytes(ranks, rules)
    whole = embedding + head + body + extra + rotary
    first = np.where(alone, whole, body * more + embedding + extra + rotary)
    last = np.where(
        alone, whole, body * fewer + np.where(head > 0, head, embedding * _is_tied(ranks)) + rotary
    )
    return (
        _stage(
            ranks, rules, first, np.where(alone, np.maximum(step, sampling), step) + experts, more
        ),
        _stage(ranks, rules, last, np.maximum(step, sampling) + experts, fewer),
    )


def _stage(
    ranks: Ranks, rules: _Rules, weights: Floats, activations: Floats, share: Floats
) -> _Stage:
    """Divide the device of one rank with ``share`` of the layers."""
    table = ranks.candidates
    hidden = table.by_device([HIDDEN_BYTES.get(device.kind, 0.0) for device in table.devices])
    visible = np.maximum(
        table.by_device([device.memory_bytes for device in table.devices]) - hidden, 0.0
    )
    most = np.minimum(visible, table.memory_free_bytes)
    context = rules.context + np.where(table.tp > 1, rules.group, 0.0)
    graphs = rules.graph * ranks.layers.all * share * captured_sizes(table.max_num_seqs)
    left = np.maximum(most - weights - activations - context - graphs, 0.0)
    beside = np.maximum(
        (most - context) * (1.0 - table.memory_fraction) - activations - graphs, 0.0
    )
    of_device = np.minimum(visible * table.memory_fraction, most)
    budget = np.where(
        rules.static,
        most - beside,
        np.where(rules.free, most - left * (1.0 - table.memory_fraction), of_device),
    )
    rest = np.maximum(budget - weights - activations - context - graphs, 0.0)
    kv = rest * (1.0 - rules.graph_share)
    guesses = _drafter_cache_bytes_per_token(ranks, rules)
    per_token = (_cache_bytes_per_token(ranks, rules) + guesses) * share
    in_flight = _in_flight(table, rules)
    admitted = (_cache_bytes_per_token(ranks, rules, in_flight) + guesses) * share
    return _Stage(
        budget=budget,
        weights=weights,
        activations=activations,
        reserved=context + graphs + rest * rules.graph_share,
        kv=np.where(
            ranks.model.bidirectional[table.architecture] > 0,
            np.minimum(kv, ENCODER_CACHE_BYTES),
            kv,
        ),
        per_token=per_token,
        tokens=np.asarray(np.floor(kv / np.maximum(per_token, 1.0)), dtype=np.float64),
        admitted=np.asarray(np.floor(kv / np.maximum(admitted, 1.0)), dtype=np.float64),
    )


def captured_sizes(max_num_seqs: Floats) -> Floats:
    """Return the number of batch sizes CUDA graphs are captured for.

    By 8 up to 256, then by 16, up to twice the sequences or 512 (vLLM 0.32
    ``VllmConfig._set_cudagraph_sizes``): 51 sizes at 256 sequences and more.
    """
    largest = np.minimum(2.0 * max_num_seqs, 512.0)
    return np.asarray(
        3.0 + np.minimum(largest, 256.0) / 8.0 + np.maximum(largest - 256.0, 0.0) / 16.0
    )


def _weight_parts(ranks: Ranks, rules: _Rules) -> tuple[Floats, Floats, Floats]:
    """Return the bytes of token table, output head and all between on a rank, stages undivided."""
    matrices, row = ranks.model.matrices, ranks.candidates.architecture
    stored = _padded(ranks, rules)
    table = _row_sums(stored, ~matrices.multiplied, row)
    head = _row_sums(stored, matrices.sampled, row)
    return table, head, stored.sum(axis=1) - table - head


def _row_sums(values: Floats, chosen: Booleans, row: Integers) -> Floats:
    """Return the sum over the columns ``chosen`` of each row's model."""
    return np.asarray(np.einsum("ij,ij->i", values, chosen[row]), dtype=np.float64)


def adapter_bytes(ranks: Ranks) -> Floats:
    """Return the bytes of the LoRA slots of one rank, all stages together.

    An A for each fused projection and a B, in 16 bit. vLLM 0.32 ``lora/layers``: slots are
    allocated at start for every linear layer and expert, at the largest rank; tensor parallelism
    splits only the side its matrix is split on.
    """
    table, matrices = ranks.candidates, ranks.model.matrices
    if table.adapter_ranks is None:
        return np.zeros(len(table))
    row = table.architecture
    tp = table.tp[:, None]
    inputs = matrices.inputs[row] / np.where(matrices.row_sharded[row], tp, 1)
    outputs = matrices.outputs[row] / np.where(matrices.column_sharded[row], tp, 1)
    adapted = (
        matrices.multiplied[row]
        & ~matrices.sampled[row]
        & (matrices.column_sharded[row] | matrices.row_sharded[row])
    )
    values = (
        matrices.layers[row]
        * matrices.copies[row]
        * (matrices.parts[row] * inputs + outputs)
        * adapted
    )
    return np.asarray(table.adapter_ranks * ACTIVATION_BYTES * values.sum(axis=1), dtype=np.float64)


def _drafter_bytes(ranks: Ranks, rules: _Rules) -> Floats:
    """Return the bytes of what guesses tokens on one rank, 0 where nothing is loaded.

    An MTP layer and an EAGLE head share the model's token table; a draft model brings its own.
    """
    if ranks.drafts is None:
        return np.zeros(len(ranks.candidates))
    drafts, table = ranks.drafts.ranks, ranks.candidates
    embedding, head, body = _weight_parts(drafts, rules)
    extra = drafts.model.extra_bytes[drafts.candidates.architecture] / table.tp
    alone = table.by_speculation([float(not each.shares_tables) for each in table.speculations])
    whole = body + extra + alone * (embedding + head)
    return np.where(ranks.drafts.passes > 0, whole, 0.0)


def _drafter_cache_bytes_per_token(ranks: Ranks, rules: _Rules) -> Floats:
    """Return cache bytes that each token leaves in what guesses, on one rank."""
    if ranks.drafts is None:
        return np.zeros(len(ranks.candidates))
    each = _cache_bytes_per_token(ranks.drafts.ranks, rules)
    return np.where(ranks.drafts.passes > 0, each, 0.0)


def _is_tied(ranks: Ranks) -> Floats:
    """Whether the head is the token table, which a last stage then holds again."""
    matrices = ranks.model.matrices
    tied = (matrices.sampled & (matrices.copies == 0)).any(axis=1)
    return np.asarray(tied[ranks.candidates.architecture], dtype=np.float64)


def _padded(ranks: Ranks, rules: _Rules) -> Floats:
    """Return the bytes of each matrix as a rank holds it.

    MXFP4 experts are padded to what the kernels multiply, and some engines widen their scales.
    """
    table, matrices = ranks.candidates, ranks.model.matrices
    packed = np.array([precision is Precision.MXFP4 for precision in table.precisions])[
        table.weight_precision
    ]
    at = np.flatnonzero(packed)
    if not at.size:
        return ranks.matrices.stored_bytes
    row = table.architecture[at]
    column, expert = matrices.column_sharded[row], matrices.expert[row]
    spread = np.where(table.ep > 1, 1, table.tp)[at, None]
    width = np.where(column, matrices.outputs[row] / 2.0, matrices.inputs[row]) / spread
    hidden = np.where(column, matrices.inputs[row], matrices.outputs[row])
    factor = _rounded(width, MXFP4_ROWS) * _rounded(hidden, MXFP4_COLUMNS)
    factor = factor * _widened_scales(table, rules)[at, None]
    stored = ranks.matrices.stored_bytes.copy()
    stored[at] *= np.where(expert, factor, 1.0)
    return stored


def _widened_scales(table: Candidates, rules: _Rules) -> Floats:
    """Return by what factor wider scales grow the MXFP4 experts of FP8 checkpoints.

    32 values take 16 bytes and one of scale as stored. Before Blackwell kernels unpack them.
    """
    mixed = [
        a.quantization is not None and a.quantization.method == "fp8" for a in table.architectures
    ]
    older = [0 < compute_capability(device) < BLACKWELL for device in table.devices]
    holds = np.array(mixed)[table.architecture] & (table.by_device(older) > 0)
    stored = MXFP4_VALUES_BYTES + 1.0
    return np.asarray(np.where(holds, (MXFP4_VALUES_BYTES + rules.mxfp4_scale) / stored, 1.0))


def _rounded(values: Floats, multiple: int) -> Floats:
    """Return by what factor rounding up to a multiple grows each value."""
    return -(-values // multiple) * multiple / np.maximum(values, 1.0)


def _activation_parts(ranks: Ranks, rules: _Rules) -> tuple[Floats, Floats, Floats]:
    """Return the peaks of a full step and of sampling, and the expert workspace, bytes.

    A step keeps the residual, its input and the widest layer. Sampling keeps the hidden states and
    one row of logits a sequence, on every rank. Fused experts keep one row for each expert a token
    visits, through both.
    """
    table = ranks.candidates
    streams = np.where(rules.in_flight >= 0, stream_copies(table), 0.0)
    step = (
        table.token_budget
        * ACTIVATION_BYTES
        * (
            (rules.hidden_copies + streams) * ranks.hidden
            + WIDEST_LAYER_COPIES * _widest_layer(ranks)
        )
    )
    cache, tower = encoder_bytes(table, ranks.hidden)
    step = np.maximum(step + cache, tower)
    rows = np.minimum(table.max_num_seqs, table.token_budget)
    logits = rows * ranks.model.vocabulary[table.architecture] * rules.logit
    return (
        step,
        logits + table.token_budget * ACTIVATION_BYTES * ranks.hidden + cache,
        _expert_workspace(ranks),
    )


def _widest_layer(ranks: Ranks) -> Floats:
    """Return the most values any layer but head and experts gives for one token on one rank."""
    table, matrices = ranks.candidates, ranks.model.matrices
    inner = matrices.outputs * (matrices.multiplied & ~matrices.sampled & ~matrices.expert)
    split = inner * matrices.column_sharded
    attention = (split * matrices.attention).max(axis=1)[table.architecture] / np.maximum(
        table.tp / table.dp, 1.0
    )
    other = (split * ~matrices.attention).max(axis=1)[table.architecture] / table.tp
    whole = (inner - split).max(axis=1)[table.architecture]
    return np.asarray(np.maximum(np.maximum(attention, other), whole), dtype=np.float64)


def _expert_workspace(ranks: Ranks) -> Floats:
    """Return the bytes of the buffers of fused expert kernels.

    Their first result or their output, whichever is larger, and their product.
    """
    table, matrices = ranks.candidates, ranks.model.matrices
    row = table.architecture
    split = np.where(table.ep > 1, 1, table.tp)
    down = matrices.expert & matrices.row_sharded
    first = (matrices.outputs * (matrices.expert & matrices.column_sharded)).max(axis=1)[
        row
    ] / split
    product, output = (
        (side * down).max(axis=1)[row] for side in (matrices.inputs, matrices.outputs)
    )
    tokens = table.token_budget * np.maximum(table.dp / table.ep, 1.0)
    held = np.maximum(first, output) + product / split
    return np.asarray(tokens * ranks.experts_per_token * ACTIVATION_BYTES * held)


def _in_flight(table: Candidates, rules: _Rules) -> Floats:
    """Return the tokens of steps under way that windows must hold too, nan where none count."""
    steps = np.where(table.pp > 1, rules.in_flight + table.pp - 1, rules.in_flight)
    return np.where(rules.in_flight >= 0, steps * table.token_budget, np.nan)


def _held_share(ranks: Ranks, rules: _Rules, in_flight: Floats | None) -> Floats:
    """Return the share of a sequence's tokens each layer holds, shape (n, layers).

    Running sequences hold their windows; one to be admitted also the tokens in flight, in whole
    blocks and one more, because a window may begin inside a block (vLLM 0.32
    ``SlidingWindowSpec.max_admission_blocks_per_request``).
    """
    table, attention = ranks.candidates, ranks.model.attention
    length = (table.input_tokens + table.output_tokens)[:, None]
    window = np.where(attention.keeps_all[table.architecture], np.inf, ranks.attention.window)
    held = np.minimum(length, window)
    if in_flight is not None:
        block = rules.block[:, None]
        reach = np.minimum(window - 1.0 + in_flight[:, None], length)
        admitted = np.minimum((np.ceil(reach / block) + 1.0) * block, length + block)
        counts = np.isfinite(window) & np.isfinite(in_flight[:, None])
        held = np.where(counts, admitted, held)
    return np.asarray(np.maximum(held / length, rules.window_share[:, None]))


def _cache_bytes_per_token(ranks: Ranks, rules: _Rules, in_flight: Floats | None = None) -> Floats:
    """Return cache bytes of one rank for each token: of running sequences, or to admit one."""
    table, attention = ranks.candidates, ranks.model.attention
    row = table.architecture
    length = table.input_tokens + table.output_tokens
    held = _held_share(ranks, rules, in_flight)
    padded = np.where(rules.grouped[:, None], attention.padded[row], 1.0)
    keys = (ranks.attention.cached_bytes_per_token * held * padded).sum(axis=1)
    state = _state_bytes(ranks, rules, padded) * rules.state_blocks / length
    pool = np.where(state > 0, rules.state_pool, 0.0)
    slots = np.divide(state * (1.0 + pool), pool, out=np.zeros_like(state), where=pool > 0)
    plain = np.where(pool > 0, np.maximum(keys * (1.0 + pool), slots), keys + state)
    counted = np.zeros(len(table)) if in_flight is None else np.nan_to_num(in_flight)
    paged = np.where(rules.in_flight >= 0, bytes_per_token_by_pages(table, counted), np.nan)
    return np.asarray(np.where(np.isfinite(paged), paged, plain), dtype=np.float64)


def _state_bytes(ranks: Ranks, rules: _Rules, padded: Floats) -> Floats:
    """Return the recurrent state of one sequence on one rank."""
    table, attention = ranks.candidates, ranks.model.attention
    row = table.architecture
    width = np.maximum(attention.state_width[row], rules.state_width[:, None])
    convolved = attention.state[row] - attention.recurrent[row]
    each = attention.recurrent[row] * width + convolved * ACTIVATION_BYTES
    return np.asarray(
        (attention.layers[row] * each * padded).sum(axis=1) / np.maximum(table.tp / table.dp, 1.0)
    )


def _rules(table: Candidates) -> _Rules:
    """Return each engine's memory rule as one array a figure, shape (n,)."""
    column = partial(_column_of_rules, table)
    return _Rules(
        static=column(lambda rule: rule.share_of is ShareOf.STATIC) > 0,
        free=column(lambda rule: rule.share_of is ShareOf.FREE) > 0,
        context=column(lambda rule: rule.context_bytes),
        group=column(lambda rule: rule.group_bytes),
        logit=column(lambda rule: rule.logit_bytes),
        hidden_copies=column(lambda rule: rule.hidden_copies),
        graph=column(lambda rule: rule.graph_bytes),
        graph_share=column(lambda rule: rule.graph_share),
        grouped=column(lambda rule: rule.grouped) > 0,
        window_share=column(lambda rule: rule.window_share),
        mxfp4_scale=column(lambda rule: rule.mxfp4_scale_bytes),
        in_flight=column(lambda rule: rule.in_flight_steps),
        block=table.by_engine([float(engine.block_tokens) for engine in table.engines]),
        state_blocks=column(lambda rule: rule.state_blocks),
        state_pool=column(lambda rule: rule.state_pool),
        state_width=column(lambda rule: rule.state_bytes),
    )


def _column_of_rules(table: Candidates, figure: Callable[[MemoryRule], float]) -> Floats:
    """Return one figure of each row's memory rule, shape (n,)."""
    return table.by_engine([figure(engine.memory) for engine in table.engines])
