"""How an engine reads tool calls and reasoning out of a model's text, and with which template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from budsim.engine_ops.base import Metadata
from budsim.engine_ops.shared.families import family_of
from budsim.engine_ops.shared.images import template_path
from budsim.engine_ops.shared.tables import load_table
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.architecture import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsers:
    """Names of an engine's parsers and template for one model, None where it needs none."""

    tool: str | None = None
    reasoning: str | None = None
    chat_template: str | None = None


def metadata_of(
    engine: str, version: str, architecture: Architecture, kind: DeviceKind
) -> Metadata:
    """Return what callers deploy beside the command on hardware of ``kind``.

    Unknown families support neither LoRA nor pipelines.
    """
    family = family_of(engine, architecture)
    parsers = _parsers_of(engine, architecture)
    return Metadata(
        engine_version=version,
        tool_calling_parser_type=parsers.tool,
        reasoning_parser_type=parsers.reasoning,
        architecture_family=architecture.family,
        chat_template=template_path(engine, kind, parsers.chat_template),
        supports_lora=family is not None and family.lora,
        supports_pipeline_parallelism=family is not None and family.pipeline_parallel,
    )


def _parsers_of(engine: str, architecture: Architecture) -> Parsers:
    """Return the first row of the table whose family and pattern of the model's name fit."""
    # One class serves models that write tool calls differently: the name tells them apart.
    model = architecture.model_id.lower()
    for family, pattern, parsers in _rows(engine):
        if family == architecture.family and re.search(pattern, model):
            return parsers
    return Parsers()


@cache
def _rows(engine: str) -> tuple[tuple[str, str, Parsers], ...]:
    return tuple(
        (
            entry["family"],
            entry["model"],
            Parsers(
                tool=entry["tool"],
                reasoning=entry["reasoning"],
                chat_template=entry["chat_template"],
            ),
        )
        for entry in load_table(engine, "parsers")
    )
