"""A small config.json that tests change field by field."""

from __future__ import annotations

from typing import Any


def llama(**changes: object) -> dict[str, Any]:
    """Return a small Llama: 2 layers of width 64 and 128, 4 heads of 16, 2 KV heads, 100 tokens."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 100,
        "max_position_embeddings": 2048,
    }
    return {key: value for key, value in {**config, **changes}.items() if value is not ...}


# Attention 64x64 + 2x(64x32) + 64x64, feed-forward 3x(64x128), two norms of 64.
LAYER = 4096 + 4096 + 4096 + 24576 + 128
