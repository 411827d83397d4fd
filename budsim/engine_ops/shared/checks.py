"""Ranges an engine's argument parser leaves unchecked, checked before anything is emitted."""

from __future__ import annotations

from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.engine_ops.base import ReplicaConfig
from budsim.engine_ops.limits import LORA_RANKS
from budsim.engine_ops.shared.sizes import tp_sizes, why_not_tp
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.architecture import Architecture

_AT_LEAST_ONE: Final = (
    "tp",
    "pp",
    "ep",
    "dp",
    "concurrency",
    "context_tokens",
    "max_num_seqs",
    "max_num_batched_tokens",
)
# Tensor-parallel sizes a message names: those of one node.
_LARGEST_TP_NAMED: Final = 8


def check_config(architecture: Architecture, config: ReplicaConfig) -> None:
    """Check the ranges an engine checks only when it starts, or not at all.

    Raises
    ------
    InvalidInput
        Naming the field of `ReplicaConfig` and what would be right.
    """
    share = config.memory_fraction
    _require(0.0 < share <= 1.0, "memory_fraction", share, "above 0, at most 1")
    for field in _AT_LEAST_ONE:
        value = getattr(config, field)
        _require(value >= 1, field, value, "at least 1")
    limit, context = architecture.max_context_tokens, config.context_tokens
    _require(context <= limit, "context_tokens", context, f"at most the model's {limit}")
    budget = config.max_num_batched_tokens
    _require(
        config.chunked_prefill or budget >= context,
        "max_num_batched_tokens",
        budget,
        f"at least the context of {context} tokens when prompts are not cut",
    )
    _check_parallelism(architecture, config)


def check_adapters(count: int, rank: int) -> None:
    """Check how many LoRA adapters are asked for, and of which rank.

    Raises
    ------
    InvalidInput
        Naming ``max_loras`` or ``max_lora_rank``.
    """
    _require(count >= 1, "max_loras", count, "at least 1")
    known = ", ".join(map(str, LORA_RANKS))
    _require(rank in LORA_RANKS, "max_lora_rank", rank, f"one of {known}")


def check_kv_space(config: ReplicaConfig) -> None:
    """Check that a CPU replica was given memory for its KV cache.

    Raises
    ------
    InvalidInput
        When it was given less than one GiB, the unit vLLM is told the size in.
    """
    if config.device.kind is DeviceKind.CPU and config.kv_space_bytes < GIB:
        problem = f"{config.kv_space_bytes:g} is too little"
        raise InvalidInput("kv_space_bytes", problem, "at least 1 GiB on CPU")


def _check_parallelism(architecture: Architecture, config: ReplicaConfig) -> None:
    tp, pp, ep, dp = config.tp, config.pp, config.ep, config.dp
    _require(tp % ep == 0, "ep", ep, f"a divisor of tp {tp}")
    problem = why_not_tp(architecture, tp, ep)
    if problem:
        legal = tp_sizes(architecture, _LARGEST_TP_NAMED, spreads_experts=ep > 1)
        raise InvalidInput("tp", problem, f"one of {legal}")
    layers = architecture.layer_count
    _require(pp <= layers, "pp", pp, f"at most {layers} layers")
    _require(tp % dp == 0, "dp", dp, f"a divisor of tp {tp}")
    is_moe = architecture.is_moe
    _require(dp == 1 or is_moe, "dp", dp, "1 for a dense model: use more replicas")
    _require(ep == 1 or is_moe, "ep", ep, "1 for a model without experts")


def _require(holds: bool, field: str, value: object, expected: str) -> None:
    if not holds:
        raise InvalidInput(field, f"{value!r} is out of range", expected)
