"""Weight matrices: their sizes, what they are for, and how tensor parallelism splits them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Shard(StrEnum):
    """How tensor parallelism splits a matrix: by output column, by input row, or not at all."""

    # A column split before a row split needs one all-reduce for both matrices.
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


# Roles that quantizers leave in 16 bit.
OUTER_ROLES = frozenset({MatrixRole.EMBEDDING, MatrixRole.HEAD, MatrixRole.ROUTER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A weight matrix of ``inputs`` x ``outputs`` values.

    Attributes
    ----------
    name : str
        Short name within a layer (``qkv``, ``expert_up``).
    role : MatrixRole
        What the matrix is for.
    inputs, outputs : int
        Number of input and output values.
    shard : Shard
        How tensor parallelism splits it.
    copies : int
        Number of equal matrices side by side: one for each expert.
    kv_outputs : int
        Outputs that belong to key and value heads. Tensor parallelism repeats them once it
        exceeds the number of KV heads.
    parts : int
        Number of the checkpoint's projections that engines fuse into this matrix (3 for ``qkv``).
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


def projection(
    name: str, inputs: int, outputs: int, shard: Shard, kv_outputs: int = 0, parts: int = 1
) -> Matrix:
    """Return a matrix of an attention layer."""
    return Matrix(
        name=name,
        role=MatrixRole.ATTENTION,
        inputs=inputs,
        outputs=outputs,
        shard=shard,
        kv_outputs=kv_outputs,
        parts=parts,
    )
