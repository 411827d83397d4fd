"""What an engine can do with an architecture family: LoRA, pipelines, experts, pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from budsim.commons.constants import ENGINE_COMPATIBILITY_MAPPING
from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops.base import ArgumentValue, ReplicaConfig
from budsim.engine_ops.shared.kernels import Requirement, requirement_from
from budsim.engine_ops.shared.tables import load_table
from budsim.hardware_ops.device import Device
from budsim.model_ops.architecture import Architecture

_ABILITIES: Final = ("lora", "pipeline_parallel", "expert_parallel", "dp_attention", "pooling")


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyCache:
    """KV cache format an engine picks for a family by itself (``--kv-cache-dtype auto``).

    ``requirement`` is what a device must have for it; ``only`` whether there is no other.
    """

    precision: Precision
    requirement: Requirement
    only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What one engine does with one architecture family.

    Attributes
    ----------
    lora, pipeline_parallel : bool
        Whether its class serves adapters and runs in stages.
    expert_parallel : bool
        Whether experts may be spread over ranks.
    dp_attention : bool
        Whether ranks may hold attention whole and share experts.
    pooling : bool
        Whether it can answer with vectors and scores.
    requirement : Requirement
        What the kernels of its attention require of a device.
    float16 : bool
        Whether the engine serves it in float16; where not, devices without bf16 use float32.
    kv_cache : FamilyCache, optional
        Cache format the engine picks for the family by itself.
    min_batched_tokens : int
        Least tokens of a step the engine starts with; 0 where any number will do.
    remote_code : bool
        Whether its configuration is code in the checkpoint's repository, which the engine runs only
        with ``--trust-remote-code``: neither engine nor its transformers (below 5.20) has it.
    """

    name: str
    lora: bool
    pipeline_parallel: bool
    expert_parallel: bool
    dp_attention: bool
    pooling: bool
    requirement: Requirement
    float16: bool = True
    kv_cache: FamilyCache | None = None
    min_batched_tokens: int = 0
    remote_code: bool = False


def family_of(engine: str, architecture: Architecture) -> Family | None:
    """Return what ``engine`` can do with the family; None when it does not know the family."""
    return _families(engine).get(architecture.family)


def spreads_experts(engine: str, architecture: Architecture) -> bool:
    """Return whether ``engine`` can spread the family's experts over ranks."""
    family = family_of(engine, architecture)
    return family is not None and family.expert_parallel


def splits_attention(engine: str, architecture: Architecture) -> bool:
    """Return whether ``engine`` can hold the family's attention on ranks that share experts."""
    family = family_of(engine, architecture)
    return family is not None and family.dp_attention


def serves_float16(engine: str, architecture: Architecture) -> bool:
    """Return whether ``engine`` serves the family in float16."""
    family = family_of(engine, architecture)
    return family is None or family.float16


def min_batched_tokens(engine: str, architecture: Architecture) -> int:
    """Return the least tokens of a step ``engine`` starts the family with; 0 for any."""
    family = family_of(engine, architecture)
    return family.min_batched_tokens if family else 0


def scores_by_tokens(architecture: Architecture) -> bool:
    """Return whether a reranker's score is how likely it answers yes rather than no.

    Qwen3-Reranker is published as a text model.
    """
    return "qwen3-reranker" in architecture.model_id.lower()


def code_arguments(engine: str, architecture: Architecture) -> dict[str, ArgumentValue]:
    """Return the flag that lets the engine run the code of a checkpoint whose family needs it."""
    family = family_of(engine, architecture)
    return {"trust-remote-code": True} if family is not None and family.remote_code else {}


def check_abilities(engine: str, architecture: Architecture, config: ReplicaConfig) -> None:
    """Check that ``engine`` can do with the family what the configuration asks.

    Raises
    ------
    InvalidInput
        Naming ``max_loras``, ``ep`` or ``dp``.
    """
    family = family_of(engine, architecture)
    if config.max_loras and not (family and family.lora):
        problem = f"{engine} serves no LoRA adapters of {architecture.family}"
        raise InvalidInput("max_loras", problem, "0")
    if config.ep > 1 and not spreads_experts(engine, architecture):
        problem = f"{engine} does not spread experts of {architecture.family}"
        raise InvalidInput("ep", problem, "1")
    if config.dp > 1 and not splits_attention(engine, architecture):
        problem = f"{engine} has no attention ranks for {architecture.family}"
        raise InvalidInput("dp", problem, "1")


def why_not_family(
    engine: str, version: str, architecture: Architecture, device: Device
) -> str | None:
    """Return why ``engine`` does not serve the family on ``device``, or None when it does."""
    kinds, kind = ENGINE_COMPATIBILITY_MAPPING[engine], device.kind
    if kind not in kinds:
        return f"no build of {engine} {version} for {kind} devices is known here"
    if architecture.family in kinds[kind]:
        pooling = _why_not_pooling(engine, version, architecture)
        return pooling or _why_not_attention(engine, version, architecture, device)
    # A reader who learns where it does run can ask for such a device.
    others = (other for other, families in kinds.items() if architecture.family in families)
    elsewhere = ", ".join(sorted(others))
    where = f", only on {elsewhere}" if elsewhere else ""
    return f"{engine} {version} does not serve {architecture.family} on {kind}{where}"


def _why_not_pooling(engine: str, version: str, architecture: Architecture) -> str | None:
    family = family_of(engine, architecture)
    if not architecture.is_embedding or (family is not None and family.pooling):
        return None
    name = architecture.family
    return f"{engine} {version} answers with text only of {name}, not with embeddings or scores"


def _why_not_attention(
    engine: str, version: str, architecture: Architecture, device: Device
) -> str | None:
    family = family_of(engine, architecture)
    if family is None or family.requirement.met_by(device):
        return None
    where = f"{device.name} ({device.generation})"
    return f"{engine} {version} has no kernels for the attention of {family.name} on {where}"


@cache
def _families(engine: str) -> Mapping[str, Family]:
    return {entry["family"]: _family(entry) for entry in load_table(engine, "families")}


def _family(entry: Mapping[str, Any]) -> Family:
    abilities = {name: entry[name] for name in _ABILITIES}
    return Family(
        name=entry["family"],
        requirement=requirement_from(entry),
        float16=entry.get("float16", True),
        kv_cache=_family_cache(entry.get("kv_cache")),
        min_batched_tokens=entry.get("min_batched_tokens", 0),
        remote_code=entry.get("remote_code", False),
        **abilities,
    )


def _family_cache(entry: Mapping[str, Any] | None) -> FamilyCache | None:
    if entry is None:
        return None
    return FamilyCache(
        precision=Precision(entry["precision"]),
        requirement=requirement_from(entry),
        only=entry.get("only", False),
    )
