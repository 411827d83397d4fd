"""Weights of 16-bit models against the sizes their checkpoints state."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.registry import resolve_model

CHECKPOINTS = yaml.safe_load(
    (Path(__file__).parent / "checkpoints.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda found: found["model"])
def test_weights_are_those_of_the_checkpoint(checkpoint: dict[str, object]) -> None:
    """Every tensor is counted: most agree to the byte, fine-tunes have a few words more."""
    architecture = resolve_model(str(checkpoint["model"]))
    loaded = int(str(checkpoint["bytes"])) - int(str(checkpoint.get("unloaded", 0)))
    assert architecture.weight_bytes(architecture.native_precision) == pytest.approx(
        loaded, rel=5e-5
    )


def test_weights_of_a_bitsandbytes_checkpoint() -> None:
    """IrfanUruchi/Llama-2-13B-Computer-Engineering- at 42888e50: 7,201,770,923 bytes."""
    config = {
        "model_type": "llama",
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "max_position_embeddings": 2048,
        "vocab_size": 32000,
        "torch_dtype": "float16",
        "quantization_config": {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_use_double_quant": True,
        },
    }
    architecture = architecture_from_config("Llama-2-13B in 4 bit", config)
    assert architecture.weight_bytes(architecture.native_precision) == pytest.approx(
        7_201_770_923, rel=1e-4
    )
