"""Translates the fields of families that use names of their own into the common names.

`COMMON_NAMES` gives the common name of each field, and `DEFAULTS` the values that hold where a
config.json states none, by ``model_type``. Both follow vLLM 0.33 ``models/`` and transformers 5.24
``configuration_*.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from budsim.model_ops.config_reader import ConfigReader

COMMON_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "aria_text": {"moe_topk": "num_experts_per_tok"},
    "afmoe": {
        "num_dense_layers": "first_k_dense_replace",
        "global_attn_every_n_layers": "sliding_window_pattern",
    },
    "exaone_moe": {"first_last_k_dense_replace": "first_k_dense_replace"},
    "hy_v3": {"expert_hidden_dim": "moe_intermediate_size"},
    "lfm2": {"block_ff_dim": "intermediate_size", "tie_embedding": "tie_word_embeddings"},
    "lfm2_moe": {
        "num_dense_layers": "first_k_dense_replace",
        "tie_embedding": "tie_word_embeddings",
    },
    "longcat_flash": {
        "num_layers": "num_hidden_layers",
        "ffn_hidden_size": "intermediate_size",
        "expert_ffn_hidden_size": "moe_intermediate_size",
        "moe_topk": "num_experts_per_tok",
    },
    "longcat_flash_ngram": {
        "num_layers": "num_hidden_layers",
        "ffn_hidden_size": "intermediate_size",
        "expert_ffn_hidden_size": "moe_intermediate_size",
        "moe_topk": "num_experts_per_tok",
    },
    "mamba2": {
        "num_heads": "mamba_num_heads",
        "head_dim": "mamba_head_dim",
        "state_size": "ssm_state_size",
    },
    "pangu_ultra_moe": {
        "attention_q_lora_dim": "q_lora_rank",
        "attention_kv_lora_dim": "kv_lora_rank",
        "attention_qk_dim": "qk_nope_head_dim",
        "attention_qk_rope_dim": "qk_rope_head_dim",
        "attention_v_dim": "v_head_dim",
        "num_dense_layers": "first_k_dense_replace",
        "num_routed_experts": "n_routed_experts",
        "num_shared_experts": "n_shared_experts",
    },
    "plamo3": {"window_size": "sliding_window"},
    "step3_text": {
        "max_position_embedding": "max_position_embeddings",
        "share_expert_dim": "shared_expert_intermediate_size",
    },
    "inkling_text": {
        "model_max_length": "max_position_embeddings",
        "sliding_window_size": "sliding_window",
    },
}

DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    "beam": {"first_k_dense_replace": 3},
    "falcon_mamba": {"max_position_embeddings": 1_048_576},
    "hy_v3": {"first_k_dense_replace": 1},
    "laguna": {"first_k_dense_replace": 1},
    "longcat_flash": {"intermediate_size": 12288},
    "mamba": {"max_position_embeddings": 1_048_576},
    "mamba2": {"max_position_embeddings": 1_048_576},
    "olmo_hybrid": {"attn_output_gate": False},
    "param2moe": {"first_k_dense_replace": 1},
    "sarvam_mla": {"first_k_dense_replace": 1},
    "sarvam_moe": {"first_k_dense_replace": 1},
    "step3_text": {"num_key_value_heads": 1},
}
# Mamba models have no positions: 1,048,576 tokens stand for "no limit of their own".


def with_common_names(config: ConfigReader) -> ConfigReader:
    """Return the config with common names and defaults added; a common name already there wins."""
    model_type = config.text("model_type")
    translated = {
        common: config.values[own]
        for own, common in COMMON_NAMES.get(model_type, {}).items()
        if config.has(own) and not config.has(common)
    }
    found = config.with_values(translated)
    missing = {
        field: value
        for field, value in DEFAULTS.get(model_type, {}).items()
        if not found.has(field)
    }
    return found.with_values(missing)
