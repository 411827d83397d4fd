"""Attention is read with the gates and latents of its family."""

from __future__ import annotations

import pytest

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.registry import resolve_model
from tests.model_ops.configs import llama


def test_a_shared_query_latent_is_projected_twice() -> None:
    """Step-3: 7,168 -> 2,048 -> 64 x 256 for queries, one key and value head of 256."""
    matrices = {m.name: m for _, m in resolve_model("stepfun-ai/step3").weights}
    assert (matrices["q_kv_down"].inputs, matrices["q_kv_down"].outputs) == (7168, 2048 + 512)
    assert (matrices["q_up"].inputs, matrices["q_up"].outputs) == (2048, 64 * 256)


@pytest.mark.parametrize(
    ("gating", "weights"), [("per-head", 64 * 4), ("per-element", 64 * 64), (False, 0)]
)
def test_laguna_gates_heads_or_outputs(gating: object, weights: int) -> None:
    """One gate for each of 4 heads, one for each of 64 outputs, or none."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = llama(model_type="laguna", first_k_dense_replace=2, **experts)
    plain = architecture_from_config("plain", {**config, "gating": False}).parameters
    gated = architecture_from_config("gated", {**config, "gating": gating}).parameters
    assert gated - plain == 2 * weights
