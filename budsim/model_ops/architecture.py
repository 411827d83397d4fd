"""A model as a frozen value: its layers, parameters, weight bytes and cache bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from budsim.commons.precision import FORMATS, Precision, bytes_per_value
from budsim.model_ops.encoders import TEXT, Encoders
from budsim.model_ops.layers import LayerGroup
from budsim.model_ops.matrices import OUTER_ROLES, Matrix, MatrixRole, Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How a checkpoint was quantized.

    Attributes
    ----------
    method : str
        ``quant_method`` of the checkpoint (``awq``, ``fp8``).
    precision : Precision
        Format of the quantized matrices.
    rest : Precision
        Format of the roles in ``kept_16bit``: 16 bit, or FP8 where only experts are shorter.
    kept_16bit : frozenset of MatrixRole
        Roles that were not quantized to ``precision``.
    kept_names : frozenset of str
        Names of single matrices left in 16 bit.
    block : int
        Edge of the square blocks of weights that share a scale; 0 where scales belong to rows or
        whole matrices.
    bits : float or None
        Bits of one value with its share of scales and zero points; ``None`` where the checkpoint
        does not say how many values share them.
    group : int
        Values of one row that share a scale of 4- or 8-bit integers; 0 where a whole row does.
    kv_cache : Precision or None
        Format of the KV cache the checkpoint has scales for, None where it states none.
    """

    method: str
    precision: Precision
    rest: Precision = Precision.BF16
    kept_16bit: frozenset[MatrixRole] = OUTER_ROLES
    kept_names: frozenset[str] = frozenset()
    block: int = 0
    bits: float | None = None
    group: int = 0
    kv_cache: Precision | None = None

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
        Decoder layers; the encoder's layers in an encoder-only model.
    encoder_layers : tuple of LayerGroup
        Encoder of an encoder-decoder model.
    is_embedding : bool
        Whether it answers with a vector or a score (embedding, reranking, classification, reward).
        Such a model has no output head and generates no tokens.
    is_bidirectional : bool
        Whether every token of a prompt attends to every other, as encoders do.
    position_embeddings : int
        Learned absolute positions; 0 for rotary positions or ALiBi.
    layer_inputs : tuple of int
        Rows and columns of a second token table with a vector for each layer (Gemma 3n, Gemma 4 E2B
        and E4B); (0, 0) where there is none.
    extra_parameters : int
        Weights outside the matrices: norms, biases, vision towers, poolers.
    rotary_values : int
        Sines and cosines of rotary positions. Engines compute them at load, on every rank.
    native_precision : Precision
        Format of the published weights.
    encoders : Encoders
        Towers that read images, video and audio.
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
    layer_inputs: tuple[int, int] = (0, 0)
    extra_parameters: int = 0
    rotary_values: int = 0
    quantization: Quantization | None = None
    encoders: Encoders = TEXT

    @cached_property
    def embedding_matrices(self) -> tuple[Matrix, ...]:
        """Token tables and, unless tied or an embedding model, the output head."""
        rows, columns = self.layer_inputs
        second = Matrix(
            name="embedding_per_layer",
            role=MatrixRole.EMBEDDING,
            inputs=rows,
            outputs=columns,
            shard=Shard.ROW,
        )
        tables = (self._token_table, *((second,) if rows else ()))
        # A tied head is the table itself, and an embedding model has none to store.
        if self.tied_embeddings or self.is_embedding:
            return tables
        return (*tables, self.head_matrix)

    @cached_property
    def _token_table(self) -> Matrix:
        return Matrix(
            name="embedding",
            role=MatrixRole.EMBEDDING,
            inputs=self.vocab_size + self.position_embeddings,
            outputs=self.hidden_size,
            shard=Shard.ROW,
        )

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
            if not group.repeat:
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
        """Weights one token of text is multiplied with.

        All but the experts it is not routed to, the table of inputs for each layer, and towers.
        """
        idle = math.prod(self.layer_inputs) + self.encoders.parameters
        idle += sum(self._idle_parameters(group) for group in self.layers)
        return self.parameters - idle

    def _idle_parameters(self, group: LayerGroup) -> int:
        experts = group.feed_forward
        if experts is None or not experts.experts:
            return 0
        matrices = (m for m in experts.matrices(self.hidden_size) if m.role is MatrixRole.EXPERT)
        per_expert = sum(matrix.values for matrix in matrices) // experts.experts
        return group.count * per_expert * (experts.experts - experts.experts_per_token)

    @property
    def reads_encoder(self) -> bool:
        """Whether the decoder reads positions of an encoder that is a tower (Whisper)."""
        crosses = any(group.cross_attention is not None for group in self.layers)
        return crosses and not self.encoder_layers

    @property
    def text_context_tokens(self) -> int:
        """Longest text, as engines are told it: without what a decoder reads of an encoder."""
        return self.position_embeddings if self.reads_encoder else self.max_context_tokens

    @property
    def is_moe(self) -> bool:
        """Whether any layer routes tokens to experts."""
        return any(
            group.feed_forward is not None and group.feed_forward.experts > 0
            for group in self.layers
        )

    def stored_precision(self, matrix: Matrix, precision: Precision) -> Precision:
        """Return the format ``matrix`` is stored in when the model is run at ``precision``.

        Quantizers leave embeddings, output head and router in 16 bit, and the matrices that the
        checkpoint's own configuration names. llama.cpp's formats state one for embeddings and head.
        """
        outer = FORMATS[precision].outer
        if outer and matrix.role in (MatrixRole.EMBEDDING, MatrixRole.HEAD):
            return outer
        # Formats of 16 bit and more are casts of the whole model: nothing is left out.
        if bytes_per_value(precision) >= 2.0:
            return precision
        quantization = self.quantization or Quantization(method="", precision=precision)
        if not quantization.keeps(matrix):
            return precision
        # `rest` is known only for the format the checkpoint itself was quantized to.
        is_16bit = (
            matrix.role in OUTER_ROLES
            or matrix.name in quantization.kept_names
            or precision is not quantization.precision
        )
        return Precision.BF16 if is_16bit else quantization.rest

    def stored_bytes(self, matrix: Matrix, precision: Precision) -> float:
        """Return the bytes of one value of ``matrix`` at ``precision``, scales included."""
        stored = self.stored_precision(matrix, precision)
        quantization = self.quantization
        # The checkpoint's own group size is known: nominal bits would leave out its scales.
        if quantization and quantization.bits and quantization.precision is stored:
            return quantization.bits / 8.0
        return bytes_per_value(stored)

    def weight_bytes(self, precision: Precision) -> float:
        """Return the bytes of all weights at ``precision``.

        Norms, biases and vision towers (``extra_parameters``) count two bytes a value.
        """
        stored = sum(
            count * matrix.values * self.stored_bytes(matrix, precision)
            for count, matrix in self.weights
        )
        return stored + self.extra_parameters * 2.0

    def kv_bytes_per_token(self, precision: Precision) -> float:
        """Return the KV cache bytes of one token in all layers, before parallelism repeats them.

        A layer with a sliding window counts like one that sees everything.
        """
        return sum(
            group.count * group.attention.cache_bytes_per_token(precision) for group in self.layers
        )

    def state_bytes_per_sequence(self) -> float:
        """Return the bytes of recurrent state one sequence holds in all linear layers."""
        return sum(
            group.count * group.attention.state_bytes_per_sequence() for group in self.layers
        )
