"""LLM Compressor's presets: the format each leaves weights in and the methods that reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from budsim.commons.precision import Precision
from budsim.engine_ops.shared.tables import load_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One preset.

    Attributes
    ----------
    precision : Precision
        Format it leaves weights in.
    methods : tuple of str
        Methods that reach it, the best first.
    group : int
        Values of a row that share a scale; 0 where a whole row does.
    """

    name: str
    precision: Precision
    methods: tuple[str, ...]
    group: int = 0


@cache
def schemes() -> Mapping[str, Scheme]:
    """Return LLM Compressor's presets by name."""
    return {
        entry["scheme"]: Scheme(
            name=entry["scheme"],
            precision=Precision(entry["precision"]),
            methods=tuple(entry["methods"]),
            group=entry["group"],
        )
        for entry in load_table("llmc", "schemes")
    }
