"""Models, devices and replica configurations the engine tests share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from budsim.commons.precision import Precision
from budsim.engine_ops.base import ReplicaConfig
from budsim.engine_ops.shared.arguments import Argument, read_arguments, shipped_arguments
from budsim.hardware_ops.device import Device
from budsim.hardware_ops.device_names import find_device
from budsim.model_ops.registry import resolve_model

GIB = 2**30
PARSER_LISTS = Path(__file__).resolve().parents[3] / "shared" / "engines"


def device(name: str) -> Device:
    """Return the catalog's device of that name."""
    found = find_device(name)
    assert found is not None, name
    return found


def real_arguments(engine: str) -> Mapping[str, Argument]:
    """Return the real parser's arguments if their list is beside the checkout, else our copy."""
    path = PARSER_LISTS / f"{engine}_arguments.json"
    if not path.exists():
        return shipped_arguments(engine)
    return read_arguments(json.loads(path.read_text(encoding="utf-8"))["args"])


def replica(on: str, **changes: object) -> ReplicaConfig:
    """Return a replica on one device of that name, with ``changes``."""
    fields: dict[str, object] = {
        "device": device(on),
        "tp": 1,
        "weight_precision": Precision.BF16,
        "kv_precision": Precision.BF16,
        "concurrency": 8,
        "context_tokens": 2048,
        "kv_space_bytes": 8.0 * GIB,
    }
    return ReplicaConfig(**{**fields, **changes})  # type: ignore[arg-type]


LLAMA = resolve_model("meta-llama/Llama-3.1-8B-Instruct")
"""Llama 3.1 8B: 32 heads, 8 key-value heads, 32 layers."""

MIXTURE = resolve_model("Qwen/Qwen3-30B-A3B")
"""Qwen3 30B: 128 experts, 32 heads, 4 key-value heads."""

EMBEDDING = resolve_model("BAAI/bge-large-en-v1.5")
"""BGE large: an encoder of 512 tokens."""
