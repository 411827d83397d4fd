"""A model's shape as frozen values: layers, attention, experts; the matrices, parameters and cache sizes that follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from budsim.commons.precision import Precision, bytes_per_value


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A weight matrix of ``inputs`` x ``outputs`` values, ``copies`` of it side by side (experts).

    ``kv_outputs`` of the outputs belong to key and value heads, which tensor parallelism repeats
    once it exceeds the number of KV heads.
    """

    name: str
    role: MatrixRole
    inputs: int
    outputs: int
    shard: Shard
    copies: int = 1
    kv_outputs: int = 0

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
    ``gates_per_head`` counts the scalars a linear layer projects for each head: 2 for a gated delta network (beta and decay),
    1 for Mamba-2 (step size), 0 for lightning attention.
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

    @property
    def cached_values_per_token(self) -> int:
        """Values the KV cache holds for one token in one layer, all heads, before any replication by TP."""
        if self.kind is AttentionKind.LINEAR:
            return 0
        if self.kind is AttentionKind.MLA:
            return self.kv_lora_rank + self.rope_head_dim + self.index_head_dim
        return self.kv_heads * (self.head_dim + self.value_head_dim)

    @property
    def state_values_per_sequence(self) -> int:
        """Values of recurrent state one sequence holds in one layer (linear attention), all heads."""
        if self.kind is not AttentionKind.LINEAR:
            return 0
        channels = 2 * self.kv_heads * self.head_dim + self.heads * self.value_head_dim
        return self.heads * self.head_dim * self.value_head_dim + channels * max(0, self.conv_kernel - 1)

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the projections of one layer for a model of width ``hidden``."""
        builders = {AttentionKind.MLA: self._mla_matrices, AttentionKind.LINEAR: self._linear_matrices}
        return builders.get(self.kind, self._grouped_matrices)(hidden)

    def _grouped_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        query = self.heads * self.head_dim * (2 if self.output_gate else 1)
        kv = self.kv_heads * (self.head_dim + self.value_head_dim)
        return (
            _projection("qkv", hidden, query + kv, Shard.COLUMN, kv_outputs=kv),
            _projection("o", self.heads * self.value_head_dim, hidden, Shard.ROW),
        )

    def _mla_matrices(self, hidden: int) -> tuple[Matrix, ...]:
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
            *self._indexer_matrices(hidden),
        )

    def _indexer_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        if not self.index_heads:
            return ()
        query_inputs = self.q_lora_rank or hidden
        return (
            _projection("index_q", query_inputs, self.index_heads * self.index_head_dim, Shard.REPLICATED),
            _projection("index_k", hidden, self.index_head_dim + self.index_heads, Shard.REPLICATED),
        )

    def _linear_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        keys = self.kv_heads * self.head_dim
        values = self.heads * self.value_head_dim
        gate = values if self.output_gate else 0
        return (
            _projection("qkvz", hidden, 2 * keys + values + gate, Shard.COLUMN),
            *((_projection("ba", hidden, self.gates_per_head * self.heads, Shard.COLUMN),) if self.gates_per_head else ()),
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
        shared = self._pair("shared_", hidden, self.shared_width, MatrixRole.SHARED_EXPERT, 1) if self.shared_width else ()
        inner = self.expert_hidden or hidden
        experts = self._pair("expert_", inner, self.width, MatrixRole.EXPERT, self.experts)
        return (router, *shared, *self._latent_projections(hidden), *experts)

    def _latent_projections(self, hidden: int) -> tuple[Matrix, ...]:
        if not self.expert_hidden:
            return ()
        role, shard = MatrixRole.SHARED_EXPERT, Shard.REPLICATED
        return (
            Matrix(name="latent_down", role=role, inputs=hidden, outputs=self.expert_hidden, shard=shard),
            Matrix(name="latent_up", role=role, inputs=self.expert_hidden, outputs=hidden, shard=shard),
        )

    def _pair(self, prefix: str, hidden: int, width: int, role: MatrixRole, copies: int) -> tuple[Matrix, ...]:
        up = width * (2 if self.gated else 1)
        return (
            Matrix(name=prefix + "up", role=role, inputs=hidden, outputs=up, shard=Shard.COLUMN, copies=copies),
            Matrix(name=prefix + "down", role=role, inputs=width, outputs=hidden, shard=Shard.ROW, copies=copies),
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
    """

    method: str
    precision: Precision
    kept_16bit: frozenset[MatrixRole] = frozenset({MatrixRole.EMBEDDING, MatrixRole.HEAD, MatrixRole.ROUTER})
    kept_names: frozenset[str] = frozenset()
    block: int = 0

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
    position_embeddings : int
        Learned absolute positions, 0 for rotary or ALiBi.
    extra_parameters : int
        Weights outside the matrices: norms, biases, vision towers, poolers.
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
    position_embeddings: int = 0
    extra_parameters: int = 0
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
                per_expert = sum(m.values for m in ff.matrices(self.hidden_size) if m.role is MatrixRole.EXPERT) // ff.experts
                idle += group.count * per_expert * (ff.experts - ff.experts_per_token)
        return self.parameters - idle

    @property
    def is_moe(self) -> bool:
        """Whether any layer routes tokens to experts."""
        return any(group.feed_forward is not None and group.feed_forward.experts > 0 for group in self.layers)

    @property
    def attention_heads(self) -> int:
        """Query heads tensor parallelism must divide: the attention layers', else the linear ones'."""
        attending = [group.attention.heads for group in self.layers if group.attention.kind is not AttentionKind.LINEAR]
        return max(attending or [group.attention.heads for group in self.layers])

    def stored_precision(self, matrix: Matrix, precision: Precision) -> Precision:
        """Return the format ``matrix`` is stored in when the model is run at ``precision``.

        Quantizers leave embeddings, output head and router in 16 bit, and what the checkpoint's own configuration names.
        """
        if bytes_per_value(precision) >= 2.0:
            return precision
        quantization = self.quantization or Quantization(method="", precision=precision)
        kept = quantization.keeps(matrix)
        return Precision.BF16 if kept else precision

    def weight_bytes(self, precision: Precision) -> float:
        """Return the bytes of all weights at ``precision``, the groups quantizers leave alone in 16 bit."""
        stored = sum(
            count * matrix.values * bytes_per_value(self.stored_precision(matrix, precision)) for count, matrix in self.weights
        )
        return stored + self.extra_parameters * 2.0

    def kv_bytes_per_token(self, precision: Precision) -> float:
        """Return the KV cache bytes one token takes in all layers, without replication; sliding windows count in full."""
        values = sum(group.count * group.attention.cached_values_per_token for group in self.layers)
        return values * bytes_per_value(precision)

    def state_bytes_per_sequence(self) -> float:
        """Return the recurrent state (linear attention) one sequence holds, in 16 bit."""
        return 2.0 * sum(group.count * group.attention.state_values_per_sequence for group in self.layers)


def _projection(name: str, inputs: int, outputs: int, shard: Shard, kv_outputs: int = 0) -> Matrix:
    return Matrix(
        name=name,
        role=MatrixRole.ATTENTION,
        inputs=inputs,
        outputs=outputs,
        shard=shard,
        kv_outputs=kv_outputs,
    )
