"""Linear layers keep a state of fixed size."""

from __future__ import annotations

from budsim.commons.precision import Precision
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.registry import resolve_model


def test_linear_layers_hold_a_state_instead_of_a_cache() -> None:
    """Qwen3-Next: 36 layers of 32 heads x 128 x 128 and 3 columns of 8,192 channels."""
    architecture = resolve_model("Qwen/Qwen3-Next-80B-A3B-Instruct")
    assert architecture.state_bytes_per_sequence() == 2 * 36 * (32 * 128 * 128 + 3 * 8192)
    assert architecture.kv_bytes_per_token(Precision.BF16) == 12 * 2 * 2 * 256 * 2
    assert {group.attention.heads for group in architecture.layers} == {16, 32}


def test_a_state_is_kept_in_the_format_its_configuration_asks_for() -> None:
    """Qwen3.5 keeps its 45 layers of 64 x 128 x 128 states in fp32, the columns in 16 bit."""
    assert resolve_model("Qwen/Qwen3.5-397B-A17B").state_bytes_per_sequence() == 45 * (
        64 * 128 * 128 * 4 + 3 * 12288 * 2
    )


def test_models_of_linear_layers_only_still_have_heads() -> None:
    """Tensor parallelism divides the linear heads of a model that has no other attention."""
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "hybrid_override_pattern": "M-",
        "intermediate_size": 64,
    }
    attention = {
        "num_attention_heads": 4,
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "ssm_state_size": 8,
    }
    rest = {
        "model_type": "nemotron_h",
        "conv_kernel": 4,
        "vocab_size": 100,
        "max_position_embeddings": 64,
    }
    architecture = architecture_from_config("linear", {**config, **attention, **rest})
    assert {group.attention.heads for group in architecture.layers} == {8}
    assert architecture.kv_bytes_per_token(Precision.BF16) == 0
