"""One layer of a model: attention and feed-forward part, their matrices and cache sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from budsim.commons.precision import Precision, bytes_per_value
from budsim.model_ops.matrices import Matrix, MatrixRole, Shard, projection

# Values of an indexer's key that share one fp32 scale (vLLM 0.32 ``fp8_ds_mla``).
INDEX_BLOCK = 128
# DeepSeek V4 makes each entry of four tokens from eight tokens, so its projection is twice as wide
# (vLLM 0.33 ``models/deepseek_v4/compressor.py``).
OVERLAPPED_COMPRESSION = 4


class AttentionKind(StrEnum):
    """How a layer looks back at earlier tokens."""

    FULL = "full"
    SLIDING = "sliding"
    MLA = "mla"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """How one layer mixes tokens.

    Attributes
    ----------
    kind : AttentionKind
        ``FULL`` and ``SLIDING`` cache keys and values; ``MLA`` caches a compressed latent and the
        shared rotary key; ``LINEAR`` (gated delta networks, Mamba, short convolutions) keeps a
        state of fixed size for each sequence.
    heads, kv_heads : int
        Query heads and key-value heads; value heads and key heads of a ``LINEAR`` layer.
    head_dim, value_head_dim : int
        Width of a key head and of a value head.
    window : int or None
        Number of tokens a ``SLIDING`` layer sees.
    q_lora_rank, kv_lora_rank, rope_head_dim : int
        ``MLA`` only: widths of the query latent, the cached latent and the shared rotary key.
    output_gate : bool
        Whether the output is multiplied by a projection of the layer's input.
    conv_kernel : int
        ``LINEAR`` only: tokens its convolution spans; 0 means none.
    index_heads, index_head_dim, index_topk : int
        Sparse indexer (DeepSeek Sparse Attention): its heads, their width, and the number of tokens
        it selects.
    gates_per_head : int
        ``LINEAR`` only: scalars projected for each head. 2 for a gated delta network (beta and
        decay), 1 for Mamba-2 (step size), 0 for lightning attention.
    state_value_bytes : int
        ``LINEAR`` only: bytes of a value of the recurrent state, as the configuration asks.
    compression : int
        Number of tokens one cache entry stands for (DeepSeek V4).
    shares_cache : bool
        Whether the layer reads the cache of an earlier layer and stores nothing of its own; with
        grouped attention it projects no keys and values either.
    o_groups, o_lora_rank : int
        The output is projected down in ``o_groups`` groups of heads to ``o_lora_rank`` values each,
        then up (DeepSeek V4); 0 means one projection.
    input_hiddens : int
        Hidden sizes that queries, keys and values are projected from: 2 where the token's embedding
        stands beside the layer's input (Zamba2).
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
    conv_kernel: int = 0
    index_heads: int = 0
    index_head_dim: int = 0
    index_topk: int | None = None
    gates_per_head: int = 2
    state_value_bytes: int = 2
    compression: int = 1
    o_groups: int = 0
    o_lora_rank: int = 0
    shares_cache: bool = False
    input_hiddens: int = 1

    def cache_bytes_per_token(self, precision: Precision) -> float:
        """Return the KV cache bytes of one token in one layer, before parallelism repeats them.

        Beside a latent, the keys of a sparse indexer are 8 bit with an fp32 scale for each
        `INDEX_BLOCK` in every cache format. An fp8 latent then keeps its rotary part in 16 bit and
        has a scale for as many values (vLLM 0.32 ``fp8_ds_mla``: 656 bytes, indexer cache 132;
        SGLang 0.5.23 alike). Beside grouped attention an index has the format of the cache.
        """
        width = bytes_per_value(precision)
        if self.kind is AttentionKind.LINEAR or self.shares_cache:
            return 0.0
        if self.kind is not AttentionKind.MLA:
            values = self.kv_heads * (self.head_dim + self.value_head_dim) + self.index_head_dim
            return values * width
        has_scales = (self.index_heads > 0 or self.o_lora_rank > 0) and width < 2.0
        scales = 4.0 * self.kv_lora_rank / INDEX_BLOCK if has_scales else 0.0
        rotary = self.rope_head_dim * (2.0 if has_scales else width)
        latent = self.kv_lora_rank * width + scales + rotary
        return (latent + _index_key_bytes(self.index_head_dim)) / self.compression

    @property
    def recurrent_values_per_sequence(self) -> int:
        """Values of the matrix a linear layer carries from token to token, all heads."""
        if self.kind is not AttentionKind.LINEAR:
            return 0
        return self.heads * self.head_dim * self.value_head_dim

    @property
    def convolved_values_per_sequence(self) -> int:
        """Values of earlier tokens that a linear layer's convolution keeps."""
        if self.kind is not AttentionKind.LINEAR:
            return 0
        channels = 2 * self.kv_heads * self.head_dim + self.heads * self.value_head_dim
        return channels * max(0, self.conv_kernel - 1)

    @property
    def state_values_per_sequence(self) -> int:
        """Values of recurrent state one sequence holds in one layer, all heads."""
        return self.recurrent_values_per_sequence + self.convolved_values_per_sequence

    def state_bytes_per_sequence(self, least: float = 2.0) -> float:
        """Return the bytes of that state.

        The recurrent part takes at least ``least`` bytes a value, the convolution two.
        """
        recurrent = self.recurrent_values_per_sequence * max(least, float(self.state_value_bytes))
        return recurrent + 2.0 * self.convolved_values_per_sequence

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the projections of one layer for a model of width ``hidden``."""
        if self.kind is AttentionKind.LINEAR:
            return self._linear_matrices(hidden)
        if self.kind is not AttentionKind.MLA:
            return self._grouped_matrices(hidden)
        return self._compressed_matrices(hidden) if self.o_lora_rank else self._mla_matrices(hidden)

    def _grouped_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        query = self.heads * self.head_dim * (2 if self.output_gate else 1)
        own = not self.shares_cache
        kv = self.kv_heads * (self.head_dim + self.value_head_dim) * own
        source = hidden * self.input_hiddens
        if self.q_lora_rank:
            return (
                projection("q_kv_down", hidden, self.q_lora_rank + kv, Shard.REPLICATED),
                projection("q_up", self.q_lora_rank, query, Shard.COLUMN),
                projection("o", self.heads * self.value_head_dim, hidden, Shard.ROW),
            )
        return (
            projection("qkv", source, query + kv, Shard.COLUMN, kv_outputs=kv, parts=3),
            projection("o", self.heads * self.value_head_dim, hidden, Shard.ROW),
            *self._indexer_matrices(hidden, self.index_head_dim),
        )

    def _mla_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        values = self.heads * self.value_head_dim
        up = self.heads * self.head_dim + values
        gate = (projection("gate", hidden, values, Shard.COLUMN),) if self.output_gate else ()
        return (
            *self._latent_query_matrices(hidden),
            projection("kv_up", self.kv_lora_rank, up, Shard.COLUMN),
            projection("o", values, hidden, Shard.ROW),
            *gate,
            *self._indexer_matrices(hidden, self.index_head_dim + self.index_heads),
        )

    def _latent_query_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        query = self.heads * (self.head_dim + self.rope_head_dim)
        latent = self.kv_lora_rank + self.rope_head_dim
        # The latent is needed whole on every rank: its projection is not split.
        if not self.q_lora_rank:
            return (
                projection("kv_down", hidden, latent, Shard.REPLICATED),
                projection("q", hidden, query, Shard.COLUMN),
            )
        return (
            projection("q_kv_down", hidden, self.q_lora_rank + latent, Shard.REPLICATED),
            projection("q_up", self.q_lora_rank, query, Shard.COLUMN),
        )

    def _compressed_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the matrices of DeepSeek V4: keys and values share one latent."""
        entry, rank = self.kv_lora_rank + self.rope_head_dim, self.q_lora_rank or hidden
        overlap = 2 if self.compression == OVERLAPPED_COMPRESSION else 1
        outputs = 2 * overlap * entry
        compress = projection("compress", hidden, outputs, Shard.REPLICATED)
        return (
            projection("q_kv_down", hidden, rank + entry, Shard.REPLICATED),
            projection("q_up", rank, self.heads * entry, Shard.COLUMN),
            projection("o_down", self.heads * entry, self.o_lora_rank, Shard.ROW),
            projection("o", self.o_groups * self.o_lora_rank, hidden, Shard.ROW),
            *((compress,) if self.compression > 1 and not self.shares_cache else ()),
            *self._indexer_matrices(hidden, 2 * overlap * self.index_head_dim + self.index_heads),
        )

    def _indexer_matrices(self, hidden: int, key_outputs: int) -> tuple[Matrix, ...]:
        if not self.index_heads:
            return ()
        inputs, queries = self.q_lora_rank or hidden, self.index_heads * self.index_head_dim
        return (
            projection("index_q", inputs, queries, Shard.REPLICATED),
            projection("index_k", hidden, key_outputs, Shard.REPLICATED),
        )

    def _linear_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        keys = self.kv_heads * self.head_dim
        values = self.heads * self.value_head_dim
        # Engines fuse queries, keys, values and gate into one matrix.
        gate = values if self.output_gate else 0
        scalars = projection("ba", hidden, self.gates_per_head * self.heads, Shard.COLUMN)
        return (
            projection("qkvz", hidden, 2 * keys + values + gate, Shard.COLUMN),
            *((scalars,) if self.gates_per_head else ()),
            projection("o", values, hidden, Shard.ROW),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """The feed-forward part of one layer: dense, or routed experts with shared experts beside them.

    Attributes
    ----------
    width : int
        Inner width of the dense part, or of one routed expert.
    gated : bool
        Whether it has three matrices (SwiGLU) instead of two.
    experts, experts_per_token : int
        Number of routed experts and how many of them a token visits; 0 experts means dense.
    shared_width : int
        Inner width of all shared experts together.
    expert_hidden : int
        Width routed experts work in, behind a projection down and up; 0 means the model's width.
    """

    width: int
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    shared_width: int = 0
    expert_hidden: int = 0

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the matrices of one layer for a model of width ``hidden``."""
        if not self.experts:
            return self._up_and_down("", hidden, self.width, MatrixRole.DENSE)
        router = Matrix(
            name="router",
            role=MatrixRole.ROUTER,
            inputs=hidden,
            outputs=self.experts,
            shard=Shard.REPLICATED,
        )
        shared = self._up_and_down("shared_", hidden, self.shared_width, MatrixRole.SHARED_EXPERT)
        inner = self.expert_hidden or hidden
        experts = self._up_and_down("expert_", inner, self.width, MatrixRole.EXPERT, self.experts)
        return (
            router,
            *(shared if self.shared_width else ()),
            *self._latent_projections(hidden),
            *experts,
        )

    def _latent_projections(self, hidden: int) -> tuple[Matrix, ...]:
        if not self.expert_hidden:
            return ()
        role, shard, inner = MatrixRole.SHARED_EXPERT, Shard.REPLICATED, self.expert_hidden
        return (
            Matrix(name="latent_down", role=role, inputs=hidden, outputs=inner, shard=shard),
            Matrix(name="latent_up", role=role, inputs=inner, outputs=hidden, shard=shard),
        )

    def _up_and_down(
        self, prefix: str, hidden: int, width: int, role: MatrixRole, copies: int = 1
    ) -> tuple[Matrix, ...]:
        # Engines fuse gate and up projection into one matrix.
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
    """``count`` layers of the same shape.

    ``cross_attention`` exists only in the decoder of an encoder-decoder model. Layers that
    ``repeat`` run the weights of other layers again: they work and keep a cache, and store nothing.
    """

    count: int
    attention: Attention
    feed_forward: FeedForward | None
    cross_attention: Attention | None = None
    repeat: bool = False

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the matrices of one layer."""
        cross = self.cross_attention.matrices(hidden) if self.cross_attention else ()
        feed_forward = self.feed_forward.matrices(hidden) if self.feed_forward else ()
        return (*self.attention.matrices(hidden), *cross, *feed_forward)


def _index_key_bytes(values: int) -> float:
    """Return the bytes of an indexer's 8-bit key with its fp32 scales."""
    return values + 4.0 * math.ceil(values / INDEX_BLOCK)
