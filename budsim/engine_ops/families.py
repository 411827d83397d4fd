"""What an engine can do with an architecture family: LoRA, pipelines, pooling, parsers, templates, and which image runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from budsim.commons.catalog import load_catalog
from budsim.commons.constants import ENGINE_COMPATIBILITY_MAPPING
from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import Metadata, ReplicaConfig
from budsim.engine_ops.kernels import Requirement, requirement_from
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What one engine does with one architecture family; ``pooling`` families can answer with vectors and scores.

    ``expert_parallel``: experts may be spread over ranks; ``dp_attention``: ranks may hold attention whole and share experts;
    ``requirement``: what the kernels of its attention demand of a device.
    """

    name: str
    lora: bool
    pipeline_parallel: bool
    expert_parallel: bool
    dp_attention: bool
    pooling: bool
    requirement: Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsers:
    """How one engine reads tool calls and reasoning out of a model's text, and the template it needs for tools."""

    tool: str | None = None
    reasoning: str | None = None
    chat_template: str | None = None


def family_of(engine: str, architecture: Architecture) -> Family | None:
    """Return what ``engine`` can do with the architecture's family; None when it does not know the family."""
    return _families(engine).get(architecture.family)


def spreads_experts(engine: str, architecture: Architecture) -> bool:
    """Return whether ``engine`` can spread the experts of the architecture's family over ranks."""
    family = family_of(engine, architecture)
    return family is not None and family.expert_parallel


def ranks_attention(engine: str, architecture: Architecture) -> bool:
    """Return whether ``engine`` can hold the attention of the architecture's family on ranks that share the experts."""
    family = family_of(engine, architecture)
    return family is not None and family.dp_attention


def scores_by_tokens(architecture: Architecture) -> bool:
    """Return whether a reranker's score is how likely it says yes rather than no: Qwen3-Reranker is published as a text model."""
    return "qwen3-reranker" in architecture.model_id.lower()


def check_abilities(engine: str, architecture: Architecture, config: ReplicaConfig) -> None:
    """Check that ``engine`` does with the architecture's family what the configuration asks: adapters, experts, attention.

    Raises
    ------
    InvalidInput
        Naming ``max_loras``, ``ep`` or ``dp``.
    """
    family = family_of(engine, architecture)
    if config.max_loras and not (family and family.lora):
        raise InvalidInput(
            "max_loras", f"{engine} serves no LoRA adapters of {architecture.family}", "0"
        )
    if config.ep > 1 and not spreads_experts(engine, architecture):
        raise InvalidInput("ep", f"{engine} does not spread experts of {architecture.family}", "1")
    if config.dp > 1 and not ranks_attention(engine, architecture):
        raise InvalidInput("dp", f"{engine} has no attention ranks for {architecture.family}", "1")


def why_not_family(
    engine: str, version: str, architecture: Architecture, device: Device
) -> str | None:
    """Return why ``engine`` does not serve the family on ``device``, or None when it does."""
    kinds, kind = ENGINE_COMPATIBILITY_MAPPING[engine], device.kind
    if kind not in kinds:
        return f"no build of {engine} {version} for {kind} devices is known here"
    if architecture.family in kinds[kind]:
        return _why_not_pooling(engine, version, architecture) or _why_not_attention(
            engine, version, architecture, device
        )
    elsewhere = sorted(
        other for other, families in kinds.items() if architecture.family in families
    )
    where = f", only on {', '.join(elsewhere)}" if elsewhere else ""
    return f"{engine} {version} does not serve {architecture.family} on {kind}{where}"


def _why_not_pooling(engine: str, version: str, architecture: Architecture) -> str | None:
    family = family_of(engine, architecture)
    if not architecture.is_embedding or (family is not None and family.pooling):
        return None
    return f"{engine} {version} answers with text only of {architecture.family}, not with embeddings or scores"


def _why_not_attention(
    engine: str, version: str, architecture: Architecture, device: Device
) -> str | None:
    family = family_of(engine, architecture)
    if family is None or family.requirement.met_by(device):
        return None
    return f"{engine} {version} has no kernels for the attention of {family.name} on {device.name} ({device.generation})"


def metadata_of(engine: str, version: str, architecture: Architecture) -> Metadata:
    """Return what callers deploy beside the command; unknown families support neither LoRA nor pipelines."""
    family = family_of(engine, architecture)
    parsers = _parsers_of(engine, architecture)
    return Metadata(
        engine_version=version,
        tool_calling_parser_type=parsers.tool,
        reasoning_parser_type=parsers.reasoning,
        architecture_family=architecture.family,
        chat_template=parsers.chat_template,
        supports_lora=family is not None and family.lora,
        supports_pipeline_parallelism=family is not None and family.pipeline_parallel,
    )


def image_for(engine: str, version: str, device: Device) -> str:
    """Return the container image, without registry host, that runs ``engine`` on ``device``.

    Raises
    ------
    InvalidInput
        When the engine has none for the device.
    """
    for requirement, image in _images(engine, device.kind):
        if requirement.met_by(device):
            return image.format(version=version)
    raise InvalidInput(
        "device", f"{engine} has no image for {device.name}", "a device the engine has a build for"
    )


def _parsers_of(engine: str, architecture: Architecture) -> Parsers:
    model = architecture.model_id.lower()
    for family, pattern, parsers in _parser_rules(engine):
        if family == architecture.family and re.search(pattern, model):
            return parsers
    return Parsers()


_ABILITIES = ("lora", "pipeline_parallel", "expert_parallel", "dp_attention", "pooling")


@cache
def _families(engine: str) -> Mapping[str, Family]:
    entries = load_catalog("budsim.engine_ops", f"catalog/{engine}_families.json")
    return {entry["family"]: _family(entry) for entry in entries}


def _family(entry: Mapping[str, Any]) -> Family:
    abilities = {name: entry[name] for name in _ABILITIES}
    return Family(name=entry["family"], requirement=requirement_from(entry), **abilities)


@cache
def _parser_rules(engine: str) -> tuple[tuple[str, str, Parsers], ...]:
    entries = load_catalog("budsim.engine_ops", "catalog/parsers.json")
    return tuple(
        (
            entry["family"],
            entry["model"],
            Parsers(
                tool=entry.get(f"{engine}_tool"),
                reasoning=entry.get(f"{engine}_reasoning"),
                chat_template=entry.get(f"{engine}_template"),
            ),
        )
        for entry in entries
    )


@cache
def _images(engine: str, kind: DeviceKind) -> tuple[tuple[Requirement, str], ...]:
    entries = load_catalog("budsim.engine_ops", "catalog/images.json")
    return tuple(
        (requirement_from(entry), entry["image"])
        for entry in entries
        if (entry["engine"], entry["kind"]) == (engine, kind)
    )
