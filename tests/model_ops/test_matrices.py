"""Weight matrices know their size and what they are for."""

from __future__ import annotations

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.matrices import OUTER_ROLES, Matrix, MatrixRole, Shard, projection
from tests.model_ops.configs import llama


def test_copies_count_each() -> None:
    """Eight experts of 64 x 32 are 16,384 weights."""
    experts = Matrix(
        name="expert_up",
        role=MatrixRole.EXPERT,
        inputs=64,
        outputs=32,
        shard=Shard.COLUMN,
        copies=8,
    )
    assert experts.values == 16_384


def test_a_projection_belongs_to_attention() -> None:
    """``qkv`` fuses three projections, and 64 of its outputs belong to KV heads."""
    qkv = projection("qkv", 64, 128, Shard.COLUMN, kv_outputs=64, parts=3)
    assert (qkv.role, qkv.kv_outputs, qkv.parts) == (MatrixRole.ATTENTION, 64, 3)


def test_outer_roles_are_those_outside_attention_and_feed_forward() -> None:
    """Quantizers leave the token table, the head and the router in 16 bit."""
    model = architecture_from_config("small", llama())
    outer = {matrix.name for _, matrix in model.weights if matrix.role in OUTER_ROLES}
    assert outer == {"embedding", "lm_head"}
    assert MatrixRole.ROUTER in OUTER_ROLES
