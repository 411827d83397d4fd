"""Architectures as arrays: one row a model, one column a matrix or attention layer.

Rows of models with fewer columns are padded with zeros.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from budsim.commons.precision import Precision, compute_format
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.layers import Attention, AttentionKind, FeedForward, LayerGroup
from budsim.model_ops.matrices import Matrix, MatrixRole, Shard
from budsim.performance.candidates import Booleans, Floats

# Scalars a gated delta network projects for each head, and how often a token multiplies its state:
# to correct, to update and to read it (arXiv 2412.06464).
DELTA_GATES = 2
DELTA_PASSES = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixArrays:
    """Matrices of decoder and encoder of each model; arrays of shape (models, columns).

    0 where a model has fewer. ``layers`` is how often a column occurs; ``kv_share`` the share of
    its outputs that belong to key/value heads, of which there are ``kv_heads``; ``parts`` how many
    projections it fuses; ``copies`` and ``active_copies`` the experts held and those one token is
    sent to. A table that is only looked up (``multiplied`` 0) costs memory but no time; the head is
    multiplied once per sampled token (``sampled``).
    """

    layers: Floats
    inputs: Floats
    outputs: Floats
    kv_share: Floats
    kv_heads: Floats
    parts: Floats
    copies: Floats
    active_copies: Floats
    column_sharded: Booleans
    row_sharded: Booleans
    attention: Booleans
    expert: Booleans
    shared_expert: Booleans
    multiplied: Booleans
    sampled: Booleans


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionArrays:
    """Attention layers of each model; arrays of shape (models, columns).

    ``window`` is how far back a layer looks (infinity: all of it), ``state`` the values a linear
    layer carries on, ``recurrent`` those of them that may be kept in fp32 and ``state_width`` the
    bytes of one as the model asks; ``padded`` is how much more a cache pool in groups of equal size
    allocates. ``decode_dims`` are the dimensions one query head multiplies per cached token at
    decode, ``prefill_dims`` the same for prefill (MLA expands the latent there); ``index_dims``
    those a sparse indexer, whole on every rank, multiplies with every token before it chooses some,
    ``index_width`` the size of its key. ``scan_flops`` are the FLOPs of passing one prompt token
    through a linear layer's state. ``keeps_all`` are layers whose cache grows with the sequence,
    however few of its tokens they look at.
    """

    layers: Floats
    heads: Floats
    kv_heads: Floats
    window: Floats
    state: Floats
    recurrent: Floats
    state_width: Floats
    padded: Floats
    decode_dims: Floats
    prefill_dims: Floats
    index_dims: Floats
    index_width: Floats
    scan_flops: Floats
    latent: Booleans
    keeps_all: Booleans


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureArrays:
    """Scalars of each model, shape (models,), with its matrices and attention layers.

    ``blocks`` says whether the weights' scales belong to square blocks, not to whole matrices.
    """

    matrices: MatrixArrays
    attention: AttentionArrays
    hidden: Floats
    layers: Floats
    encoder_layers: Floats
    moe_layers: Floats
    experts: Floats
    experts_per_token: Floats
    vocabulary: Floats
    extra_bytes: Floats
    rotary_bytes: Floats
    parameters: Floats
    active_parameters: Floats
    bidirectional: Floats
    blocks: Booleans


@dataclass(frozen=True, slots=True)
class _Column:
    layers: int
    matrix: Matrix
    kv_heads: int
    active: float
    stored: bool = True


@lru_cache(maxsize=64)
def architecture_arrays(architectures: tuple[Architecture, ...]) -> ArchitectureArrays:
    """Return the arrays of these models, in their order."""
    columns = [_columns(architecture) for architecture in architectures]
    groups = [
        [*architecture.encoder_layers, *architecture.layers] for architecture in architectures
    ]
    routed = [_routed(architecture) for architecture in architectures]

    def scalar(of: Callable[[Architecture], float]) -> Floats:
        """Return one figure of every model, shape (models,)."""
        return np.array([of(architecture) for architecture in architectures], dtype=np.float64)

    return ArchitectureArrays(
        matrices=_matrix_arrays(columns),
        attention=_attention_arrays(groups),
        hidden=scalar(lambda a: a.hidden_size),
        layers=scalar(lambda a: a.layer_count),
        encoder_layers=scalar(lambda a: sum(group.count for group in a.encoder_layers)),
        moe_layers=np.array([float(sum(g.count for g in group)) for group in routed]),
        experts=np.array([float(_experts(group).experts) for group in routed]),
        experts_per_token=np.array([float(_experts(group).experts_per_token) for group in routed]),
        vocabulary=scalar(lambda a: a.vocab_size),
        extra_bytes=scalar(lambda a: 2.0 * a.extra_parameters),
        rotary_bytes=scalar(lambda a: 2.0 * a.rotary_values),
        parameters=scalar(lambda a: a.parameters),
        active_parameters=scalar(lambda a: a.active_parameters),
        bidirectional=scalar(lambda a: a.is_bidirectional),
        blocks=scalar(lambda a: a.quantization.block if a.quantization else 0) > 0,
    )


def _routed(architecture: Architecture) -> list[LayerGroup]:
    return [g for g in architecture.layers if g.feed_forward is not None and g.feed_forward.experts]


def _experts(routed: Sequence[LayerGroup]) -> FeedForward:
    """Return the experts of a model, all of one size; without any, a layer of none."""
    first = routed[0].feed_forward if routed else None
    return first or FeedForward(width=0)


def _columns(architecture: Architecture) -> list[_Column]:
    result = [_Column(1, matrix, 1, 1.0) for matrix in architecture.embedding_matrices]
    if architecture.tied_embeddings and not architecture.is_embedding:
        result.append(_Column(1, architecture.head_matrix, 1, 0.0))
    for group in (*architecture.encoder_layers, *architecture.layers):
        active = group.feed_forward.experts_per_token if group.feed_forward else 0
        for matrix in group.matrices(architecture.hidden_size):
            routed = matrix.role is MatrixRole.EXPERT
            result.append(
                _Column(
                    group.count,
                    matrix,
                    group.attention.kv_heads,
                    float(active) if routed else 1.0,
                    stored=not group.repeat,
                )
            )
    return result


def _matrix_arrays(models: Sequence[Sequence[_Column]]) -> MatrixArrays:
    width = max(len(columns) for columns in models)

    def table(of: Callable[[_Column], float]) -> Floats:
        """Return a figure of every matrix, shape (models, width), padded with zeros."""
        padded = np.zeros((len(models), width))
        for row, columns in enumerate(models):
            padded[row, : len(columns)] = [of(column) for column in columns]
        return padded

    def flags(of: Callable[[_Column], bool]) -> Booleans:
        """Return a condition of every matrix, shape (models, width); padding is False."""
        return table(lambda c: float(of(c))) > 0

    return MatrixArrays(
        layers=table(lambda c: c.layers),
        inputs=table(lambda c: c.matrix.inputs),
        outputs=table(lambda c: c.matrix.outputs),
        kv_share=table(lambda c: c.matrix.kv_outputs / c.matrix.outputs),
        kv_heads=np.maximum(table(lambda c: c.kv_heads), 1.0),
        parts=table(lambda c: c.matrix.parts),
        copies=table(lambda c: c.matrix.copies if c.active and c.stored else 0.0),
        active_copies=table(lambda c: c.active if c.matrix.role is MatrixRole.EXPERT else 1.0),
        column_sharded=flags(lambda c: c.matrix.shard is Shard.COLUMN),
        row_sharded=flags(lambda c: c.matrix.shard is Shard.ROW),
        attention=flags(lambda c: c.matrix.role is MatrixRole.ATTENTION),
        expert=flags(lambda c: c.matrix.role is MatrixRole.EXPERT),
        shared_expert=flags(lambda c: c.matrix.role is MatrixRole.SHARED_EXPERT),
        multiplied=flags(lambda c: c.matrix.role is not MatrixRole.EMBEDDING),
        sampled=flags(lambda c: c.matrix.role is MatrixRole.HEAD),
    )


def _attention_arrays(models: Sequence[Sequence[LayerGroup]]) -> AttentionArrays:
    width = max(len(groups) for groups in models)

    def table(of: Callable[[Attention], float], fill: float = 0.0) -> Floats:
        """Return a figure of every layer group, shape (models, width), padded with ``fill``."""
        padded = np.full((len(models), width), fill)
        for row, groups in enumerate(models):
            padded[row, : len(groups)] = [of(group.attention) for group in groups]
        return padded

    layers = np.zeros((len(models), width))
    for row, groups in enumerate(models):
        layers[row, : len(groups)] = [group.count for group in groups]
    return AttentionArrays(
        layers=layers,
        heads=table(lambda a: 0.0 if a.kind is AttentionKind.LINEAR else a.heads),
        kv_heads=table(lambda a: a.kv_heads, 1.0),
        window=table(_look_back, np.inf),
        state=table(lambda a: a.state_values_per_sequence),
        recurrent=table(lambda a: a.recurrent_values_per_sequence),
        state_width=table(lambda a: a.state_value_bytes, 2.0),
        padded=_padding(models, width),
        decode_dims=table(_decode_dims),
        prefill_dims=table(
            lambda a: (a.head_dim + a.rope_head_dim + a.value_head_dim) / a.compression
        ),
        index_dims=table(lambda a: a.index_heads * a.index_head_dim),
        index_width=table(lambda a: a.index_head_dim),
        scan_flops=table(_scan_flops),
        latent=table(lambda a: float(a.kind is AttentionKind.MLA)) > 0,
        keeps_all=table(lambda a: float(a.window is None)) > 0,
    )


def _padding(models: Sequence[Sequence[LayerGroup]], width: int) -> Floats:
    """Return how much more than its layers a cache pool in groups of one size allocates.

    vLLM 0.32 ``kv_cache_utils._get_kv_cache_groups_uniform_page_size``: the rarest kind of layer
    sets the size, unless the most frequent one is less than half as frequent again. The last group
    of each kind is padded.
    """
    factors = np.ones((len(models), width))
    for row, groups in enumerate(models):
        kinds = Counter[tuple[AttentionKind, int | None]]()
        for group in groups:
            kinds[group.attention.kind, group.attention.window] += group.count
        least, most = min(kinds.values()), max(kinds.values())
        size = most if most < 1.5 * least else least
        padded = {kind: math.ceil(count / size) * size / count for kind, count in kinds.items()}
        factors[row, : len(groups)] = [
            padded[group.attention.kind, group.attention.window] for group in groups
        ]
    return factors


def _look_back(attention: Attention) -> float:
    return float(attention.window or attention.index_topk or np.inf)


def _scan_flops(attention: Attention) -> float:
    """Return the FLOPs of a prompt token in a gated delta network: 2 for each value and pass.

    Mamba-2 takes a sixth of the time by its kernel timings and counts as none.
    """
    is_delta = attention.gates_per_head == DELTA_GATES
    return 2.0 * DELTA_PASSES * attention.recurrent_values_per_sequence if is_delta else 0.0


def _decode_dims(attention: Attention) -> float:
    if attention.kind is AttentionKind.MLA:
        return (2 * attention.kv_lora_rank + attention.rope_head_dim) / attention.compression
    return attention.head_dim + attention.value_head_dim


@lru_cache(maxsize=64)
def stored_bytes(
    architectures: tuple[Architecture, ...], precisions: tuple[Precision, ...]
) -> Floats:
    """Return bytes per value of every matrix, shape (models, precisions, columns)."""
    return _per_column(architectures, precisions, Architecture.stored_bytes)


@lru_cache(maxsize=64)
def cached_bytes(
    architectures: tuple[Architecture, ...], precisions: tuple[Precision, ...]
) -> Floats:
    """Return the bytes a token leaves in one layer's cache, (models, precisions, columns)."""
    groups = [
        [*architecture.encoder_layers, *architecture.layers] for architecture in architectures
    ]
    result = np.zeros((len(architectures), len(precisions), max(len(each) for each in groups)))
    for row, each in enumerate(groups):
        for which, precision in enumerate(precisions):
            result[row, which, : len(each)] = [
                group.attention.cache_bytes_per_token(precision) for group in each
            ]
    return result


@lru_cache(maxsize=64)
def compute_formats(
    architectures: tuple[Architecture, ...], precisions: tuple[Precision, ...]
) -> Floats:
    """Return the index into `Precision` of the format each matrix is multiplied in.

    Shape (models, precisions, columns).
    """
    order = {precision: index for index, precision in enumerate(Precision)}

    def index(architecture: Architecture, matrix: Matrix, precision: Precision) -> float:
        """Return the position in `Precision` of the format this matrix is multiplied in."""
        return float(order[compute_format(architecture.stored_precision(matrix, precision))])

    return _per_column(architectures, precisions, index)


def _per_column(
    architectures: Sequence[Architecture],
    precisions: Sequence[Precision],
    of: Callable[[Architecture, Matrix, Precision], float],
) -> Floats:
    models = [_columns(architecture) for architecture in architectures]
    width = max(len(columns) for columns in models)
    result = np.zeros((len(models), len(precisions), width))
    for row, (architecture, columns) in enumerate(zip(architectures, models, strict=True)):
        for which, precision in enumerate(precisions):
            result[row, which, : len(columns)] = [
                of(architecture, column.matrix, precision) for column in columns
            ]
    return result
