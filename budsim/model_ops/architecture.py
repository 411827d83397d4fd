"""A model's shape as frozen values: layers, attention, experts; the matrices, parameters and cache sizes that follow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from budsim.commons.precision import FORMATS, Precision, bytes_per_value

INDEX_BLOCK = 128
OVERLAPPED_COMPRESSION = 4
"""DeepSeek V4 makes each entry of four tokens from eight (vLLM 0.33 ``models/deepseek_v4/compressor.py``)."""


class AttentionKind(StrEnum):
    """How a layer looks back at earlier tokens."""

    FULL = "full"
    SLIDING = "sliding"
    MLA = "mla"
    LINEAR = "linear"


class Shard(StrEnum):
    """How tensor parallelism splits a matrix: by output column, by input row, or not at all."""

    COLUMN = "column"
    ROW = "row"
    REPLICATED = "replicated"


class MatrixRole(StrEnum):
    """What a matrix is for; quantized checkpoints treat the roles differently."""

    ATTENTION = "attention"
    DENSE = "dense"
    SHARED_EXPERT = "shared_expert"
    EXPERT = "expert"
    ROUTER = "router"
    EMBEDDING = "embedding"
    HEAD = "head"


OUTER_ROLES = frozenset({MatrixRole.EMBEDDING, MatrixRole.HEAD, MatrixRole.ROUTER})
"""What quantizers leave in 16 bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A weight matrix of ``inputs`` x ``outputs`` values, ``copies`` of it side by side (experts).

    ``kv_outputs`` of the outputs belong to key and value heads, which tensor parallelism repeats
    once it exceeds the number of KV heads. ``parts`` is how many projections of the checkpoint are one here.
    """

    name: str
    role: MatrixRole
    inputs: int
    outputs: int
    shard: Shard
    copies: int = 1
    kv_outputs: int = 0
    parts: int = 1

    @property
    def values(self) -> int:
        """Number of weights in all copies."""
        return self.inputs * self.outputs * self.copies


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One layer's token mixing.

    For ``LINEAR`` (gated delta networks, Mamba-like) ``heads`` are value heads, ``kv_heads`` key heads, ``head_dim`` the key and
    ``value_head_dim`` the value dimension; the cache is a fixed state per sequence. For ``MLA`` the cache is the
    compressed latent and the shared rotary key. ``index_*`` describe a sparse indexer (DeepSeek Sparse Attention).
    A ``MLA`` layer with ``o_lora_rank`` projects its output down, in ``o_groups`` groups of heads, and up again, and its cache
    holds one entry for ``compression`` tokens (DeepSeek V4); ``output_gate`` is a projection of its own there.
    ``gates_per_head`` counts the scalars a linear layer projects for each head: 2 for a gated delta network (beta and decay),
    1 for Mamba-2 (step size), 0 for lightning attention. ``state_value_bytes`` is what the configuration asks of a linear
    layer's recurrent state (2, or 4 for fp32).
    """

    kind: AttentionKind
    heads: int
    kv_heads: int
    head_dim: int
    value_head_dim: int
    window: int | None = None
    q_lora_rank: int | None = None
    kv_lora_rank: int = 0
    rope_head_dim: int = 0
    output_gate: bool = False
    bias: bool = False
    conv_kernel: int = 0
    index_heads: int = 0
    index_head_dim: int = 0
    index_topk: int | None = None
    gates_per_head: int = 2
    state_value_bytes: int = 2
    compression: int = 1
    o_groups: int = 0
    o_lora_rank: int = 0

    def cache_bytes_per_token(self, precision: Precision) -> float:
        """Return what the KV cache holds for one token in one layer, all heads, before any replication by TP.

        A sparse indexer's keys are 8 bit with an fp32 scale for each `INDEX_BLOCK` in every cache format; beside them an fp8
        latent keeps its rotary part in 16 bit and a scale for as many values (vLLM 0.32 ``fp8_ds_mla``: 656 bytes, indexer
        cache 132; SGLang 0.5.23 alike). Beside grouped attention an index has the cache's format.
        """
        width = bytes_per_value(precision)
        if self.kind is AttentionKind.LINEAR:
            return 0.0
        if self.kind is not AttentionKind.MLA:
            return (
                self.kv_heads * (self.head_dim + self.value_head_dim) + self.index_head_dim
            ) * width
        scaled = (self.index_heads > 0 or self.o_lora_rank > 0) and width < 2.0
        scales, rotary = (4.0 * self.kv_lora_rank / INDEX_BLOCK, 2.0) if scaled else (0.0, width)
        entry = (
            self.kv_lora_rank * width
            + scales
            + self.rope_head_dim * rotary
            + _with_scales(self.index_head_dim)
        )
        return entry / self.compression

    @property
    def recurrent_values_per_sequence(self) -> int:
        """Values of the matrix a linear layer carries from token to token, all heads."""
        return (
            self.heads * self.head_dim * self.value_head_dim
            if self.kind is AttentionKind.LINEAR
            else 0
        )

    @property
    def convolved_values_per_sequence(self) -> int:
        """Values a linear layer's convolution keeps of earlier tokens."""
        if self.kind is not AttentionKind.LINEAR:
            return 0
        channels = 2 * self.kv_heads * self.head_dim + self.heads * self.value_head_dim
        return channels * max(0, self.conv_kernel - 1)

    @property
    def state_values_per_sequence(self) -> int:
        """Values of recurrent state one sequence holds in one layer (linear attention), all heads."""
        return self.recurrent_values_per_sequence + self.convolved_values_per_sequence

    def state_bytes_per_sequence(self, least: float = 2.0) -> float:
        """Return the bytes of that state; the recurrent part takes at least ``least`` bytes a value, the convolution 16 bit."""
        recurrent = self.recurrent_values_per_sequence * max(least, float(self.state_value_bytes))
        return recurrent + 2.0 * self.convolved_values_per_sequence

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the projections of one layer for a model of width ``hidden``."""
        builders = {
            AttentionKind.MLA: self._mla_matrices,
            AttentionKind.LINEAR: self._linear_matrices,
        }
        return builders.get(self.kind, self._grouped_matrices)(hidden)

    def _grouped_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        query = self.heads * self.head_dim * (2 if self.output_gate else 1)
        kv = self.kv_heads * (self.head_dim + self.value_head_dim)
        return (
            _projection("qkv", hidden, query + kv, Shard.COLUMN, kv_outputs=kv, parts=3),
            _projection("o", self.heads * self.value_head_dim, hidden, Shard.ROW),
            *self._indexer_matrices(hidden, self.index_head_dim),
        )

    def _mla_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        if self.o_lora_rank:
            return self._compressed_matrices(hidden)
        query = self.heads * (self.head_dim + self.rope_head_dim)
        latent = self.kv_lora_rank + self.rope_head_dim
        down = (
            (
                _projection("q_kv_down", hidden, self.q_lora_rank + latent, Shard.REPLICATED),
                _projection("q_up", self.q_lora_rank, query, Shard.COLUMN),
            )
            if self.q_lora_rank
            else (
                _projection("kv_down", hidden, latent, Shard.REPLICATED),
                _projection("q", hidden, query, Shard.COLUMN),
            )
        )
        up = self.heads * (self.head_dim + self.value_head_dim)
        return (
            *down,
            _projection("kv_up", self.kv_lora_rank, up, Shard.COLUMN),
            _projection("o", self.heads * self.value_head_dim, hidden, Shard.ROW),
            *(
                (_projection("gate", hidden, self.heads * self.value_head_dim, Shard.COLUMN),)
                if self.output_gate
                else ()
            ),
            *self._indexer_matrices(hidden, self.index_head_dim + self.index_heads),
        )

    def _compressed_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return DeepSeek V4's: one latent for keys and values, an output in two steps, and what compresses cache entries."""
        entry, rank = self.kv_lora_rank + self.rope_head_dim, self.q_lora_rank or hidden
        overlap = 2 if self.compression == OVERLAPPED_COMPRESSION else 1
        compress = (
            (_projection("compress", hidden, 2 * overlap * entry, Shard.REPLICATED),)
            if self.compression > 1
            else ()
        )
        return (
            _projection("q_kv_down", hidden, rank + entry, Shard.REPLICATED),
            _projection("q_up", rank, self.heads * entry, Shard.COLUMN),
            _projection("o_down", self.heads * entry, self.o_lora_rank, Shard.ROW),
            _projection("o", self.o_groups * self.o_lora_rank, hidden, Shard.ROW),
            *compress,
            *self._indexer_matrices(hidden, 2 * overlap * self.index_head_dim + self.index_heads),
        )

    def _indexer_matrices(self, hidden: int, key_outputs: int) -> tuple[Matrix, ...]:
        if not self.index_heads:
            return ()
        query_inputs = self.q_lora_rank or hidden
        return (
            _projection(
                "index_q", query_inputs, self.index_heads * self.index_head_dim, Shard.REPLICATED
            ),
            _projection("index_k", hidden, key_outputs, Shard.REPLICATED),
        )

    def _linear_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        keys = self.kv_heads * self.head_dim
        values = self.heads * self.value_head_dim
        gate = values if self.output_gate else 0
        return (
            _projection("qkvz", hidden, 2 * keys + values + gate, Shard.COLUMN),
            *(
                (_projection("ba", hidden, self.gates_per_head * self.heads, Shard.COLUMN),)
                if self.gates_per_head
                else ()
            ),
            _projection("o", values, hidden, Shard.ROW),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """One layer's channel mixing: dense, or routed experts with shared ones beside them.

    ``gated`` layers (SwiGLU) have three matrices, others two. ``experts`` 0 means dense of width ``width``; otherwise ``width``
    is one expert's and ``shared_width`` that of all shared experts together. ``expert_hidden`` is the narrower width routed
    experts work in behind a projection down and up (latent experts), 0 where they work in the model's own.
    """

    width: int
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    shared_width: int = 0
    bias: bool = False
    expert_hidden: int = 0

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the matrices of one layer for a model of width ``hidden``."""
        if not self.experts:
            return self._pair("", hidden, self.width, MatrixRole.DENSE, 1)
        router = Matrix(
            name="router",
            role=MatrixRole.ROUTER,
            inputs=hidden,
            outputs=self.experts,
            shard=Shard.REPLICATED,
        )
        shared = (
            self._pair("shared_", hidden, self.shared_width, MatrixRole.SHARED_EXPERT, 1)
            if self.shared_width
            else ()
        )
        inner = self.expert_hidden or hidden
        experts = self._pair("expert_", inner, self.width, MatrixRole.EXPERT, self.experts)
        return (router, *shared, *self._latent_projections(hidden), *experts)

    def _latent_projections(self, hidden: int) -> tuple[Matrix, ...]:
        if not self.expert_hidden:
            return ()
        role, shard = MatrixRole.SHARED_EXPERT, Shard.REPLICATED
        return (
            Matrix(
                name="latent_down",
                role=role,
                inputs=hidden,
                outputs=self.expert_hidden,
                shard=shard,
            ),
            Matrix(
                name="latent_up", role=role, inputs=self.expert_hidden, outputs=hidden, shard=shard
            ),
        )

    def _pair(
        self, prefix: str, hidden: int, width: int, role: MatrixRole, copies: int
    ) -> tuple[Matrix, ...]:
        parts = 2 if self.gated else 1
        return (
            Matrix(
                name=prefix + "up",
                role=role,
                inputs=hidden,
                outputs=width * parts,
                shard=Shard.COLUMN,
                copies=copies,
                parts=parts,
            ),
            Matrix(
                name=prefix + "down",
                role=role,
                inputs=width,
                outputs=hidden,
                shard=Shard.ROW,
                copies=copies,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """``count`` layers of the same shape; ``cross_attention`` only in the decoder of an encoder-decoder model."""

    count: int
    attention: Attention
    feed_forward: FeedForward | None
    cross_attention: Attention | None = None
    norm_parameters: int = 0

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the matrices of one layer."""
        cross = self.cross_attention.matrices(hidden) if self.cross_attention else ()
        feed_forward = self.feed_forward.matrices(hidden) if self.feed_forward else ()
        return (*self.attention.matrices(hidden), *cross, *feed_forward)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How a checkpoint was quantized: the method's name, the format, and which roles and single matrices it left in 16 bit.

    ``block`` is the edge of the square blocks of weights that share a scale, 0 where scales belong to rows or whole matrices.
    ``bits`` is what one value takes with its share of scales and zero points, where the checkpoint says how many share them.
    ``rest`` is the format of other roles kept: 16 bit, or FP8 where experts alone are shorter.
    """

    method: str
    precision: Precision
    rest: Precision = Precision.BF16
    kept_16bit: frozenset[MatrixRole] = OUTER_ROLES
    kept_names: frozenset[str] = frozenset()
    block: int = 0
    bits: float | None = None

    def keeps(self, matrix: Matrix) -> bool:
        """Return whether a matrix was left in 16 bit."""
        return matrix.role in self.kept_16bit or matrix.name in self.kept_names


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model's shape.

    Attributes
    ----------
    model_id : str
        Canonical Hugging Face id.
    family : str
        Class name the checkpoint declares (``LlamaForCausalLM``): what engines decide support by.
    layers : tuple of LayerGroup
        Decoder layers (or the encoder's, of an encoder-only model).
    encoder_layers : tuple of LayerGroup
        Encoder of an encoder-decoder model.
    is_embedding : bool
        Whether it answers with a vector or a score (embedding, reranking, classification, reward): no output head, no tokens.
    is_bidirectional : bool
        Whether every token of a prompt attends to every other, as encoders do.
    position_embeddings : int
        Learned absolute positions, 0 for rotary or ALiBi.
    extra_parameters : int
        Weights outside the matrices: norms, biases, vision towers, poolers.
    rotary_values : int
        Sines and cosines of rotary positions, which engines compute when they load the model and hold on every rank.
    native_precision : Precision
        Format of the published weights.
    """

    model_id: str
    family: str
    hidden_size: int
    vocab_size: int
    max_context_tokens: int
    layers: tuple[LayerGroup, ...]
    native_precision: Precision
    tied_embeddings: bool = False
    encoder_layers: tuple[LayerGroup, ...] = ()
    is_embedding: bool = False
    is_bidirectional: bool = False
    position_embeddings: int = 0
    extra_parameters: int = 0
    rotary_values: int = 0
    quantization: Quantization | None = None

    @cached_property
    def embedding_matrices(self) -> tuple[Matrix, ...]:
        """Token table and, unless tied or an embedding model, the output head."""
        table = Matrix(
            name="embedding",
            role=MatrixRole.EMBEDDING,
            inputs=self.vocab_size + self.position_embeddings,
            outputs=self.hidden_size,
            shard=Shard.ROW,
        )
        if self.tied_embeddings or self.is_embedding:
            return (table,)
        return (table, self.head_matrix)

    @cached_property
    def head_matrix(self) -> Matrix:
        """Projection onto the vocabulary; multiplied at every sampled position, tied or not."""
        return Matrix(
            name="lm_head",
            role=MatrixRole.HEAD,
            inputs=self.hidden_size,
            outputs=self.vocab_size,
            shard=Shard.COLUMN,
        )

    @cached_property
    def weights(self) -> tuple[tuple[int, Matrix], ...]:
        """Every stored matrix with the number of layers that hold one like it."""
        return (*((1, matrix) for matrix in self.embedding_matrices), *self._layer_matrices())

    def _layer_matrices(self) -> Iterator[tuple[int, Matrix]]:
        for group in (*self.encoder_layers, *self.layers):
            for matrix in group.matrices(self.hidden_size):
                yield group.count, matrix

    @cached_property
    def layer_count(self) -> int:
        """Number of decoder layers (encoder layers of an encoder-only model)."""
        return sum(group.count for group in self.layers)

    @cached_property
    def parameters(self) -> int:
        """All weights, as model cards count them."""
        return self.extra_parameters + sum(count * matrix.values for count, matrix in self.weights)

    @cached_property
    def active_parameters(self) -> int:
        """Weights one token is multiplied with: all but the experts it is not routed to."""
        idle = 0
        for group in self.layers:
            ff = group.feed_forward
            if ff and ff.experts:
                per_expert = (
                    sum(
                        m.values
                        for m in ff.matrices(self.hidden_size)
                        if m.role is MatrixRole.EXPERT
                    )
                    // ff.experts
                )
                idle += group.count * per_expert * (ff.experts - ff.experts_per_token)
        return self.parameters - idle

    @property
    def is_moe(self) -> bool:
        """Whether any layer routes tokens to experts."""
        return any(
            group.feed_forward is not None and group.feed_forward.experts > 0
            for group in self.layers
        )

    @property
    def attention_heads(self) -> int:
        """Query heads tensor parallelism must divide: the attention layers', else the linear ones'."""
        attending = [
            group.attention.heads
            for group in self.layers
            if group.attention.kind is not AttentionKind.LINEAR
        ]
        return max(attending or [group.attention.heads for group in self.layers])

    def stored_precision(self, matrix: Matrix, precision: Precision) -> Precision:
        """Return the format ``matrix`` is stored in when the model is run at ``precision``.

        Quantizers leave embeddings, output head and router in 16 bit, and what the checkpoint's own configuration names;
        llama.cpp's have a format for embeddings and head.
        """
        if (outer := FORMATS[precision].outer) and matrix.role in (
            MatrixRole.EMBEDDING,
            MatrixRole.HEAD,
        ):
            return outer
        if bytes_per_value(precision) >= 2.0:
            return precision
        quantization = self.quantization or Quantization(method="", precision=precision)
        if not quantization.keeps(matrix):
            return precision
        whole = (
            matrix.role in OUTER_ROLES
            or matrix.name in quantization.kept_names
            or precision is not quantization.precision
        )
        return Precision.BF16 if whole else quantization.rest

    def stored_bytes(self, matrix: Matrix, precision: Precision) -> float:
        """Return the bytes one value of ``matrix`` takes when the model is run at ``precision``, scales included."""
        stored = self.stored_precision(matrix, precision)
        made = self.quantization
        return (
            made.bits / 8.0
            if made and made.bits and made.precision is stored
            else bytes_per_value(stored)
        )

    def weight_bytes(self, precision: Precision) -> float:
        """Return the bytes of all weights at ``precision``, the groups quantizers leave alone in 16 bit."""
        stored = sum(
            count * matrix.values * self.stored_bytes(matrix, precision)
            for count, matrix in self.weights
        )
        return stored + self.extra_parameters * 2.0

    def kv_bytes_per_token(self, precision: Precision) -> float:
        """Return the KV cache bytes one token takes in all layers, without replication; sliding windows count in full."""
        return sum(
            group.count * group.attention.cache_bytes_per_token(precision) for group in self.layers
        )

    def state_bytes_per_sequence(self) -> float:
        """Return the recurrent state (linear attention) one sequence holds, in the format the configuration asks for."""
        return sum(
            group.count * group.attention.state_bytes_per_sequence() for group in self.layers
        )


def _with_scales(values: int) -> float:
    return values + 4.0 * math.ceil(values / INDEX_BLOCK)


def _projection(
    name: str, inputs: int, outputs: int, shard: Shard, kv_outputs: int = 0, parts: int = 1
) -> Matrix:
    return Matrix(
        name=name,
        role=MatrixRole.ATTENTION,
        inputs=inputs,
        outputs=outputs,
        shard=shard,
        kv_outputs=kv_outputs,
        parts=parts,
    )
